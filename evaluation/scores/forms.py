"""How antibodies enter a score, declared by the fitted score itself: evaluation.effects can then take each out again.

Two families. A fitted score with antibodies has a property `form`, which is one of them. c is the cosine between the
image as the score sees it (`points`) and an antibody a_j.

RepulsionForm, max-type and sum-type:

    S(x) = base(x) - weight max_j g_j(x)      or   base(x) - weight sum_j g_j(x)
    g_j(x) = c(x, a_j) - near(x) - radius_j

If `silent`, g_j is 0 where that is not above 0, and where j guards another class than x's nearest. A sum is for those.

SoftmaxForm, sum-type in the exponent, over groups of antibodies:

    S(x) = mean over groups g of (e^peak(x) - beta max_{j in g} e^{l_j(x)}) / (e^known(x) + sum_{j in g} e^{l_j(x)})
    l_j(x) = c(x, a_j) / temperature

Without any antibody the scores are base(x) and e^(peak(x) - known(x)).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from evaluation.features import IntArray
from evaluation.scores.base import Floats

EVERY_CLASS = -1
"""The guard of an antibody that acts whatever the nearest class."""

Combine = Literal["max", "sum"]


class RepelledImages(NamedTuple):
    """What a RepulsionForm needs of b images: `points` (b, d), `base` and `near` (b,), `nearest` (b,) class index."""

    points: Floats
    base: Floats
    near: Floats
    nearest: IntArray


@dataclass(frozen=True, eq=False, kw_only=True)
class RepulsionForm:
    """Max-type or sum-type; see the module.

    `ids` and the rows of `antibodies` (A, d) and `radii` (A,) are in the order of the bank; `guards` (A,) is the class
    each acts on, EVERY_CLASS for all of them. `images` takes a block of images (b, d) in float64.
    """

    ids: tuple[str, ...]
    antibodies: Floats
    radii: Floats
    guards: IntArray
    weight: float
    combine: Combine
    silent: bool
    images: Callable[[Floats], RepelledImages]


class SoftmaxImages(NamedTuple):
    """What a SoftmaxForm needs of b images: `points` (b, d), and the logarithms `peak` <= `known` (b,)."""

    points: Floats
    peak: Floats
    known: Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class SoftmaxForm:
    """Softmax over groups; see the module. `group` (A,) from 0 to G - 1, all of one size, or -1: not used."""

    ids: tuple[str, ...]
    antibodies: Floats
    group: IntArray
    temperature: float
    beta: float
    images: Callable[[Floats], SoftmaxImages]


Form = RepulsionForm | SoftmaxForm


@runtime_checkable
class HasForm(Protocol):
    """A fitted score that says how antibodies enter it."""

    @property
    def form(self) -> Form:
        """How antibodies enter the score."""
        ...

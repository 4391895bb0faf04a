"""What every score is: parameters that are fitted on a Space, and a fitted score that ranks images.

    score = make_score("mcm", temperature=1.0)     # evaluation.scores.registry
    fitted = score.fit(space)
    fitted.score(features)                         # (n,) float64, higher = more in-distribution

A score is one frozen dataclass of parameters (pydantic checks their values) and one `FittedScore`. It works on float32
embeddings in float64, block by block: memory does not grow with the number of images.

A fitted score with antibodies declares how they enter it, so that evaluation.effects.antibody_effects can take each out
again: its property `form` is one of two. c is the cosine between the image as the score sees it (`points`) and an
antibody a_j.

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

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from pydantic import ConfigDict

from evaluation.space import Space
from immuno_core.arrays import blocks, check_unit_rows, in_blocks, product
from immuno_core.config.methods import Arm
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, FloatArray, Floats, IntArray, LocalRequest, TextEmbedder

EVERY_CLASS = -1
"""The guard of an antibody that acts whatever the nearest class."""
Combine = Literal["max", "sum"]
Choices = Mapping[str, tuple[Any, ...]]
"""Free settings of a score, each with the values that may be chosen, the published one first."""


class RepelledImages(NamedTuple):
    """What a RepulsionForm needs of b images: `points` (b, d), `base` and `near` (b,), `nearest` (b,) class index, and
    `rest` (b,), what antibodies of another form take from the score: with any of these, base - rest is left."""

    points: Floats
    base: Floats
    near: Floats
    nearest: IntArray
    rest: Floats

    def take(self, rows: slice | IntArray, points: Floats) -> RepelledImages:
        """Return some of the images, with these points."""
        return RepelledImages(points, self.base[rows], self.near[rows], self.nearest[rows], self.rest[rows])


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
    """Softmax over groups; see the module. `group` (A,) from 0 to G - 1."""

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


PARAMETERS = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""For the pydantic dataclass of a score's parameters: no text where a number belongs, no unknown name, no NaN."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedScore(ABC):
    """A score ready to rank images. `class_vectors` (K, d) are what it takes the classes to be: texts or prototypes."""

    name: str
    class_vectors: Floats

    @property
    def dim(self) -> int:
        """Dimensions d of the embeddings."""
        return int(self.class_vectors.shape[1])

    @property
    def width(self) -> int:
        """Numbers held per image while scoring; decides how many images a block has."""
        return 2 * len(self.class_vectors) + self.dim

    def score(self, features: FloatArray) -> Floats:
        """Return the scores (n,) of images (n, d), n >= 0.

        Raises SetupError for another d, NaN, rows that are not of unit norm, and a score that gives another shape.
        """
        check_unit_rows(features, what="images to score", dim=self.dim)
        scores = np.empty(len(features))
        for rows in blocks(len(features), self.width):
            block = self._score_block(features[rows].astype(np.float64))
            if np.shape(block) != scores[rows].shape:
                raise SetupError(
                    f"the score '{self.name}' gives an array of shape {np.shape(block)} for {len(scores[rows])} "
                    "images, not one number for each"
                )
            scores[rows] = block
        return scores

    @property
    def chosen(self) -> dict[str, Any]:
        """What fitting chose by a rule, as plain JSON values; shown with the results."""
        return {}

    @property
    def settled(self) -> Score | None:
        """The score with what fitting chose on feedback as given settings; None where it chose nothing there."""
        return None

    @property
    def own_threshold(self) -> float | None:
        """The threshold that its own rule accepts by; None for one that is found on known feedback images."""
        return None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader of its figures has to know of how it was fitted here; shown with the results."""
        return ()

    @property
    def visual_form(self) -> RepulsionForm | None:
        """How visual antibodies enter the score, beside the `form` of those with texts; None without any."""
        return None

    def score_set(self, images: FeatureSet) -> Floats:
        """Return the scores (n,) of an embedded set; a score that needs more than the embeddings finds it there."""
        return self.score(images.features)

    def predict(self, features: FloatArray) -> IntArray:
        """Return the nearest class (n,) of images (n, d) by cosine to `class_vectors`; the first of equals.

        Raises SetupError as `score` does.
        """
        check_unit_rows(features, what="images to classify", dim=self.dim)
        return in_blocks(features, self.width, self._predict_block)

    def _predict_block(self, x: Floats) -> IntArray:
        """Nearest classes (b,) of a block of images (b, d)."""
        nearest: IntArray = product(x, self.class_vectors).argmax(axis=1)
        return nearest

    @abstractmethod
    def _score_block(self, x: Floats) -> Floats:
        """Scores (b,) of a block of images (b, d)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedFunction(FittedScore):
    """A fitted score that is a function from images (b, d) float64 to scores (b,)."""

    function: Callable[[Floats], Floats]

    def _score_block(self, x: Floats) -> Floats:
        return self.function(x)


Fitted = TypeVar("Fitted", bound=FittedScore)


class Score(ABC):
    """A score's parameters; subclasses are frozen dataclasses."""

    name: ClassVar[str]
    uses_bank: ClassVar[bool] = False
    """Whether antibodies change it."""
    uses_feedback: ClassVar[bool] = False
    """Whether it makes choices on images of the feedback split."""
    uses_fit: ClassVar[bool] = True
    """Whether it looks at fit images."""
    choices: ClassVar[Choices] = MappingProxyType({})
    """What of it may be chosen on the feedback (evaluation.scores.choice)."""
    default_arm: ClassVar[Arm] = "bank"
    """Which antibodies it gets where the configuration does not say. Of interest only where it uses a bank."""

    @property
    def templates(self) -> tuple[str, ...] | None:
        """The prompt templates of its paper, for class names and mined words; None: those of the configuration."""
        return None

    def local_request(self, space: Space) -> LocalRequest | None:  # noqa: ARG002 - subclasses use it
        """What it needs of the patches of every image, in `FeatureSet.local`; None for nothing."""
        return None

    def prepared(self, images: FeatureSet, space: Space, embedder: TextEmbedder | None) -> FeatureSet:  # noqa: ARG002
        """Return images with what the score needs of texts made for each of them, in `FeatureSet.local`.

        Raises SetupError where that takes an encoder and there is none.
        """
        return images

    @abstractmethod
    def fit(self, space: Space) -> FittedScore:
        """Return the score fitted on what is known. Deterministic."""

    def fitted(self, space: Space, function: Callable[[Floats], Floats]) -> FittedScore:
        """Return the fitted score that a function is; what `fit` may return where that is all there is to it.

        `function` takes a block of images (b, d) float64, unit rows, and returns their scores (b,), each the same
        whatever images are beside it. The predicted class is that of the nearest class text.
        """
        return FittedFunction(name=self.name, class_vectors=space.texts.astype(np.float64), function=function)

    @property
    def params(self) -> dict[str, Any]:
        """Every parameter with the value in force, defaults included."""
        return asdict(self) if is_dataclass(self) else {}


class FitImages(NamedTuple):
    """The fit images of a space, n >= 1."""

    images: FeatureSet
    labels: IntArray
    """(n,) indices into the classes."""


def fit_images(space: Space, name: str) -> FitImages:
    """Return the fit images for the score of this name. Raises SetupError where the space has none."""
    if space.fit is None or space.fit_labels is None:
        raise SetupError(f"the score '{name}' needs fit images: give [data.fit], or leave this score out")
    return FitImages(space.fit, space.fit_labels)


def held_out(
    space: Space,
    fit: Callable[[Space], Fitted],
    measure: Callable[[Fitted, FeatureSet], Floats],
    known: FeatureSet | None = None,
) -> Floats:
    """Return (n,) what fitted scores say of the known feedback images, each fitted without the image.

    Where these are other images than the fit images that is one fit, on the whole space; else one without each part
    (Feedback.parts). `known` are the images with what `measure` needs of them besides embeddings.
    Raises SetupError for a space without feedback.
    """
    if space.feedback is None:
        raise SetupError("there is no feedback to measure on: give [data.feedback_id], or [data.fit]")
    known = space.feedback.known if known is None else known
    parts = space.feedback.parts
    if parts is None:
        return measure(fit(space), known)
    values = np.empty(len(known))
    for part in np.unique(parts):
        rows = np.flatnonzero(parts == part)
        values[rows] = measure(fit(space.without(int(part))), known.take(rows))
    return values


def log_sum_exp(values: Floats) -> Floats:
    """Return log sum exp over the last axis (b, m) -> (b,), without overflow."""
    top = values.max(axis=-1, keepdims=True)
    total: Floats = np.log(np.exp(values - top).sum(axis=-1)) + top[..., 0]
    return total


def top_probability(cosines: Floats, temperature: float) -> Floats:
    """Return max_k softmax_k(c / T) (b,) of cosines (b, K): the MCM score."""
    top = cosines.max(axis=1, keepdims=True)
    probability: Floats = 1.0 / np.exp((cosines - top) / temperature).sum(axis=1)
    return probability

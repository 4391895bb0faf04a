"""NegLabel (Jiang et al., ICLR 2024, arXiv 2403.20078): known classes against groups of negative labels.

    L(x)   = LSE_k c(x, t_k) / tau                    LSE = log sum exp
    N_g(x) = LSE_{j in group g} c(x, a_j) / tau
    S(x)   = 1/G sum_g sigmoid(L(x) - N_g(x))         higher = more in-distribution

That is the softmax mass of the known classes among themselves and one group, averaged over the groups. Defaults, as in
the authors' code: tau = 0.01, G = 100, groups of equal size after a permutation that is always the same (here it is
drawn by NumPy, seed 0, from the number of antibodies alone), what is left over at the end of the bank dropped, and the
template "The nice {}" for classes and mined nouns. Antibodies are by default mined from a word list
(evaluation.mining), which puts the farthest first, so that what is dropped is among the nearest; the arm "bank" gives
it the configured ones.

With fewer antibodies than groups each is a group of its own: nothing is dropped. Without antibodies there is nothing to
compare with, and the score is 1 for every image. In float64 the score is exactly 1 where L exceeds every N_g by about
37, a difference in cosine of 0.37 at tau = 0.01: an encoder whose cosines spread that far needs a larger tau.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from scipy.special import expit

from evaluation.bank import Bank
from evaluation.features import IntArray
from evaluation.mining import NEGLABEL_TEMPLATE
from evaluation.scores.base import PARAMETERS, FittedScore, Floats, Score, log_sum_exp
from evaluation.scores.forms import SoftmaxForm, SoftmaxImages
from evaluation.space import Space
from immuno.config import Arm

_SEED = 0

# A TOML file has lists, never tuples; each entry must be a text all the same.
Templates = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


@dataclass(frozen=True, config=PARAMETERS)
class NegLabel(Score):
    """Known classes against groups of negative labels. `tau` > 0, `groups` >= 1."""

    name: ClassVar[str] = "neglabel"
    uses_bank: ClassVar[bool] = True
    default_arm: ClassVar[Arm] = "neglabel"
    tau: Annotated[float, Field(gt=0)] = 0.01
    groups: Annotated[int, Field(ge=1)] = 100
    templates: Templates = (NEGLABEL_TEMPLATE,)

    def fit(self, space: Space) -> FittedGrouped:
        """Take the class texts, and put the antibodies into groups."""
        return fit_grouped(space, self.name, tau=self.tau, groups=self.groups)


def fit_grouped(space: Space, name: str, *, tau: float, groups: int) -> FittedGrouped:
    """Return the grouped score under the name of the method that asks for it."""
    return FittedGrouped(
        name=name,
        class_vectors=space.texts.astype(np.float64),
        bank=space.bank,
        antibodies=space.bank.vectors.astype(np.float64),
        group=assign_groups(len(space.bank), groups),
        tau=tau,
    )


def assign_groups(count: int, groups: int) -> IntArray:
    """Return (count,) the group of each antibody, from 0 up; -1 for the last ones, where they fill no group.

    There are min(groups, count) groups of one size. The same for the same two numbers.
    """
    group = np.full(count, -1, dtype=np.int64)
    number = min(groups, count)
    if number:
        size = count // number
        shuffled = np.random.default_rng(_SEED).permutation(number * size)
        group[shuffled] = np.arange(number * size) // size
    return group


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class FittedGrouped(FittedScore):
    """The grouped score; `antibodies` (A, d) are those of `bank`, and `group` (A,) is -1 for those left out."""

    bank: Bank
    antibodies: Floats
    group: IntArray
    tau: float

    @property
    def width(self) -> int:
        """Numbers held per image while scoring."""
        return super().width + 4 * len(self.antibodies)

    @property
    def groups(self) -> int:
        """Number of groups G; 0 without antibodies."""
        return int(self.group.max(initial=-1)) + 1

    @property
    def chosen(self) -> dict[str, Any]:
        """The groups in force, and how many antibodies filled none."""
        return {"groups": self.groups, "dropped": int((self.group < 0).sum())}

    @property
    def form(self) -> SoftmaxForm:
        """Sum-type in the exponent, over groups."""
        return SoftmaxForm(
            ids=self.bank.ids,
            antibodies=self.antibodies,
            group=self.group,
            temperature=self.tau,
            beta=0.0,
            images=self._softmax_images,
        )

    def _softmax_images(self, x: Floats) -> SoftmaxImages:
        known = self._known(x)
        return SoftmaxImages(x, known, known)

    def _known(self, x: Floats) -> Floats:
        """L (b,) of images (b, d)."""
        return log_sum_exp(x @ self.class_vectors.T / self.tau)

    def _score_block(self, x: Floats) -> Floats:
        if not self.groups:
            return np.ones(len(x))
        known = self._known(x)
        by_group = np.argsort(self.group, kind="stable")[int((self.group < 0).sum()) :]
        negative = (x @ self.antibodies.T / self.tau)[:, by_group].reshape(len(x), self.groups, -1)
        share: Floats = expit(known[:, None] - log_sum_exp(negative)).mean(axis=1)
        return share

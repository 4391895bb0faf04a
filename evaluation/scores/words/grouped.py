"""NegLabel's groups with other words or another sum: InterNeg and DNM."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from types import MappingProxyType
from typing import Annotated, ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from evaluation.antibodies.mining import NEGLABEL_TEMPLATE
from evaluation.scores.base import PARAMETERS, Choices, Score, fit_images
from evaluation.scores.negative_labels import FittedGrouped, FittedGroups, Templates, assign_groups
from evaluation.space import Space
from immuno_core.arrays import in_blocks
from immuno_core.config.methods import Arm
from immuno_core.config.numbers import real, whole
from immuno_core.features import Floats, IntArray


@dataclass(frozen=True, config=PARAMETERS)
class InterNeg(Score):
    """InterNeg's words (CVPR 2026, arXiv 2603.02618), its part that needs texts alone, in NegLabel's score.

        base_k = c(t_k, m_k)        m_k the normalised mean of the fit images of class k
        a word n stays iff c(n, m_k) < base_k for every class k; of those the `most` with the largest
        mean_k (base_k - c(n, m_k)) are the negative labels
        S(x)   = 1/G sum_g sigmoid(L(x) - N_g(x))         higher = more in-distribution; see NegLabel

    Words are judged by how far they are from *images* of the known classes. Defaults as in the paper: 2,000 words, G =
    5, T = 0.01; its images are 16 of each class. Its other part looks at the test stream and is not here. Words are
    those of the whole word list (the arm "words"), or the configured bank. A class without fit images has no say.

    `tau` T > 0, `groups` >= 1, `least` >= 1 in a group, `most` >= 1.
    """

    name: ClassVar[str] = "interneg"
    choices: ClassVar[Choices] = MappingProxyType(
        {"tau": (0.01, 0.005, 0.02, 0.05), "groups": (5, 1), "most": (2000, 100, 500)}
    )
    uses_bank: ClassVar[bool] = True
    default_arm: ClassVar[Arm] = "words"
    tau: Annotated[float, real(ge=1e-6)] = 0.01
    groups: Annotated[int, whole(1)] = 5
    least: Annotated[int, whole(1)] = 50
    most: Annotated[int, whole(1)] = 2000
    templates: Templates = (NEGLABEL_TEMPLATE,)

    def fit(self, space: Space) -> FittedGrouped:
        """Choose the words. Raises SetupError without fit images."""
        images, labels = fit_images(space, self.name)
        seen = np.unique(labels)
        sums = np.array([images.features[labels == k].sum(axis=0, dtype=np.float64) for k in seen])
        means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
        bases = np.einsum("ij,ij->i", means, space.texts[seen].astype(np.float64))
        below = in_blocks(space.bank.vectors, 2 * len(seen) + space.dim, lambda n: _below(bases - n @ means.T))
        order: IntArray = np.argsort(-below, kind="stable")
        bank = space.bank.take(order[: min(self.most, int(np.isfinite(below).sum()))])
        return FittedGrouped(
            name=self.name,
            class_vectors=space.texts.astype(np.float64),
            bank=bank,
            antibodies=bank.vectors.astype(np.float64),
            asked=self.groups,
            group=assign_groups(len(bank), self.groups, self.least),
            tau=self.tau,
            usual="2,000 in 5",
        )


_TINY = 1e-300
_ROUNDING = 1e-9
"""A gap of a class's own text is 0 but for that."""


def _below(gaps: Floats) -> Floats:
    """Mean gap (b,) of words with their gaps (b, K); -inf where one is not above 0."""
    mean: Floats = np.where((gaps > _ROUNDING).all(axis=1), gaps.mean(axis=1), -np.inf)
    return mean


@dataclass(frozen=True, config=PARAMETERS)
class Dnm(Score):
    """DNM, debiased negative mining (KDD 2026, arXiv 2605.23797): NegLabel that knows its words may be known things.

        E(x)   = sum_k e^{c(x, t_k) / T},   of a group of Q words: N_g(x) = sum_j e^{c(x, a_j) / T}
        Z_g(x) = E(x) + N_g(x) / tau - (1 - tau) / tau  Q / K  E(x)
        S(x)   = 1/G sum_g E(x) / Z_g(x)                          higher = more in-distribution

    tau is the share of the words that is truly negative: as if a share 1 - tau of them were known classes, whose mean
    is taken off. (The paper divides by K besides, which ranks no image otherwise.) With tau = 1 it is NegLabel's score
    exactly. With few classes to a group Z_g can fall to 0 and below; it is kept at (K + Q) e^{-1/T}, the least that as
    many exponentials can sum to. Defaults as in the paper: T = 0.01, G = 100, tau = 0.5, the authors' for CLIP B/16 and
    L/14 (0.12 for B/32). Words are NegLabel's by default.

    `temperature` T > 0, `tau` in (0, 1], `groups` >= 1, `least` >= 1 in a group.
    """

    name: ClassVar[str] = "dnm"
    uses_fit: ClassVar[bool] = False
    choices: ClassVar[Choices] = MappingProxyType({"tau": (0.5, 0.12, 0.25, 0.75, 1.0), "groups": (100, 10, 1)})
    uses_bank: ClassVar[bool] = True
    default_arm: ClassVar[Arm] = "neglabel"
    temperature: Annotated[float, real(ge=1e-3)] = 0.01
    tau: Annotated[float, real(gt=0, most=1)] = 0.5
    groups: Annotated[int, whole(1)] = 100
    least: Annotated[int, whole(1)] = 50
    templates: Templates = (NEGLABEL_TEMPLATE,)

    def fit(self, space: Space) -> FittedGroups:
        """Take the class texts, and put the words into groups."""
        return _FittedDnm(
            name=self.name,
            class_vectors=space.texts.astype(np.float64),
            bank=space.bank,
            antibodies=space.bank.vectors.astype(np.float64),
            asked=self.groups,
            group=assign_groups(len(space.bank), self.groups, self.least),
            tau=self.temperature,
            share=self.tau,
        )


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _FittedDnm(FittedGroups):
    share: float
    """The paper's tau."""

    def _of_logs(self, known: Floats, negative: Floats) -> Floats:
        sizes, classes = np.bincount(self.group), len(self.class_vectors)
        with np.errstate(over="ignore"):  # far from every class Z is as good as infinite
            z = 1 - (1 - self.share) / self.share * sizes / classes + np.exp(negative - known) / self.share
        least = np.exp(np.log(sizes + classes) - 1 / self.tau - known)
        scores: Floats = (1 / np.maximum(z, np.maximum(least, _TINY))).mean(axis=1)
        return scores

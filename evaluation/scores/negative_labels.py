"""The scores that weigh class texts against negative labels: EOE and its max-logit ablation, NegLabel, CSP."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass as plain_dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from scipy.special import expit

from evaluation.antibodies.mining import CSP_TEMPLATES, NEGLABEL_TEMPLATE
from evaluation.scores.base import PARAMETERS, Choices, FittedScore, Score, SoftmaxForm, SoftmaxImages, log_sum_exp
from evaluation.scores.s_dis import FittedDifference
from evaluation.space import Bank, Space
from immuno_core.arrays import product
from immuno_core.config.methods import Arm
from immuno_core.config.numbers import real, whole
from immuno_core.features import Floats, IntArray


@dataclass(frozen=True, config=PARAMETERS)
class Eoe(Score):
    """EOE, envisioning outlier exposure (Cao et al., ICML 2024, arXiv 2406.00806), and its max-logit ablation.

        p = softmax([c(x, t_1..K), c(x, a_1..A)] / T)
        eoe:            S(x) = max_k p_k - beta max_j p_{K+j}                   higher = more in-distribution
        eoe_max_logit:  S(x) = max_k c(x, t_k) - max_j c(x, a_j)

    T = 1 on raw cosines and beta = 0.25, as in the authors' code. Uses class names and antibodies. Without antibodies
    the terms in a_j are absent: eoe is then MCM, and its ablation the maximum cosine. The ablation is S_DIS with lambda
    = 1 and alpha = 1.

    `temperature` T > 0, `beta` >= 0.
    """

    name: ClassVar[str] = "eoe"
    uses_fit: ClassVar[bool] = False
    choices: ClassVar[Choices] = MappingProxyType(
        {"temperature": (1.0, 0.2, 0.05, 0.01), "beta": (0.25, 0.0, 0.5, 1.0)}
    )
    uses_bank: ClassVar[bool] = True
    temperature: Annotated[float, real(ge=1e-6)] = 1.0
    beta: Annotated[float, real(ge=0)] = 0.25

    def fit(self, space: Space) -> FittedScore:
        """Take the class texts and the antibodies."""
        return FittedSoftmax(
            name=self.name,
            class_vectors=space.texts.astype(np.float64),
            bank=space.bank,
            antibodies=space.bank.vectors.astype(np.float64),
            temperature=self.temperature,
            beta=self.beta,
        )


@dataclass(frozen=True, config=PARAMETERS)
class EoeMaxLogit(Score):
    """The ablation of EOE's paper without softmax. No parameters."""

    name: ClassVar[str] = "eoe_max_logit"
    uses_fit: ClassVar[bool] = False
    uses_bank: ClassVar[bool] = True

    def fit(self, space: Space) -> FittedScore:
        """Take the class texts and the antibodies."""
        return FittedDifference(
            name=self.name,
            class_vectors=space.texts.astype(np.float64),
            bank=space.bank,
            antibodies=space.bank.vectors.astype(np.float64),
            weight=1.0,
        )


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class FittedSoftmax(FittedScore):
    """One softmax over classes and antibodies; `antibodies` (A, d) float64 are those of `bank`."""

    bank: Bank
    antibodies: Floats
    temperature: float
    beta: float

    @property
    def width(self) -> int:
        """Numbers held per image while scoring."""
        return super().width + 2 * len(self.antibodies)

    @property
    def form(self) -> SoftmaxForm:
        """Sum-type in the exponent, with the antibodies as one group."""
        return SoftmaxForm(
            ids=self.bank.ids,
            antibodies=self.antibodies,
            group=np.zeros(len(self.bank), dtype=np.int64),
            temperature=self.temperature,
            beta=self.beta,
            images=self._softmax_images,
        )

    def _softmax_images(self, x: Floats) -> SoftmaxImages:
        known = product(x, self.class_vectors) / self.temperature
        return SoftmaxImages(x, known.max(axis=1), log_sum_exp(known))

    def _score_block(self, x: Floats) -> Floats:
        known = product(x, self.class_vectors) / self.temperature
        negative = product(x, self.antibodies) / self.temperature
        top = np.maximum(known.max(axis=1), negative.max(axis=1, initial=-np.inf))[:, None]
        known, negative = np.exp(known - top), np.exp(negative - top)
        total = known.sum(axis=1) + negative.sum(axis=1)
        scores: Floats = (known.max(axis=1) - self.beta * negative.max(axis=1, initial=0.0)) / total
        return scores


_SEED = 0
_FEW = 1000
"""Negative labels that are far fewer than the authors'."""
# A TOML file has lists, never tuples; each entry must be a text all the same.
Templates = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


@dataclass(frozen=True, config=PARAMETERS)
class NegLabel(Score):
    """NegLabel (Jiang et al., ICLR 2024, arXiv 2403.20078): known classes against groups of negative labels.

        L(x)   = LSE_k c(x, t_k) / tau                    LSE = log sum exp
        N_g(x) = LSE_{j in group g} c(x, a_j) / tau
        S(x)   = 1/G sum_g sigmoid(L(x) - N_g(x))         higher = more in-distribution

    That is the softmax mass of the known classes among themselves and one group, averaged over the groups. Defaults, as
    in the authors' code: tau = 0.01, G = 100, groups by a permutation that is always the same, and the template "The
    nice {}" for classes and mined nouns. Antibodies are by default mined from a word list
    (evaluation.antibodies.mining); the arm "bank" gives it the configured ones.

    The authors mine about 10,000 labels, 100 to a group. With fewer there are fewer groups, of at least `least` labels
    each: a group of a few is no sample of what is unlike the classes. Every label is in a group, and groups differ in
    size by at most one. What stands together in the bank (nouns, adjectives; the farthest, the nearest) is dealt out to
    all groups alike: see `assign_groups`.

    Without antibodies there is nothing to compare with, and the score is 1 for every image. In float64 the score is
    exactly 1 where L exceeds every N_g by about 37, a difference in cosine of 0.37 at tau = 0.01: an encoder whose
    cosines spread that far needs a larger tau.

    `tau` > 0, `groups` >= 1, `least` >= 1.
    """

    name: ClassVar[str] = "neglabel"
    uses_fit: ClassVar[bool] = False
    choices: ClassVar[Choices] = MappingProxyType({"tau": (0.01, 0.005, 0.02, 0.05), "groups": (100, 10, 1)})
    uses_bank: ClassVar[bool] = True
    default_arm: ClassVar[Arm] = "neglabel"
    tau: Annotated[float, real(ge=1e-6)] = 0.01
    groups: Annotated[int, whole(1)] = 100
    least: Annotated[int, whole(1)] = 50
    templates: Templates = (NEGLABEL_TEMPLATE,)

    def fit(self, space: Space) -> FittedGrouped:
        """Take the class texts, and put the antibodies into groups."""
        return FittedGrouped(
            name=self.name,
            class_vectors=space.texts.astype(np.float64),
            bank=space.bank,
            antibodies=space.bank.vectors.astype(np.float64),
            asked=self.groups,
            group=assign_groups(len(space.bank), self.groups, self.least),
            tau=self.tau,
        )


@dataclass(frozen=True, config=PARAMETERS)
class Csp(NegLabel):
    """CSP, the conjugated semantic pool (Chen et al., NeurIPS 2024, arXiv 2410.08611): NegLabel with better labels.

        S(x) = 1/G sum_g sigmoid(L(x) - N_g(x))                   higher = more in-distribution

    The score is that of evaluation.scores.negative_labels, with its defaults (tau = 0.01, G = 100) and its behaviour
    for few or no antibodies. What differs is what is embedded: every class and noun is the mean of eight templates, and
    adjectives come with one of fourteen superclasses ("striped creature"), see evaluation.antibodies.mining. Antibodies
    are by default mined so from a word list; the arm "bank" gives it the configured ones.
    """

    name: ClassVar[str] = "csp"
    default_arm: ClassVar[Arm] = "csp"
    templates: Templates = CSP_TEMPLATES


def assign_groups(count: int, groups: int, least: int) -> IntArray:
    """Return (count,) the group of each antibody, from 0 up: the same for the same numbers.

    There are as many groups as asked for, or as have at least so many antibodies each; at least one. Each run of as
    many antibodies as there are groups is dealt out to all of them, in an order drawn by NumPy (seed 0).
    """
    number = max(1, min(groups, count // least))
    rng = np.random.default_rng(_SEED)
    dealt = [rng.permutation(number) for _ in range(0, count, number)]
    return np.concatenate([*dealt, np.zeros(0, dtype=np.int64)])[:count].astype(np.int64)


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class FittedGroups(FittedScore):
    """A score of classes against groups; `antibodies` (A, d) are those of `bank`, each in its `group` (A,)."""

    bank: Bank
    antibodies: Floats
    group: IntArray
    asked: int
    """Groups."""
    tau: float
    usual: str = "about 10,000 in 100"
    """What its authors have."""

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
        """The groups in force."""
        return {"groups": self.groups}

    @property
    def remarks(self) -> tuple[str, ...]:
        """Where there are far fewer labels than its authors use, or too few for as many groups as were asked for."""
        if len(self.bank) >= _FEW and self.groups == self.asked:
            return ()
        instead = f" instead of {self.asked}" if self.groups < self.asked else ""
        said = f"{len(self.bank)} negative labels in {self.groups} group(s){instead}"
        return (f"{said}; its authors have {self.usual}",)

    def _known(self, x: Floats) -> Floats:
        """L (b,) of images (b, d)."""
        return log_sum_exp(product(x, self.class_vectors) / self.tau)

    def _score_block(self, x: Floats) -> Floats:
        if not self.groups:
            return np.ones(len(x))
        negative = np.append(product(x, self.antibodies) / self.tau, np.full((len(x), 1), -np.inf), axis=1)
        return self._of_logs(self._known(x)[:, None], log_sum_exp(negative[:, self._members]))

    @abstractmethod
    def _of_logs(self, known: Floats, negative: Floats) -> Floats:
        """Scores (b,) by L (b, 1) and by N_g (b, G) of each group."""

    @cached_property
    def _members(self) -> IntArray:
        """(G, size) the antibodies of each group; A where a group has one less than another."""
        sizes = np.bincount(self.group)
        place = np.arange(sizes.max()) < sizes[:, None]
        members = np.full(place.shape, len(self.group))
        members[place] = np.argsort(self.group, kind="stable")
        return members


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class FittedGrouped(FittedGroups):
    """NegLabel's score."""

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

    def _of_logs(self, known: Floats, negative: Floats) -> Floats:
        share: Floats = expit(known - negative).mean(axis=1)
        return share

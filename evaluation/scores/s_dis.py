"""S_DIS, the score of Immuno-VLM (Fang, Fang & Ji, ICML 2026, arXiv 2605.30745), without the adapter.

    S(x) = max_k c(x, mu_k) - lambda_inf max_j c(x, a_j)      higher = more in-distribution

mu_k are the prototypes (evaluation.scores.prototypes) with the text's weight `alpha` and the cap `xi`. Without fit
images, and for alpha = 1, they are the class texts; without antibodies the second term is absent. The paper publishes
none of its parameters: lambda_inf = 1 weighs both sides alike, alpha and xi are the defaults of
evaluation.scores.prototypes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass as plain_dataclass
from types import MappingProxyType
from typing import Annotated, ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from evaluation.scores.base import EVERY_CLASS, PARAMETERS, Choices, FittedScore, RepelledImages, RepulsionForm, Score
from evaluation.scores.prototypes import DEFAULT_ALPHA, DEFAULT_XI, prototypes
from evaluation.space import Bank, Space
from immuno_core.arrays import product
from immuno_core.config.numbers import real
from immuno_core.features import Floats


@dataclass(frozen=True, config=PARAMETERS)
class SDis(Score):
    """Prototypes minus antibodies. `lambda_inf` >= 0; `alpha` in [0, 1]; `xi` in [0, pi], radians."""

    name: ClassVar[str] = "s_dis"
    choices: ClassVar[Choices] = MappingProxyType(
        {"lambda_inf": (1.0, 0.75, 0.5, 0.25), "alpha": (DEFAULT_ALPHA, 0.8, 1.0)}
    )
    uses_bank: ClassVar[bool] = True
    lambda_inf: Annotated[float, real(ge=0)] = 1.0
    alpha: Annotated[float, real(ge=0, most=1)] = DEFAULT_ALPHA
    xi: Annotated[float, real(ge=0, most=math.pi)] = DEFAULT_XI

    def fit(self, space: Space) -> FittedScore:
        """Make the prototypes and take the antibodies."""
        return FittedDifference(
            name=self.name,
            class_vectors=prototype_vectors(space, alpha=self.alpha, xi=self.xi),
            bank=space.bank,
            antibodies=space.bank.vectors.astype(np.float64),
            weight=self.lambda_inf,
        )


def prototype_vectors(space: Space, *, alpha: float, xi: float) -> Floats:
    """Return the prototypes (K, d) of a space; the class texts where it has no fit images."""
    if space.fit is None or space.fit_labels is None:
        return space.texts.astype(np.float64)
    return prototypes(space.texts, space.fit.features, space.fit_labels, alpha=alpha, xi=xi).mu


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class FittedDifference(FittedScore):
    """max_k c(x, class_vectors_k) - weight max_j c(x, antibodies_j); the second term is absent without antibodies.

    `antibodies` (A, d) float64 are those of `bank`.
    """

    bank: Bank
    antibodies: Floats
    weight: float

    @property
    def width(self) -> int:
        """Numbers held per image while scoring."""
        return super().width + len(self.antibodies)

    @property
    def form(self) -> RepulsionForm:
        """Max-type; no antibody is ever silent."""
        count = len(self.bank)
        return RepulsionForm(
            ids=self.bank.ids,
            antibodies=self.antibodies,
            radii=np.zeros(count),
            guards=np.full(count, EVERY_CLASS),
            weight=self.weight,
            combine="max",
            silent=False,
            images=self._repelled,
        )

    def _repelled(self, x: Floats) -> RepelledImages:
        cosines = product(x, self.class_vectors)
        nothing = np.zeros(len(x))
        return RepelledImages(x, cosines.max(axis=1), nothing, cosines.argmax(axis=1), nothing)

    def _score_block(self, x: Floats) -> Floats:
        known: Floats = (product(x, self.class_vectors)).max(axis=1)
        if not len(self.antibodies):
            return known
        nearest: Floats = (product(x, self.antibodies)).max(axis=1)
        return known - self.weight * nearest

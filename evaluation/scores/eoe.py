"""EOE, envisioning outlier exposure (Cao et al., ICML 2024, arXiv 2406.00806), and its max-logit ablation.

    p = softmax([c(x, t_1..K), c(x, a_1..A)] / T)
    eoe:            S(x) = max_k p_k - beta max_j p_{K+j}                   higher = more in-distribution
    eoe_max_logit:  S(x) = max_k c(x, t_k) - max_j c(x, a_j)

T = 1 on raw cosines and beta = 0.25, as in the authors' code. Uses class names and antibodies. Without antibodies the
terms in a_j are absent: eoe is then MCM, and its ablation the maximum cosine. The ablation is S_DIS with lambda = 1 and
alpha = 1.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from evaluation.bank import Bank
from evaluation.scores.base import PARAMETERS, FittedScore, Floats, Score, log_sum_exp
from evaluation.scores.forms import SoftmaxForm, SoftmaxImages
from evaluation.scores.s_dis import FittedDifference
from evaluation.space import Space


@dataclass(frozen=True, config=PARAMETERS)
class Eoe(Score):
    """Envisioned outliers in the softmax. `temperature` T > 0, `beta` >= 0."""

    name: ClassVar[str] = "eoe"
    uses_bank: ClassVar[bool] = True
    temperature: Annotated[float, Field(gt=0)] = 1.0
    beta: Annotated[float, Field(ge=0)] = 0.25

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
        known = x @ self.class_vectors.T / self.temperature
        return SoftmaxImages(x, known.max(axis=1), log_sum_exp(known))

    def _score_block(self, x: Floats) -> Floats:
        known = x @ self.class_vectors.T / self.temperature
        negative = x @ self.antibodies.T / self.temperature
        top = np.maximum(known.max(axis=1), negative.max(axis=1, initial=-np.inf))[:, None]
        known, negative = np.exp(known - top), np.exp(negative - top)
        total = known.sum(axis=1) + negative.sum(axis=1)
        scores: Floats = (known.max(axis=1) - self.beta * negative.max(axis=1, initial=0.0)) / total
        return scores

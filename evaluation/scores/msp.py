"""MSP, the maximum softmax probability (Hendrycks & Gimpel, ICLR 2017, arXiv 1610.02136), on CLIP's logits.

    S(x) = max_k softmax_k(s c(x, t))                         higher = more in-distribution

s is the logit scale the encoder was trained to (about 100 for CLIP): the probability that zero-shot classification
gives its answer. It is the MCM score with T = 1 / s. No parameters. Uses class names only.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from evaluation.scores.base import PARAMETERS, FittedScore, Floats, Score, top_probability
from evaluation.space import Space


@dataclass(frozen=True, config=PARAMETERS)
class Msp(Score):
    """Maximum softmax probability at the encoder's logit scale."""

    name: ClassVar[str] = "msp"

    def fit(self, space: Space) -> FittedScore:
        """Take the class texts and the logit scale."""
        return _Fitted(name=self.name, class_vectors=space.texts.astype(np.float64), logit_scale=space.logit_scale)


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _Fitted(FittedScore):
    logit_scale: float

    def _score_block(self, x: Floats) -> Floats:
        return top_probability(x @ self.class_vectors.T, 1 / self.logit_scale)

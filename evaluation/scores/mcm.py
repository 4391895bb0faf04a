"""MCM, the maximum concept matching score (Ming et al., NeurIPS 2022, arXiv 2211.13445).

    S(x) = max_k softmax_k(c(x, t) / T)                       higher = more in-distribution

T = 1 on raw cosines (no logit scale), as in the authors' code. Uses class names only.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from evaluation.scores.base import PARAMETERS, FittedScore, Floats, Score, top_probability
from evaluation.space import Space


@dataclass(frozen=True, config=PARAMETERS)
class Mcm(Score):
    """Maximum concept matching. `temperature` T > 0."""

    name: ClassVar[str] = "mcm"
    temperature: Annotated[float, Field(gt=0)] = 1.0

    def fit(self, space: Space) -> FittedScore:
        """Take the class texts."""
        return _Fitted(name=self.name, class_vectors=space.texts.astype(np.float64), temperature=self.temperature)


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _Fitted(FittedScore):
    temperature: float

    def _score_block(self, x: Floats) -> Floats:
        return top_probability(x @ self.class_vectors.T, self.temperature)

"""The energy score (Liu et al., NeurIPS 2020, arXiv 2010.03759), negated, on cosines.

    S(x) = T log sum_k exp(c(x, t_k) / T)                     higher = more in-distribution

T = 1 on raw cosines as in the comparisons of the MCM line of papers; some use 0.01, the inverse of CLIP's logit scale.
As T goes to 0 it becomes the maximum cosine. Uses class names only.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from evaluation.scores.base import PARAMETERS, FittedScore, Floats, Score, log_sum_exp
from evaluation.space import Space


@dataclass(frozen=True, config=PARAMETERS)
class Energy(Score):
    """Negative free energy. `temperature` T > 0."""

    name: ClassVar[str] = "energy"
    temperature: Annotated[float, Field(gt=0)] = 1.0

    def fit(self, space: Space) -> FittedScore:
        """Take the class texts."""
        return _Fitted(name=self.name, class_vectors=space.texts.astype(np.float64), temperature=self.temperature)


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _Fitted(FittedScore):
    temperature: float

    def _score_block(self, x: Floats) -> Floats:
        return self.temperature * log_sum_exp(x @ self.class_vectors.T / self.temperature)

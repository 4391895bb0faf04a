"""Maximum cosine to a class text: the plain baseline, which often beats MCM. Also known as the max-logit score
(Hendrycks et al., ICML 2022, arXiv 1911.11132) up to the logit scale, which changes no ranking.

    S(x) = max_k c(x, t_k)                                    higher = more in-distribution

No parameters. Uses class names only.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from evaluation.scores.base import PARAMETERS, FittedScore, Floats, Score
from evaluation.space import Space


@dataclass(frozen=True, config=PARAMETERS)
class MaxLogit(Score):
    """Maximum cosine."""

    name: ClassVar[str] = "max_logit"

    def fit(self, space: Space) -> FittedScore:
        """Take the class texts."""
        return _Fitted(name=self.name, class_vectors=space.texts.astype(np.float64))


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _Fitted(FittedScore):
    def _score_block(self, x: Floats) -> Floats:
        best: Floats = (x @ self.class_vectors.T).max(axis=1)
        return best

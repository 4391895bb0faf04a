"""Mahalanobis distance to the nearest class mean (Lee et al., NeurIPS 2018, arXiv 1807.03888), on unit embeddings.

    S(x) = max_k -(x - m_k)' C^-1 (x - m_k)                   higher = more in-distribution

with the means and the shared, shrunk covariance of evaluation.scores.class_spread. `shrinkage` sets s, which is else
taken by the rule of Ledoit & Wolf; `chosen` says which s was in force. Uses fit images; class names only to classify.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from evaluation.scores.base import PARAMETERS, FittedScore, Floats, Score, fit_images
from evaluation.scores.class_spread import ClassSpread
from evaluation.space import Space


@dataclass(frozen=True, config=PARAMETERS)
class Mahalanobis(Score):
    """Distance under the shared covariance. `shrinkage` s in [0, 1]; None: by the rule of Ledoit & Wolf."""

    name: ClassVar[str] = "mahalanobis"
    shrinkage: Annotated[float, Field(ge=0, le=1)] | None = None

    def fit(self, space: Space) -> FittedScore:
        """Take means and covariance of the fit images. Raises SetupError where there are none."""
        images, labels = fit_images(space, self.name)
        spread = ClassSpread.of(images.features, labels, shrinkage=self.shrinkage)
        return _Fitted(name=self.name, class_vectors=space.texts.astype(np.float64), spread=spread)


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _Fitted(FittedScore):
    spread: ClassSpread

    @property
    def width(self) -> int:
        return self.spread.width

    @property
    def chosen(self) -> dict[str, Any]:
        return {"shrinkage": self.spread.shrinkage}

    def _score_block(self, x: Floats) -> Floats:
        return -self.spread.squared(x)

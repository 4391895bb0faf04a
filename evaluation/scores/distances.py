"""The scores that need fit images and no texts: KNN and Mahalanobis distance."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from evaluation.scores.base import PARAMETERS, FittedScore, Floats, Score, fit_images
from evaluation.scores.class_spread import ClassSpread
from evaluation.space import Space
from immuno_core.arrays import blocks
from immuno_core.features import FloatArray

_FIT_ROWS = 2048
"""Fit images that a block of images is compared with at a time."""


@dataclass(frozen=True, config=PARAMETERS)
class Knn(Score):
    """Distance to the K-th nearest fit image. `k` >= 1."""

    name: ClassVar[str] = "knn"
    k: Annotated[int, Field(ge=1)] = 50

    def fit(self, space: Space) -> FittedScore:
        """Take the fit images. Raises SetupError where there are none."""
        images, _ = fit_images(space, self.name)
        return _FittedKnn(
            name=self.name,
            class_vectors=space.texts.astype(np.float64),
            fit=images.features,
            k=min(self.k, len(images)),
        )


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _FittedKnn(FittedScore):
    fit: FloatArray
    """(n, d), n >= k."""
    k: int

    @property
    def width(self) -> int:
        return self.dim + 3 * (self.k + min(_FIT_ROWS, len(self.fit)))

    @property
    def chosen(self) -> dict[str, Any]:
        return {"k": self.k}

    def _score_block(self, x: Floats) -> Floats:
        own = np.einsum("ij,ij->i", x, x)
        nearest = np.empty((len(x), 0))
        for rows in blocks(len(self.fit), 1, most=_FIT_ROWS):
            fit = self.fit[rows].astype(np.float64)
            squared = -2 * (x @ fit.T)
            squared += np.einsum("ij,ij->i", fit, fit)
            nearest = np.concatenate([nearest, squared], axis=1)
            if nearest.shape[1] > self.k:
                nearest = np.partition(nearest, self.k - 1, axis=1)[:, : self.k]
        # |x|^2 is the same for every fit image, so it is added last; rounding may leave a little less than 0.
        squared = nearest.max(axis=1) + own
        distances: Floats = np.sqrt(np.maximum(squared, 0))
        return -distances


@dataclass(frozen=True, config=PARAMETERS)
class Mahalanobis(Score):
    """Distance under the shared covariance. `shrinkage` s in [0, 1]; None: by the rule of Ledoit & Wolf."""

    name: ClassVar[str] = "mahalanobis"
    shrinkage: Annotated[float, Field(ge=0, le=1)] | None = None

    def fit(self, space: Space) -> FittedScore:
        """Take means and covariance of the fit images. Raises SetupError where there are none."""
        images, labels = fit_images(space, self.name)
        spread = ClassSpread.of(images.features, labels, shrinkage=self.shrinkage)
        return _FittedMahalanobis(name=self.name, class_vectors=space.texts.astype(np.float64), spread=spread)


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _FittedMahalanobis(FittedScore):
    spread: ClassSpread

    @property
    def width(self) -> int:
        return self.spread.width

    @property
    def chosen(self) -> dict[str, Any]:
        return {"shrinkage": self.spread.shrinkage}

    def _score_block(self, x: Floats) -> Floats:
        return -self.spread.squared(x)

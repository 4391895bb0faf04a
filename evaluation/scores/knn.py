"""KNN, deep nearest neighbours (Sun et al., ICML 2022, arXiv 2204.06507), on unit embeddings.

    S(x) = -|x - f_(K)|,   f_(K) the K-th nearest fit image   higher = more in-distribution

The distance is Euclidean. K = 50, the authors' choice for CIFAR-10 (they take 200 for CIFAR-100 and 1,000 for all of
ImageNet's training set, and 10 for 1 % of it): it should be smaller than the number of fit images of a class. With
fewer than K fit images the farthest of them counts; `chosen` says which K was in force. Uses fit images; class names
only to classify.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from evaluation.blocks import blocks
from evaluation.features import FloatArray
from evaluation.scores.base import PARAMETERS, FittedScore, Floats, Score, fit_images
from evaluation.space import Space

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
        return _Fitted(
            name=self.name,
            class_vectors=space.texts.astype(np.float64),
            fit=images.features,
            k=min(self.k, len(images)),
        )


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _Fitted(FittedScore):
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

"""Mahalanobis distance to the nearest class mean (Lee et al., NeurIPS 2018, arXiv 1807.03888), on unit embeddings.

    S(x) = max_k -(x - m_k)' C^-1 (x - m_k)                   higher = more in-distribution

m_k is the mean of the fit images of class k, and C the covariance about those means that all classes share. As
estimated, C has no inverse where there are fewer images than dimensions, and in a few more dimensions on the unit
sphere; so it is shrunk toward a multiple of the identity,

    C = (1 - s) C_fit + s (trace(C_fit) / d) I,

with s by the rule of Ledoit & Wolf (2004), which knows no parameter and tends to 0 as images become many; `shrinkage`
sets s instead. Whatever s, no eigenvalue of C is taken to be less than 1e-8 of the largest. Where C_fit is zero (no
class has two different images) C is the identity: the squared Euclidean distance. `chosen` says which s was in force.

A class without fit images has no mean and is nobody's nearest. Uses fit images; class names only to classify.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from evaluation.blocks import blocks
from evaluation.features import FloatArray, IntArray
from evaluation.scores.base import PARAMETERS, FittedScore, Floats, Score, fit_images
from evaluation.space import Space

_SMALLEST_EIGENVALUE = 1e-8
"""Relative to the largest."""
_NO_SPREAD = 1e-15
"""Float32 embeddings of one image differ by some 1e-8, whose square this is."""


@dataclass(frozen=True, config=PARAMETERS)
class Mahalanobis(Score):
    """Distance under the shared covariance. `shrinkage` s in [0, 1]; None: by the rule of Ledoit & Wolf."""

    name: ClassVar[str] = "mahalanobis"
    shrinkage: Annotated[float, Field(ge=0, le=1)] | None = None

    def fit(self, space: Space) -> FittedScore:
        """Take means and covariance of the fit images. Raises SetupError where there are none."""
        images, labels = fit_images(space, self.name)
        present, own = np.unique(labels, return_inverse=True)
        means = _means(images.features, own, len(present))
        spread = _spread(images.features, means, own)
        shrinkage = _ledoit_wolf(spread) if self.shrinkage is None else self.shrinkage
        whitening = _whitening(spread.covariance, shrinkage)
        centre = means.mean(axis=0)
        return _Fitted(
            name=self.name,
            class_vectors=space.texts.astype(np.float64),
            centre=centre,
            whitening=whitening,
            means=(means - centre) @ whitening,
            shrinkage=float(shrinkage),
        )


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _Fitted(FittedScore):
    centre: Floats
    """(d,). Any point would do; one amid the means keeps the rounding small."""
    whitening: Floats
    """W (d, d) with W W' = C^-1."""
    means: Floats
    """(classes with fit images, d), whitened: (m_k - centre) W."""
    shrinkage: float

    @property
    def width(self) -> int:
        return 3 * self.dim + 2 * len(self.means)

    @property
    def chosen(self) -> dict[str, Any]:
        return {"shrinkage": self.shrinkage}

    def _score_block(self, x: Floats) -> Floats:
        white = (x - self.centre) @ self.whitening
        squared = -2 * (white @ self.means.T)
        squared += np.einsum("ij,ij->i", self.means, self.means)
        nearest: Floats = squared.min(axis=1) + np.einsum("ij,ij->i", white, white)
        return -np.maximum(nearest, 0)


class _Spread(NamedTuple):
    """How fit images lie about the means of their classes."""

    images: int
    covariance: Floats
    """C_fit (d, d): the mean of the outer products."""
    fourth: float
    """Mean of the fourth power of the distance to the own mean."""


def _means(features: FloatArray, own: IntArray, classes: int) -> Floats:
    """Mean (classes, d) of the images of each class, every one of which has images."""
    sums = np.zeros((classes, features.shape[1]))
    for rows in blocks(len(features), features.shape[1]):
        np.add.at(sums, own[rows], features[rows].astype(np.float64))
    means: Floats = sums / np.bincount(own, minlength=classes)[:, None]
    return means


def _spread(features: FloatArray, means: Floats, own: IntArray) -> _Spread:
    count, dim = features.shape
    scatter, fourth = np.zeros((dim, dim)), 0.0
    for rows in blocks(count, 2 * dim):
        centred = features[rows].astype(np.float64) - means[own[rows]]
        scatter += centred.T @ centred
        fourth += float((np.einsum("ij,ij->i", centred, centred) ** 2).sum())
    return _Spread(count, scatter / count, fourth / count)


def _ledoit_wolf(spread: _Spread) -> float:
    """The share s that minimises the expected squared error of the shrunk covariance (Ledoit & Wolf, 2004)."""
    covariance = spread.covariance
    size = float((covariance**2).sum())
    from_identity = size - float(np.trace(covariance)) ** 2 / len(covariance)
    of_estimate = (spread.fourth - size) / spread.images
    if of_estimate <= 0 or from_identity <= 0:
        return 0.0
    return min(1.0, of_estimate / from_identity)


def _whitening(covariance: Floats, shrinkage: float) -> Floats:
    """W (d, d) with W W' the inverse of the shrunk covariance."""
    dim = len(covariance)
    if np.trace(covariance) < _NO_SPREAD:
        return np.eye(dim)
    shrunk = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / dim * np.eye(dim)
    values, vectors = np.linalg.eigh(shrunk)
    whitening: Floats = vectors / np.sqrt(np.maximum(values, _SMALLEST_EIGENVALUE * values[-1]))
    return whitening

"""The scores that need fit images and no texts: KNN, Mahalanobis distance and the relative one.

`ClassSpread` is how fit images lie about the means of their classes, and how far an image is from those, in whitened
space:

    D(x)^2 = min_k (x - m_k)' C^-1 (x - m_k)                 (Lee et al., NeurIPS 2018, arXiv 1807.03888)

m_k is the mean of the fit images of class k, and C the covariance about those means that all classes share. As
estimated, C has no inverse where there are fewer images than dimensions, and in a few more dimensions on the unit
sphere; so it is shrunk toward a multiple of the identity,

    C = (1 - s) C_fit + s (trace(C_fit) / d) I,

with s by the rule of Ledoit & Wolf (2004), which knows no parameter and tends to 0 as images become many. Whatever s,
no eigenvalue of C is taken to be less than 1e-8 of the largest. Where C_fit is zero (no class has two different images)
C is the identity. A class without fit images has no mean and is nobody's nearest.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from evaluation.scores.base import PARAMETERS, Choices, FittedScore, Score, fit_images
from evaluation.space import Space
from immuno_core.arrays import blocks, product
from immuno_core.config.numbers import real, whole
from immuno_core.features import FloatArray, Floats, IntArray

FIT_ROWS = 2048
"""Fit images that a block of images is compared with at a time."""


@dataclass(frozen=True, config=PARAMETERS)
class Knn(Score):
    """KNN, deep nearest neighbours (Sun et al., ICML 2022, arXiv 2204.06507), on unit embeddings.

        S(x) = -|x - f_(K)|,   f_(K) the K-th nearest fit image   higher = more in-distribution

    The distance is Euclidean. K = 50, the authors' choice for CIFAR-10 (they take 200 for CIFAR-100 and 1,000 for all
    of ImageNet's training set, and 10 for 1 % of it): it should be smaller than the number of fit images of a class.
    Where it is not, a remark says so; with fewer than K fit images in all the farthest of them counts. `chosen` says
    which K was in force. Uses fit images; class
    names only to classify.

    `k` >= 1.
    """

    name: ClassVar[str] = "knn"
    choices: ClassVar[Choices] = MappingProxyType({"k": (50, 1, 2, 3, 5, 10, 20, 100, 200)})
    k: Annotated[int, whole(1)] = 50

    def fit(self, space: Space) -> FittedScore:
        """Take the fit images. Raises SetupError where there are none."""
        images, labels = fit_images(space, self.name)
        return _FittedKnn(
            name=self.name,
            class_vectors=space.texts.astype(np.float64),
            fit=images.features,
            k=min(self.k, len(images)),
            smallest=int(np.unique(labels, return_counts=True)[1].min()),
        )


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _FittedKnn(FittedScore):
    fit: FloatArray
    """(n, d), n >= k."""
    k: int
    smallest: int
    """Images of the class that has fewest."""

    @property
    def width(self) -> int:
        return self.dim + 3 * (self.k + min(FIT_ROWS, len(self.fit)))

    @property
    def chosen(self) -> dict[str, Any]:
        return {"k": self.k}

    @property
    def remarks(self) -> tuple[str, ...]:
        if self.k <= self.smallest:
            return ()
        return (f"K = {self.k}, and the smallest class has {self.smallest} fit image(s): those of other classes count",)

    def _score_block(self, x: Floats) -> Floats:
        own = np.einsum("ij,ij->i", x, x)
        nearest = np.empty((len(x), 0))
        for rows in blocks(len(self.fit), 1, most=FIT_ROWS):
            fit = self.fit[rows].astype(np.float64)
            squared = -2 * product(x, fit)
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
    """Mahalanobis distance to the nearest class mean (Lee et al., NeurIPS 2018, arXiv 1807.03888), on unit embeddings.

        S(x) = max_k -(x - m_k)' C^-1 (x - m_k)                   higher = more in-distribution

    with the means and the shared, shrunk covariance of `ClassSpread`. With shrinkage = 0 that is Mahalanobis++ (Mueller
    & Hein, ICML 2025, arXiv 2505.18032): means and covariance of unit features. `shrinkage` sets s, in [0, 1]; None: by
    the rule of Ledoit & Wolf; `chosen` says which s was in force. Uses fit images; class names only to classify.
    """

    name: ClassVar[str] = "mahalanobis"
    choices: ClassVar[Choices] = MappingProxyType({"shrinkage": (None, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)})
    shrinkage: Annotated[float, real(ge=0, most=1)] | None = None

    def fit(self, space: Space) -> FittedScore:
        """Take means and covariance of the fit images. Raises SetupError where there are none."""
        images, labels = fit_images(space, self.name)
        spread = ClassSpread.of(images.features, labels, shrinkage=self.shrinkage)
        return _FittedMahalanobis(name=self.name, class_vectors=space.texts.astype(np.float64), spread=spread)


@dataclass(frozen=True, config=PARAMETERS)
class RelativeMahalanobis(Score):
    """Relative Mahalanobis distance (Ren et al., 2021, arXiv 2106.09022), on unit embeddings.

        S(x) = max_k -((x - m_k)' C^-1 (x - m_k) - (x - m_0)' C_0^-1 (x - m_0))       higher = more in-distribution

    m_0 and C_0 are mean and covariance of all fit images, whatever their class: what is as far from them as from every
    class is less of an outlier. No shrinkage, as in the paper; `shrinkage` sets that of both covariances, as for
    `mahalanobis`. Uses fit images; class names only to classify.
    """

    name: ClassVar[str] = "relative_mahalanobis"
    choices: ClassVar[Choices] = MappingProxyType({"shrinkage": (0.0, None, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)})
    shrinkage: Annotated[float, real(ge=0, most=1)] | None = 0.0

    def fit(self, space: Space) -> FittedScore:
        """Take means and covariances of the fit images. Raises SetupError where there are none."""
        images, labels = fit_images(space, self.name)
        spread, whole = (
            ClassSpread.of(images.features, groups, shrinkage=self.shrinkage)
            for groups in (labels, np.zeros_like(labels))
        )
        return _FittedMahalanobis(
            name=self.name, class_vectors=space.texts.astype(np.float64), spread=spread, background=whole
        )


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _FittedMahalanobis(FittedScore):
    spread: ClassSpread
    background: ClassSpread | None = None
    """Of all images as one class, whose distance is taken off."""

    @property
    def width(self) -> int:
        return self.spread.width

    @property
    def chosen(self) -> dict[str, Any]:
        return {"shrinkage": self.spread.shrinkage}

    @property
    def remarks(self) -> tuple[str, ...]:
        if self.spread.counts.max() > 1:
            return ()
        return ("no class has two fit images: the covariance is that of none, and the distance is the Euclidean one",)

    def _score_block(self, x: Floats) -> Floats:
        squared = -self.spread.squared(x)
        return squared if self.background is None else squared + self.background.squared(x)


_SMALLEST_EIGENVALUE = 1e-8
"""Relative to the largest."""
_NOTHING_LEFT = 1e-8
"""The least share of C, along an image, that is taken to be left without that image."""
_NO_SPREAD = 1e-15
"""Float32 embeddings of one image differ by some 1e-8, whose square this is."""


@plain_dataclass(frozen=True, eq=False)
class ClassSpread:
    """Means and shared covariance of fit images, in whitened coordinates (x - centre) W."""

    centre: Floats
    """(d,). Any point would do; one amid the means keeps the rounding small."""
    whitening: Floats
    """W (d, d) with W W' = C^-1."""
    means: Floats
    """(classes with fit images, d), whitened: (m_k - centre) W."""
    counts: IntArray
    """Fit images of each of these classes."""
    shrinkage: float
    """The s in force."""

    @classmethod
    def of(cls, features: FloatArray, labels: IntArray, *, shrinkage: float | None = None) -> ClassSpread:
        """Fit images (n, d), n >= 1, with class indices (n,); `shrinkage` None: by the rule."""
        _, own = np.unique(labels, return_inverse=True)
        counts = np.bincount(own)
        means = _means(features, own, counts)
        estimate = _estimate(features, means, own)
        s = _ledoit_wolf(estimate) if shrinkage is None else shrinkage
        whitening, centre = _whitening(estimate.covariance, s), means.mean(axis=0)
        return cls(centre, whitening, (means - centre) @ whitening, counts, float(s))

    @property
    def width(self) -> int:
        """Numbers held per image while measuring."""
        return 3 * len(self.centre) + 2 * len(self.means)

    def squared(self, x: Floats) -> Floats:
        """D^2 (b,) of a block of images (b, d)."""
        nearest: Floats = self._to_each(x).min(axis=1)
        return nearest

    def left_out(self, features: FloatArray, labels: IntArray) -> SpreadLeftOut:
        """D^2 of the fit images themselves (n, d), each as if it had not been one of them.

        Its own class's mean, and C for every class, are taken without it (Sherman & Morrison, 1950), with s and the
        scale of the identity as they are. The only image of a class is compared with the other classes; infinite where
        there are none.
        """
        _, own = np.unique(labels, return_inverse=True)
        n = self.counts[own].astype(np.float64)
        # With n images of the class, x - (mean without x) = more (x - mean), and x adds more (x - mean)(x - mean)' / N
        # to C_fit.
        more = np.divide(n, n - 1, out=np.zeros(len(n)), where=n > 1)
        between = self.means @ self.means.T
        lengths = np.diag(between)
        least, own_is_least = np.empty(len(features)), np.empty(len(features), dtype=np.bool_)
        for rows in blocks(len(features), self.width + 2 * len(self.means)):
            white, mine = (features[rows].astype(np.float64) - self.centre) @ self.whitening, own[rows]
            each, up = np.arange(len(mine)), more[rows]
            apart = white - self.means[mine]
            onto = white @ self.means.T
            along = between[mine]
            along -= onto
            along += np.einsum("ij,ij->i", apart, white)[:, None]
            q = along[each, mine]
            squared = np.multiply(onto, -2, out=onto)
            squared += lengths
            squared += np.einsum("ij,ij->i", white, white)[:, None]
            added = (1 - self.shrinkage) * up / len(features)
            left = np.maximum(1 - added * q, _NOTHING_LEFT)
            along *= along
            along *= (added / left)[:, None]
            squared += along
            squared[each, mine] = np.where(up > 0, up**2 * q / left, np.inf)
            least[rows] = np.maximum(squared, 0).min(axis=1)
            own_is_least[rows] = squared[each, mine] <= squared.min(axis=1)
        return SpreadLeftOut(least, own_is_least)

    def _to_each(self, x: Floats) -> Floats:
        """Squared distances (b, classes with fit images) of a block of images (b, d)."""
        white = product(x - self.centre, self.whitening.T)
        squared = -2 * product(white, self.means)
        squared += np.einsum("ij,ij->i", self.means, self.means)
        squared += np.einsum("ij,ij->i", white, white)[:, None]
        return np.maximum(squared, 0, out=squared)


class SpreadLeftOut(NamedTuple):
    """Of n fit images, each compared with the others: D^2 (n,), and whether its own class is the nearest (n,)."""

    squared: Floats
    own_is_nearest: NDArray[np.bool_]


class _Estimate(NamedTuple):
    images: int
    covariance: Floats
    """C_fit (d, d): the mean of the outer products."""
    fourth: float
    """Mean of the fourth power of the distance to the own mean."""


def _means(features: FloatArray, own: IntArray, counts: IntArray) -> Floats:
    """Mean (classes, d) of the images of each class, every one of which has images."""
    sums = np.zeros((len(counts), features.shape[1]))
    for rows in blocks(len(features), features.shape[1]):
        np.add.at(sums, own[rows], features[rows].astype(np.float64))
    means: Floats = sums / counts[:, None]
    return means


def _estimate(features: FloatArray, means: Floats, own: IntArray) -> _Estimate:
    count, dim = features.shape
    scatter, fourth = np.zeros((dim, dim)), 0.0
    for rows in blocks(count, 2 * dim):
        centred = features[rows].astype(np.float64) - means[own[rows]]
        scatter += centred.T @ centred
        fourth += float((np.einsum("ij,ij->i", centred, centred) ** 2).sum())
    return _Estimate(count, scatter / count, fourth / count)


def _ledoit_wolf(estimate: _Estimate) -> float:
    """The share s that minimises the expected squared error of the shrunk covariance (Ledoit & Wolf, 2004)."""
    covariance = estimate.covariance
    size = float((covariance**2).sum())
    from_identity = size - float(np.trace(covariance)) ** 2 / len(covariance)
    of_estimate = (estimate.fourth - size) / estimate.images
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

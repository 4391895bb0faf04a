"""The term of visual antibodies: how far an image lies from the known ones in the direction of outliers that were seen.

With the mean m of the known fit images, their covariance C about it, shrunk as in evaluation.scores.features.distances,
and a visual antibody v_c (the mean of a cluster of outliers; evaluation.antibodies.visual), Fisher's discriminant is

    u_c    = C^-1 (v_c - m) / |v_c - m|_C             |z|_C^2 = z' C^-1 z
    d_c(x) = u_c' (x - m)                             in standard deviations of the known images along u_c
    r_c    = the (1 - eps) quantile of d_c over the fit images
    taken  = weight s max_c max(0, d_c(x) - r_c)      what the score is less of

s is the standard deviation of the fit images' closeness to the prototypes (evaluation.scores.bases), so that `weight`
says the same with every encoder. A fit image that helped to estimate C seems to lie farther from every v than a new one
would, so that for the radii each is taken as if it had not been one of them. Without fit images nothing is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evaluation.scores.base import EVERY_CLASS, RepelledImages, RepulsionForm
from evaluation.scores.radii import ROUNDING, quantiles_of
from immuno_core.arrays import blocks, product
from immuno_core.features import FloatArray, Floats

DEFAULT_VISUAL_EPS, DEFAULT_VISUAL_WEIGHT = 0.01, 1.0
_SHRINKAGE = 0.2
_NO_SPREAD = 1e-15
_NO_LENGTH = 1e-12
_NOTHING_LEFT = 1e-8
"""The least share of C, along an image, that is taken to be left without that image."""


class Directions(NamedTuple):
    """Of k centres, the margin of an image x as `rows` @ x - `offsets`: (k, d) and (k,)."""

    rows: Floats
    offsets: Floats


@dataclass(frozen=True, eq=False)
class Whitened:
    """The fit images (n, d), their mean m (d,) and C^-1 (d, d), and the deviation s of their closeness."""

    features: FloatArray
    mean: Floats
    precision: Floats
    deviation: float

    @classmethod
    def of(cls, known: FloatArray, deviation: float) -> Whitened:
        """Take mean and covariance of the fit images (n, d), n >= 1. Without spread, C is the identity."""
        (n, dim), mean = known.shape, known.mean(axis=0, dtype=np.float64)
        scatter = np.zeros((dim, dim))
        for rows in blocks(n, 2 * dim):
            apart = known[rows].astype(np.float64) - mean
            scatter += apart.T @ apart
        size = float(np.trace(scatter)) / n / dim
        shrunk = (1 - _SHRINKAGE) / n * scatter + _SHRINKAGE * size * np.eye(dim)
        return cls(known, mean, np.eye(dim) if size < _NO_SPREAD else np.linalg.inv(shrunk), deviation)

    def sight(self, centres: FloatArray, *, eps: float, weight: float) -> Sight:
        """Return the term of visual antibodies (k, d), k >= 1, `eps` in (0, 1)."""
        found, margins = self.directions(centres), self.left_out(centres)
        radii = quantiles_of(margins.T, eps)
        return Sight(found.rows, found.offsets + radii, weight * self.deviation, margins - radii)

    def directions(self, centres: FloatArray) -> Directions:
        """Return the directions of centres (k, d)."""
        apart = centres.astype(np.float64) - self.mean
        rows = apart @ self.precision
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, apart))
        rows /= np.maximum(lengths, _NO_LENGTH)[:, None]
        return Directions(rows, rows @ self.mean)

    def left_out(self, centres: FloatArray) -> Floats:
        """Return the margins (n, k) of the fit images themselves, each as if it had not been one of them.

        Mean and covariance are taken without it (Sherman & Morrison, 1950), with the scale of the identity as it is.
        """
        n, apart = len(self.features), centres.astype(np.float64) - self.mean
        if n < 2:
            return np.zeros((n, len(centres)))
        toward = apart @ self.precision
        lengths = np.einsum("ij,ij->i", toward, apart)
        added = (1 - _SHRINKAGE) / (n - 1)
        margins = np.empty((n, len(centres)))
        for rows in blocks(n, 2 * len(self.mean) + 3 * len(centres)):
            z = self.features[rows].astype(np.float64) - self.mean
            own = np.einsum("ij,ij->i", z @ self.precision, z)[:, None]
            along = z @ toward.T
            left = np.maximum(1 - added * own, _NOTHING_LEFT)
            met = along + own / (n - 1)
            squared = lengths + 2 * along / (n - 1) + own / (n - 1) ** 2 + added * met**2 / left
            margins[rows] = n / (n - 1) * met / left / np.sqrt(np.maximum(squared, _NO_LENGTH**2))
        return margins


@dataclass(frozen=True, eq=False)
class Sight:
    """Fitted visual antibodies: `rows` (k, d), and `radii` (k,), which count the offsets of the directions in."""

    rows: Floats
    radii: Floats
    weight: float
    """What an exceedance is multiplied by: weight s."""
    own: Floats
    """By how much each fit image exceeds the radii, as if it had not been one, (n, k)."""

    def beyond(self, x: FloatArray | Floats) -> Floats:
        """Return by how much images (b, d) exceed each radius, (b, k); below 0 by what they lack."""
        beyond: Floats = product(x.astype(np.float64), self.rows)
        beyond -= self.radii
        return beyond

    def taken(self, x: FloatArray | Floats) -> Floats:
        """Return what the score of images (b, d) is less of, (b,)."""
        return self.taken_where(self.beyond(x))

    def taken_where(self, beyond: Floats) -> Floats:
        """Return the same of images that exceed the radii by so much (b, k)."""
        most = beyond.max(axis=1)
        taken: Floats = np.where(most > ROUNDING, self.weight * most, 0.0)
        return taken

    def form(self, ids: tuple[str, ...], images: Callable[[Floats], RepelledImages]) -> RepulsionForm:
        """Return how they enter the score, for evaluation.effects; `images` have no `near`."""
        return RepulsionForm(
            ids=ids,
            antibodies=self.rows,
            radii=self.radii,
            guards=np.full(len(ids), EVERY_CLASS),
            weight=self.weight,
            combine="max",
            silent=True,
            images=images,
        )

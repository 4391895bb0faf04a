"""Self-calibrated radii: how much nearer to an antibody than to any class a known image may be before it counts.

Ours, after the variable-sized detectors of Ji & Dasgupta (GECCO 2004); docs/method.md#self-calibrated-antibodies says
why. With the margin

    d_j(x) = c(x, a_j) - max_k c(x, t_k)

the radius r_j is the (1 - eps) quantile of d_j over ID fit images, and x exceeds it by e_j(x) = max(0, d_j(x) - r_j).
The quantile is an order statistic: at most a share eps of the fit images exceeds any one radius. So an antibody that
would fire on known images gets a large radius and falls silent. The margin "top5" puts the mean cosine of the five
nearest classes in the place of the maximum.

Without fit images every radius is 0: an antibody then fires on what is nearer to it than to every class text.

An antibody that acts only on images nearest to one class is calibrated on fit images of that kind. Few of them cannot
tell a small share eps from 0, so its radius is then drawn toward the one over all fit images.

Where fit images are the known feedback images as well, what is said of one is by radii without its part of them
(evaluation.space.Feedback.parts).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from evaluation.scores.base import EVERY_CLASS
from immuno_core.arrays import blocks, product
from immuno_core.features import FloatArray, Floats, IntArray

Margin = Literal["top1", "top5"]
_MARGIN_CLASSES: dict[Margin, int] = {"top1": 1, "top5": 5}
ROUNDING = 1e-12
"""Exceedances up to this are rounding (matrix products of other shapes differ in the last bits) and count as 0."""


def near_classes(text_cosines: Floats, margin: Margin) -> Floats:
    """Return (b,) the mean of the 1 or 5 largest of the cosines (b, K) to the class texts; of all, where K < 5."""
    most = min(_MARGIN_CLASSES[margin], text_cosines.shape[1])
    if most == 1:
        nearest: Floats = text_cosines.max(axis=1)
        return nearest
    # In one order, whatever the partition left: a sum of the same numbers is then the same to the last bit.
    top: Floats = np.sort(np.partition(text_cosines, -most, axis=1)[:, -most:], axis=1).mean(axis=1)
    return top


class Calibration(NamedTuple):
    """Radii of A antibodies: in the row 0 by all fit images, in the row 1 + p by those of the other parts than p."""

    radii: Floats
    """(1 + P, A)"""
    share: Floats
    """(1 + P, A) in [0, 1]: how far a radius comes from the images of the antibody's own class."""
    own: IntArray
    """(A,) that class, EVERY_CLASS for none."""
    acting: IntArray
    """(A,) the class that it acts on wherever its radius comes from; EVERY_CLASS for any."""
    fired: Floats
    """(n,) the largest exceedance on each fit image, by the radii without its part; (0,) where P = 0."""

    @property
    def reach(self) -> IntArray:
        """(1 + P, A) the class that each may fire on, EVERY_CLASS for all."""
        return np.where(self.share > 0, self.own, self.acting)

    @property
    def drawn(self) -> int:
        """How many radii of one class are drawn toward the one over all fit images."""
        return int(np.count_nonzero((self.own != EVERY_CLASS) & (self.share[0] < 1)))

    def take(self, antibodies: IntArray) -> Calibration:
        """Return that of some of the antibodies; P = 0, since `fired` is of all."""
        return Calibration(
            self.radii[:, antibodies],
            self.share[:, antibodies],
            self.own[antibodies],
            self.acting[antibodies],
            self.fired,
        )

    def concat(self, other: Calibration) -> Calibration:
        """Return that of the antibodies of both, in this order, on the same fit images."""
        return Calibration(
            np.concatenate([self.radii, other.radii], axis=1),
            np.concatenate([self.share, other.share], axis=1),
            np.concatenate([self.own, other.own]),
            np.concatenate([self.acting, other.acting]),
            np.maximum(self.fired, other.fired),
        )


@dataclass(frozen=True, eq=False)
class Calibrator:
    """Fit images that antibodies get their radii by: of all, and without each of their parts in turn."""

    features: FloatArray
    """(n, d), part by part."""
    near: Floats
    """(n,) the cosine to the nearest classes."""
    nearest: IntArray
    """(n,) the class of the nearest text."""
    order: IntArray
    """(n,) where each was among the images that were given."""
    sizes: IntArray
    """(P,) images in each part; P = 0 where none is ever left out."""

    @classmethod
    def of(
        cls, fit: FloatArray, texts: Floats, *, margin: Margin = "top1", parts: IntArray | None = None
    ) -> Calibrator:
        """Take fit images (n, d), n >= 0, and class texts (K, d); `parts` (n,) is the part, from 0, that each is in."""
        near, nearest = _near_and_nearest(fit, texts, margin)
        if parts is None:
            return cls(fit, near, nearest, np.arange(len(fit)), np.zeros(0, np.int64))
        order = np.argsort(parts, kind="stable")
        return cls(fit[order], near[order], nearest[order], order, np.bincount(parts))

    def calibrate(
        self, vectors: Floats, own: IntArray, acting: IntArray, *, eps: float, class_eps: float, zero: bool = False
    ) -> Calibration:
        """Return the radii of antibodies (A, d), each image and antibody compared once for all parts.

        `own` and `acting` (A,) as in Calibration. An antibody with an own class, to which n images are the nearest, has
        their quantile q in its radius with the share min(1, class_eps n), and the radius over all images with the rest;
        but the radius is never below q, so that at most the share class_eps of them exceeds it. Without images, and
        with `zero`, every radius is 0.
        """
        shape = (1 + len(self.sizes), len(vectors))
        quantiles, share = np.zeros(shape), np.zeros(shape)
        for k in np.unique(own[own != EVERY_CLASS]):
            images, rows = np.flatnonzero(self.nearest == k), np.flatnonzero(own == k)
            sizes = np.array([np.count_nonzero(self.nearest[part] == k) for part in self._parts], dtype=np.int64)
            share[:, rows] = np.minimum(1.0, class_eps * _left(len(images), sizes))[:, None]
            for some in blocks(len(rows) if len(images) else 0, len(images)):
                margins = _margins_to(self.features[images], self.near[images], vectors[rows[some]])
                quantiles[:, rows[some]] = _quantiles(margins, sizes, class_eps)
        found = Calibration(np.zeros(shape), share, own, acting, np.full(sum(self.sizes), -np.inf))
        reach = found.reach
        for block in blocks(len(vectors) if len(self.features) else 0, len(self.features)):
            margins = _margins_to(self.features, self.near, vectors[block])
            if not zero:
                common, q = _quantiles(margins, self.sizes, eps), quantiles[:, block]
                drawn = q + (1 - share[:, block]) * np.maximum(common - q, 0)
                found.radii[:, block] = np.where(share[:, block] > 0, drawn, common)
            for p, part in enumerate(self._parts, 1):
                beyond = margins[:, part]
                beyond -= found.radii[p, block, None]
                aim = reach[p, block, None]
                beyond[(aim != EVERY_CLASS) & (aim != self.nearest[part])] = -np.inf
                found.fired[part] = np.maximum(found.fired[part], beyond.max(axis=0, initial=-np.inf))
        fired = np.empty_like(found.fired)
        fired[self.order[: len(fired)]] = np.where(found.fired > ROUNDING, found.fired, 0.0)
        return found._replace(fired=fired)

    @property
    def _parts(self) -> list[slice]:
        ends = np.cumsum(self.sizes)
        return [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]


def _near_and_nearest(fit: FloatArray, texts: Floats, margin: Margin) -> tuple[Floats, IntArray]:
    """(n,) the cosine to the nearest classes as `margin` says, and which class is the nearest."""
    near, nearest = np.empty(len(fit)), np.empty(len(fit), dtype=np.int64)
    for rows in blocks(len(fit), len(texts) + fit.shape[1]):
        cosines = product(fit[rows].astype(np.float64), texts)
        near[rows], nearest[rows] = near_classes(cosines, margin), cosines.argmax(axis=1)
    return near, nearest


def _left(count: int, sizes: IntArray) -> IntArray:
    """(1 + P,) how many of so many images there are, and how many without each part."""
    return np.concatenate([[count], count - sizes])


def _quantiles(margins: Floats, sizes: IntArray, eps: float) -> Floats:
    """(1 + P, A) `quantiles_of` margins (A, n), n >= 1, that lie part by part, and of those without each part.

    Whatever is left out, the margin that is looked for is among the highest of a part. 0 where nothing is left.
    """
    if not len(sizes):
        return quantiles_of(margins, eps)[None]
    highest = [
        _highest(part, _above(margins.shape[1], eps)) for part in np.split(margins, np.cumsum(sizes)[:-1], axis=1)
    ]
    found = np.zeros((1 + len(sizes), len(margins)))
    for i, left in enumerate(_left(margins.shape[1], sizes)):
        if left:
            rest = np.concatenate([one for p, one in enumerate(highest, 1) if p != i], axis=1)
            found[i] = _highest(rest, _above(left, eps)).min(axis=1)
    return found


def _above(count: int, eps: float) -> int:
    """Which of so many margins is the radius, counted from the highest."""
    return math.floor(eps * count + 1e-9) + 1


def _highest(margins: Floats, count: int) -> Floats:
    """The `count` highest of each row (A, n), of all where there are fewer, in no order."""
    lower = max(margins.shape[1] - count, 0)
    return np.partition(margins, lower, axis=1)[:, lower:] if lower else margins


def quantiles_of(margins: Floats, eps: float) -> Floats:
    """Return (A,) the order statistic that floor(eps n) of an antibody's n >= 1 margins, a row (A, n), lie above."""
    rank = margins.shape[1] - _above(margins.shape[1], eps)
    quantiles: Floats = np.partition(margins, rank, axis=1)[:, rank]
    return quantiles


def _margins_to(features: FloatArray, near: Floats, vectors: Floats) -> Floats:
    """d_j(x) as (A, n), a row per antibody (A, d), given images (n, d) and the cosine to their classes (n,)."""
    margins = np.empty((len(vectors), len(features)))
    for rows in blocks(len(features), features.shape[1]):
        margins[:, rows] = product(vectors, features[rows].astype(np.float64))
    margins -= near
    return margins

"""Self-calibrated radii: how much nearer to an antibody than to any class a known image may be before it counts.

Ours, after the variable-sized detectors of Ji & Dasgupta (GECCO 2004); docs/method.md#self-calibrated-antibodies says
why. With the margin

    d_j(x) = c(x, a_j) - max_k c(x, t_k)

the radius r_j is the (1 - eps) quantile of d_j over ID fit images, and x exceeds it by e_j(x) = max(0, d_j(x) - r_j).
The quantile is an order statistic: at most a share eps of the fit images exceeds any one radius. So an antibody that
would fire on known images gets a large radius and falls silent. The margin "top5" puts the mean cosine of the five
nearest classes in the place of the maximum.

Without fit images every radius is 0: an antibody then fires on what is nearer to it than to every class text.

An antibody that acts only on images nearest to one class is calibrated on fit images of that kind (`class_radii`). Few
of them cannot tell a small share eps from 0, so its radius is then drawn toward the one over all fit images.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from immuno_core.arrays import blocks
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


def self_radii(fit: FloatArray, texts: Floats, vectors: Floats, *, eps: float, margin: Margin = "top1") -> Floats:
    """Return r_j (A,) of antibodies (A, d), calibrated on fit images (n, d); 0 for each where n = 0."""
    if not len(fit) or not len(vectors):
        return np.zeros(len(vectors))
    near, _ = _near_and_nearest(fit, texts, margin)
    return _quantiles(fit, near, vectors, eps)


class ClassRadii(NamedTuple):
    """`radii` (A,), and how far they come from the images of one class, `share` (A,) in [0, 1]."""

    radii: Floats
    share: Floats


def class_radii(
    fit: FloatArray,
    texts: Floats,
    vectors: Floats,
    classes: IntArray,
    radii: Floats,
    *,
    eps: float,
    margin: Margin = "top1",
) -> ClassRadii:
    """Return `radii` (A,) with those of antibodies that act for one class calibrated on the fit images nearest to it.

    `classes` (A,) is the row in `texts` (K, d) of that class, negative for none. With n images nearest to it, the share
    of their own quantile q in the radius is min(1, eps n), that of the radius over all images the rest; but the radius
    is never below q, so that at most the share eps of them exceeds it.
    """
    own, share = radii.copy(), np.zeros(len(vectors))
    if not len(fit) or (classes < 0).all():
        return ClassRadii(own, share)
    near, nearest = _near_and_nearest(fit, texts, margin)
    for k in np.unique(classes[classes >= 0]):
        images, rows = np.flatnonzero(nearest == k), np.flatnonzero(classes == k)
        if len(images):
            share[rows] = min(1.0, eps * len(images))
            quantiles = _quantiles(fit[images], near[images], vectors[rows], eps)
            own[rows] = quantiles + (1 - share[rows]) * np.maximum(radii[rows] - quantiles, 0)
    return ClassRadii(own, share)


def _near_and_nearest(fit: FloatArray, texts: Floats, margin: Margin) -> tuple[Floats, IntArray]:
    """(n,) the cosine to the nearest classes as `margin` says, and which class is the nearest."""
    near, nearest = np.empty(len(fit)), np.empty(len(fit), dtype=np.int64)
    for rows in blocks(len(fit), len(texts) + fit.shape[1]):
        cosines = fit[rows].astype(np.float64) @ texts.T
        near[rows], nearest[rows] = near_classes(cosines, margin), cosines.argmax(axis=1)
    return near, nearest


def _quantiles(fit: FloatArray, near: Floats, vectors: Floats, eps: float) -> Floats:
    """(A,) the order statistic that floor(eps n) of an antibody's n margins lie above."""
    radii = np.empty(len(vectors))
    for block in blocks(len(vectors), len(fit)):
        radii[block] = quantiles_of(_margins_to(fit, near, vectors[block]), eps)
    return radii


def quantiles_of(margins: Floats, eps: float) -> Floats:
    """Return (A,) the order statistic that floor(eps n) of an antibody's n >= 1 margins, a row (A, n), lie above."""
    rank = margins.shape[1] - 1 - math.floor(eps * margins.shape[1] + 1e-9)
    quantiles: Floats = np.partition(margins, rank, axis=1)[:, rank]
    return quantiles


def _margins_to(features: FloatArray, near: Floats, vectors: Floats) -> Floats:
    """d_j(x) as (A, n), a row per antibody (A, d), given images (n, d) and the cosine to their classes (n,)."""
    margins = np.empty((len(vectors), len(features)))
    for rows in blocks(len(features), features.shape[1]):
        margins[:, rows] = vectors @ features[rows].astype(np.float64).T
    margins -= near
    return margins

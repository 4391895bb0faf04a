"""Self-calibrated radii: how much nearer to an antibody than to any class a known image may be before it counts.

Ours, after the variable-sized detectors of Ji & Dasgupta (GECCO 2004), see DESIGN section 4. With the margin

    d_j(x) = c(x, a_j) - max_k c(x, t_k)

the radius r_j is the (1 - eps) quantile of d_j over ID fit images, and x exceeds it by e_j(x) = max(0, d_j(x) - r_j).
The quantile is an order statistic: at most a share eps of the fit images exceeds any one radius. So an antibody that
would fire on known images gets a large radius and falls silent.

Without fit images every radius is 0: an antibody then fires on what is nearer to it than to every class text.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from evaluation.blocks import blocks
from evaluation.features import FloatArray

Floats = NDArray[np.float64]

ROUNDING = 1e-12
"""Exceedances up to this are rounding (matrix products of other shapes differ in the last bits) and count as 0."""


def nearest_text_cosine(features: FloatArray, texts: Floats) -> Floats:
    """Return max_k c(x, t_k) (n,) of images (n, d) and class texts (K, d)."""
    nearest = np.empty(len(features))
    for rows in blocks(len(features), len(texts) + features.shape[1]):
        nearest[rows] = (features[rows].astype(np.float64) @ texts.T).max(axis=1)
    return nearest


def self_radii(fit: FloatArray, texts: Floats, vectors: Floats, *, eps: float) -> Floats:
    """Return r_j (A,) of antibodies (A, d), calibrated on fit images (n, d); 0 for each where n = 0."""
    if not len(fit):
        return np.zeros(len(vectors))
    nearest = nearest_text_cosine(fit, texts)
    # The order statistic that floor(eps n) of the n margins lie above.
    rank = len(fit) - 1 - math.floor(eps * len(fit) + 1e-9)
    radii = np.empty(len(vectors))
    for some in blocks(len(vectors), len(fit)):
        margins = margins_to(fit, nearest, vectors[some])
        radii[some] = np.partition(margins, rank, axis=1)[:, rank]
    return radii


def margins_to(features: FloatArray, nearest: Floats, vectors: Floats) -> Floats:
    """Return d_j(x) as (A, n), a row per antibody (A, d), given images (n, d) and their `nearest` text cosine (n,)."""
    margins = np.empty((len(vectors), len(features)))
    for rows in blocks(len(features), features.shape[1]):
        margins[:, rows] = vectors @ features[rows].astype(np.float64).T
    margins -= nearest
    return margins


def exceedances(margins: Floats, radii: Floats) -> Floats:
    """Return e_j(x) (A, n) from margins (A, n) and radii (A,)."""
    found = margins - radii[:, None]
    found[found <= ROUNDING] = 0.0
    return found

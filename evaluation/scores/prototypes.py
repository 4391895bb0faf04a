"""Prototypes mu_k: the centre of each known class on the unit sphere, between its text and the mean of its images.

Immuno-VLM (Fang, Fang & Ji, ICML 2026, arXiv 2605.30745), phase 1:

    mu_k = normalise((1 - alpha) mean_k + alpha t_k)   subject to   arccos(mu_k . t_k) <= xi

with mean_k the normalised mean of the class's fit images. A mu_k further than xi from its text is moved along the great
circle toward the text until it is xi away. The concentration is the closed form of Banerjee et al. (JMLR 2005):
kappa = r (d - r^2) / (1 - r^2), with r the length of the mean of the class's unit image embeddings.

The paper publishes neither alpha nor xi. In our trials alpha from 0.85 to 0.95 helps and below 0.7 hurts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from immuno_core.arrays import blocks, check_labels, check_unit_rows
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray, Floats, IntArray

DEFAULT_ALPHA = 0.9
DEFAULT_XI = math.pi / 4
"""Radians. With CLIP, where images are some 75 degrees from their text, it binds only for alpha below about 0.4."""
# Sums of unit vectors shorter than this have no direction worth the name.
_NO_DIRECTION = 1e-9
# Images whose mean is this near to the sphere are one image repeated; float32 embeddings do not resolve more.
_NO_SPREAD = 1e-6


@dataclass(frozen=True, slots=True)
class Prototypes:
    """The prototypes of K classes.

    `mu` (K, d) unit rows; a class without fit images has its text, unchanged. `kappa` (K,) concentrations; a class that
    shows no spread (fewer than two different images) takes the median of the others, and 0, "nothing is known", where
    there are no others.
    """

    mu: Floats
    kappa: Floats


def prototypes(
    texts: FloatArray,
    features: FloatArray,
    labels: IntArray,
    *,
    alpha: float = DEFAULT_ALPHA,
    xi: float = DEFAULT_XI,
) -> Prototypes:
    """Return the prototypes of class texts (K, d), given fit images (n, d), n >= 0, of classes `labels` (n,).

    `alpha` in [0, 1] is the weight of the text (1: the texts themselves); `xi` in [0, pi] is in radians.
    Raises SetupError for arrays that do not fit one another and for parameters out of range.
    """
    _check(texts, features, labels, alpha, xi)
    texts64 = texts.astype(np.float64)
    sums = _class_sums(features, labels, len(texts))
    counts = np.bincount(labels, minlength=len(texts))
    lengths = np.linalg.norm(sums, axis=1) / np.maximum(counts, 1)
    return Prototypes(_place(sums, texts64, alpha, xi), _concentrations(lengths, counts, texts.shape[1]))


class LeftOut(NamedTuple):
    """Of n fit images, each compared with prototypes that it did not help to make: the largest cosine, and to which."""

    cosine: Floats
    nearest: IntArray


def leave_one_out(
    texts: FloatArray,
    features: FloatArray,
    labels: IntArray,
    *,
    alpha: float = DEFAULT_ALPHA,
    xi: float = DEFAULT_XI,
    adapted: FloatArray | None = None,
) -> LeftOut:
    """Return for each fit image the largest cosine to a prototype, its own class's made without that image.

    An image pulls its own prototype toward itself; statistics of fit images must not count that. A class's only image
    is compared with the class's text. `adapted` (n, d) are compared instead of the `features` that make the prototypes.
    """
    _check(texts, features, labels, alpha, xi)
    compared = features if adapted is None else adapted
    if compared.shape != features.shape:
        raise SetupError(f"adapted images of shape {compared.shape} for fit images of shape {features.shape}")
    texts64 = texts.astype(np.float64)
    sums = _class_sums(features, labels, len(texts))
    counts = np.bincount(labels, minlength=len(texts))
    mu = _place(sums, texts64, alpha, xi)
    left_out = LeftOut(np.empty(len(features)), np.empty(len(features), dtype=np.int64))
    for rows in blocks(len(features), len(texts) + 3 * texts.shape[1]):
        x, own = features[rows].astype(np.float64), labels[rows]
        # x - x is exactly 0 only by luck after summing in another order, so a class's only image is left out by hand.
        others = np.where(counts[own, None] > 1, sums[own] - x, 0.0)
        own_mu = _place(others, texts64[own], alpha, xi)
        z = compared[rows].astype(np.float64)
        cosines = z @ mu.T
        cosines[np.arange(len(z)), own] = np.einsum("ij,ij->i", z, own_mu)
        left_out.nearest[rows] = cosines.argmax(axis=1)
        left_out.cosine[rows] = cosines.max(axis=1)
    return left_out


def _class_sums(features: FloatArray, labels: IntArray, classes: int) -> Floats:
    """(K, d) sums of each class's images in float64."""
    sums = np.zeros((classes, features.shape[1]))
    for k in np.unique(labels):
        sums[k] = features[labels == k].sum(axis=0, dtype=np.float64)
    return sums


def _place(sums: Floats, texts: Floats, alpha: float, xi: float) -> Floats:
    """Prototypes (m, d) from sums of images (m, d) and texts (m, d)."""
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    means = sums / np.maximum(lengths, _NO_DIRECTION)
    mixed = (1 - alpha) * means + alpha * texts
    sizes = np.linalg.norm(mixed, axis=1, keepdims=True)
    # Without a direction of its own, and for alpha = 1, a prototype is the text bit for bit: the scores built on texts
    # and on prototypes then agree exactly.
    text_only = ((lengths < _NO_DIRECTION) | (sizes < _NO_DIRECTION))[:, 0] | (alpha == 1)
    mu = np.where(text_only[:, None], texts, mixed / np.maximum(sizes, _NO_DIRECTION))
    along = np.einsum("ij,ij->i", mu, texts)
    across = mu - along[:, None] * texts
    widths = np.linalg.norm(across, axis=1)
    capped = ~text_only & (np.arctan2(widths, along) > xi + 1e-12)
    if capped.any():
        # A mu exactly opposite to its text has no great circle to move along: it becomes the text.
        tangent = across[capped] / np.maximum(widths[capped, None], _NO_DIRECTION)
        moved = math.cos(xi) * texts[capped] + math.sin(xi) * tangent
        moved = np.where(widths[capped, None] < _NO_DIRECTION, texts[capped], moved)
        mu[capped] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return mu


def _concentrations(lengths: Floats, counts: IntArray, dim: int) -> Floats:
    """kappa (K,) from mean resultant lengths (K,)."""
    spread = 1 - lengths**2
    known = (counts > 1) & (spread > _NO_SPREAD)
    kappa = np.zeros(len(lengths))
    kappa[known] = lengths[known] * (dim - lengths[known] ** 2) / spread[known]
    if known.any():
        kappa[~known] = np.median(kappa[known])
    return kappa


def _check(texts: FloatArray, features: FloatArray, labels: IntArray, alpha: float, xi: float) -> None:
    check_unit_rows(texts, what="class texts")
    check_unit_rows(features, what="fit images", dim=texts.shape[1])
    check_labels(labels, what="fit images", samples=len(features), classes=len(texts))
    if not 0 <= alpha <= 1:
        raise SetupError(f"alpha = {alpha}: the weight of the text in a prototype is from 0 to 1")
    if not 0 <= xi <= math.pi:
        raise SetupError(f"xi = {xi}: the angle between prototype and text is from 0 to pi, in radians")

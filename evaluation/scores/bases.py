"""What the calibrated score starts from before antibodies count: b(x), in units of cosine.

    max_cosine   max_k c(x, t_k)
    prototype    p(x) = max_k c(x, mu_k)
    fused        (1 - v) (w p(x) + (1 - w) q(x)) + v m(x), with q(x) the MCM score (T = 1) and m(x) = -D(x), D the
                 Mahalanobis distance to the nearest class mean (evaluation.scores.features.distances), both mapped
                 linearly so that on fit images they have the mean and the standard deviation of p

Closeness (p), distinctness (q) and typicality (m) err on different images, so their mean errs on fewer. On fit images
p is taken with leave-one-out prototypes, and m with the image left out of its class: an image must not raise its own
score. With v = 0 the fused base is, up to a constant, w z(p) + (1 - w) z(q) times the standard deviation of p (z:
standardised on fit images); with w = 1 and v = 0 it is the prototype base itself. See docs/method.md#the-base.

Why m: contextual outliers look like their class to p and q (a fish is a fish), and lie elsewhere than its images. By
itself m is better than p on those and worse on look-alikes.

Without fit images both `prototype` and `fused` are `max_cosine`: there is nothing to make prototypes of or to
standardise on. Where p has no spread (a single fit image) `fused` is `prototype`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from evaluation.scores.base import top_probability
from evaluation.scores.features.distances import ClassSpread
from evaluation.scores.prototypes import leave_one_out
from evaluation.scores.s_dis import prototype_vectors
from evaluation.space import Space
from immuno_core.arrays import in_blocks
from immuno_core.features import Floats

BaseName = Literal["max_cosine", "prototype", "fused"]
_NO_SPREAD = 1e-9


class Linear(NamedTuple):
    """A measure's share of the base: `scale` times it, plus `shift`."""

    scale: float
    shift: float


_NOTHING = Linear(0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Base:
    """A fitted base: b = `closeness` p + the parts of MCM and of -D, those that have a share.

    `prototypes` (K, d) is None for max_cosine; `spread` where D has no share.
    """

    prototypes: Floats | None
    closeness: float = 1.0
    mcm: Linear = _NOTHING
    typicality: Linear = _NOTHING
    spread: ClassSpread | None = None

    @property
    def width(self) -> int:
        """Numbers held per image while measuring, its cosines to the classes apart."""
        return 0 if self.spread is None else self.spread.width

    def values(self, x: Floats, text_cosines: Floats) -> Floats:
        """Return b (b,) of a block of images (b, d) with their cosines to the class texts (b, K)."""
        cosines = text_cosines if self.prototypes is None else x @ self.prototypes.T
        base: Floats = cosines.max(axis=1)
        if self.closeness != 1:
            base = self.closeness * base
        if self.mcm != _NOTHING:
            base = base + self.mcm.scale * top_probability(text_cosines, 1.0) + self.mcm.shift
        if self.spread is not None:
            base = base - self.typicality.scale * np.sqrt(self.spread.squared(x)) + self.typicality.shift
        return base


def fit_base(
    space: Space, name: BaseName, *, alpha: float, xi: float, w: float, v: float, shrinkage: float | None = None
) -> Base:
    """Fit a base; see the module for the three of them. `shrinkage` is that of D's covariance; None: by its rule."""
    if name == "max_cosine" or space.fit is None or space.fit_labels is None:
        return Base(prototypes=None)
    mu, features, labels = prototype_vectors(space, alpha=alpha, xi=xi), space.fit.features, space.fit_labels
    if name == "prototype" or (w == 1 and v == 0):
        return Base(prototypes=mu)
    p = leave_one_out(space.texts, features, labels, alpha=alpha, xi=xi).cosine
    if p.std() < _NO_SPREAD:
        return Base(prototypes=mu)
    mcm, typicality, spread = _NOTHING, _NOTHING, None
    if distinctness := (1 - v) * (1 - w):
        texts = space.texts.astype(np.float64)
        width = 2 * len(texts) + space.dim
        mcm = _mapped(in_blocks(features, width, lambda x: top_probability(x @ texts.T, 1.0)), p, distinctness)
    if v:
        spread = ClassSpread.of(features, labels, shrinkage=shrinkage)
        typicality = _mapped(-np.sqrt(spread.left_out(features, labels).squared), p, v)
    return Base(prototypes=mu, closeness=(1 - v) * w, mcm=mcm, typicality=typicality, spread=spread)


def _mapped(values: Floats, onto: Floats, share: float) -> Linear:
    """`share` of a measure that has `values` on the fit images, when mapped to the mean and spread of `onto` there.

    What has no spread there (the MCM score with one class) adds nothing but that mean; infinite values are no images'.
    """
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.std() < _NO_SPREAD * onto.std():
        return Linear(0.0, share * float(onto.mean()))
    scale = share * float(onto.std() / finite.std())
    return Linear(scale, share * float(onto.mean()) - scale * float(finite.mean()))

"""What the calibrated score starts from before antibodies count: b(x), in units of cosine.

    max_cosine   max_k c(x, t_k)
    prototype    max_k c(x, mu_k)
    fused        w p(x) + (1 - w) q(x), with p(x) = max_k c(x, mu_k) and q(x) the MCM score (T = 1), mapped linearly so
                 that on fit images it has the mean and the standard deviation of p

Closeness (p) and distinctness (q) err on different images, so their mean errs on fewer. On fit images p is taken with
leave-one-out prototypes: an image must not raise its own score. Up to a constant the fused base is DESIGN's
w z(p) + (1 - w) z(q), times the standard deviation of p; with w = 1 it is the prototype base itself.

Without fit images both `prototype` and `fused` are `max_cosine`: there is nothing to make prototypes of or to
standardise on. Where p has no spread (a single fit image) `fused` is `prototype`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.blocks import blocks
from evaluation.features import FloatArray
from evaluation.prototypes import leave_one_out_max_cosine
from evaluation.scores.base import Floats, top_probability
from evaluation.scores.s_dis import prototype_vectors
from evaluation.space import Space

BaseName = Literal["max_cosine", "prototype", "fused"]

_NO_SPREAD = 1e-9


@dataclass(frozen=True, eq=False)
class Base:
    """A fitted base. `prototypes` (K, d) is None for max_cosine; b = `own` p + `mcm` MCM + `shift`."""

    prototypes: Floats | None
    own: float = 1.0
    mcm: float = 0.0
    shift: float = 0.0

    def values(self, x: Floats, text_cosines: Floats) -> Floats:
        """Return b (b,) of a block of images (b, d) with their cosines to the class texts (b, K)."""
        cosines = text_cosines if self.prototypes is None else x @ self.prototypes.T
        closeness: Floats = cosines.max(axis=1)
        if self.own == 1:
            return closeness
        return self.own * closeness + self.mcm * top_probability(text_cosines, 1.0) + self.shift


def fit_base(space: Space, name: BaseName, *, alpha: float, xi: float, w: float) -> Base:
    """Fit a base; see the module for the three of them."""
    if name == "max_cosine" or space.fit is None or space.fit_labels is None:
        return Base(prototypes=None)
    mu = prototype_vectors(space, alpha=alpha, xi=xi)
    if name == "prototype" or w == 1:
        return Base(prototypes=mu)
    p = leave_one_out_max_cosine(space.texts, space.fit.features, space.fit_labels, alpha=alpha, xi=xi)
    q = _mcm(space.fit.features, space.texts.astype(np.float64))
    if p.std() < _NO_SPREAD:
        return Base(prototypes=mu)
    # With one class the MCM score is 1 for every image: it then adds nothing but its mean.
    slope = p.std() / q.std() if q.std() >= _NO_SPREAD * p.std() else 0.0
    mcm = (1 - w) * float(slope)
    return Base(prototypes=mu, own=w, mcm=mcm, shift=float((1 - w) * p.mean() - mcm * q.mean()))


def _mcm(features: FloatArray, texts: Floats) -> Floats:
    scores = np.empty(len(features))
    for rows in blocks(len(features), 2 * len(texts) + texts.shape[1]):
        scores[rows] = top_probability(features[rows].astype(np.float64) @ texts.T, 1.0)
    return scores

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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from evaluation.scores.base import FitImages, fit_images, top_probability
from evaluation.scores.features.distances import ClassSpread, SpreadLeftOut
from evaluation.scores.prototypes import leave_one_out
from evaluation.scores.s_dis import prototype_vectors
from evaluation.space import Space
from immuno_core.arrays import in_blocks, product
from immuno_core.features import Floats, IntArray

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
        return values_of([self], x, text_cosines)[0]


def values_of(bases: Sequence[Base], x: Floats, text_cosines: Floats) -> list[Floats]:
    """Return what `Base.values` does of each of the bases, which were made of one `Bases`: with other weights only."""
    mu, spread = bases[0].prototypes, next((one.spread for one in bases if one.spread is not None), None)
    closeness: Floats = (text_cosines if mu is None else product(x, mu)).max(axis=1)
    none = np.empty(0)
    distinctness = top_probability(text_cosines, 1.0) if any(one.mcm != _NOTHING for one in bases) else none
    distance = none if spread is None else np.sqrt(spread.squared(x))
    found = []
    for one in bases:
        base = closeness if one.closeness == 1 else one.closeness * closeness
        if one.mcm != _NOTHING:
            base = base + one.mcm.scale * distinctness + one.mcm.shift
        if one.spread is not None:
            base = base - one.typicality.scale * distance + one.typicality.shift
        found.append(base)
    return found


@dataclass(frozen=True, eq=False)
class Bases:
    """What the bases of a space are made of, whatever their weights: computed when it is first needed, and once.

    See the module for the parameters; `shrinkage` is that of D's covariance, None: by its rule.
    """

    space: Space
    name: BaseName
    alpha: float
    xi: float
    shrinkage: float | None = None
    of_whole: tuple[Bases, IntArray] | None = None
    """Those of all fit images, and which of these here are the fit images."""

    def without(self, part: int) -> Bases:
        """Return those without a part of the fit images (evaluation.space.Space.without)."""
        parts = self.space.feedback.parts if self.space.feedback is not None else None
        return replace(self, space=self.space.without(part), of_whole=(self, np.flatnonzero(parts != part)))

    def base(self, w: float, v: float) -> Base:
        """Return the base of these weights."""
        if self.name == "max_cosine" or self.space.fit is None:
            return Base(prototypes=None)
        p = self.closeness
        if self.name == "prototype" or (w == 1 and v == 0) or p.std() < _NO_SPREAD:
            return Base(prototypes=self.prototypes)
        mcm, typicality, spread = _NOTHING, _NOTHING, None
        if share := (1 - v) * (1 - w):
            mcm = _mapped(self.distinctness, p, share)
        if v:
            spread, typicality = self.spread, _mapped(-np.sqrt(self.left_out.squared), p, v)
        return Base(prototypes=self.prototypes, closeness=(1 - v) * w, mcm=mcm, typicality=typicality, spread=spread)

    @cached_property
    def texts(self) -> Floats:
        """t (K, d)."""
        return self.space.texts.astype(np.float64)

    @cached_property
    def prototypes(self) -> Floats:
        """mu (K, d)."""
        return prototype_vectors(self.space, alpha=self.alpha, xi=self.xi)

    @cached_property
    def closeness(self) -> Floats:
        """p (n,) of the fit images, each left out of its prototype."""
        images, labels = self._fit
        return leave_one_out(self.space.texts, images.features, labels, alpha=self.alpha, xi=self.xi).cosine

    @cached_property
    def distinctness(self) -> Floats:
        """MCM (n,) of the fit images."""
        if self.of_whole is not None:
            whole, rows = self.of_whole
            return whole.distinctness[rows]
        width = 2 * len(self.texts) + self.space.dim
        return in_blocks(self._fit.images.features, width, lambda x: top_probability(product(x, self.texts), 1.0))

    @cached_property
    def spread(self) -> ClassSpread:
        """How the fit images lie about the means of their classes."""
        images, labels = self._fit
        return ClassSpread.of(images.features, labels, shrinkage=self.shrinkage)

    @cached_property
    def left_out(self) -> SpreadLeftOut:
        """D^2 of the fit images, each left out."""
        images, labels = self._fit
        return self.spread.left_out(images.features, labels)

    @property
    def _fit(self) -> FitImages:
        return fit_images(self.space, "fused")


def _mapped(values: Floats, onto: Floats, share: float) -> Linear:
    """`share` of a measure that has `values` on the fit images, when mapped to the mean and spread of `onto` there.

    What has no spread there (the MCM score with one class) adds nothing but that mean; infinite values are no images'.
    """
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.std() < _NO_SPREAD * onto.std():
        return Linear(0.0, share * float(onto.mean()))
    scale = share * float(onto.std() / finite.std())
    return Linear(scale, share * float(onto.mean()) - scale * float(finite.mean()))

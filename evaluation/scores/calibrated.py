"""The calibrated score: antibodies with a radius of their own, set by known images. Ours; see DESIGN section 4.

    d_j(x) = c(x, a_j) - max_k c(x, t_k)
    r_j    = the (1 - eps) quantile of d_j over the ID fit images          (evaluation.radii)
    e_j(x) = max(0, d_j(x) - r_j)                                          the exceedance; j fires where it is above 0
    S(x)   = b(x) - beta max_j e_j(x)                                      higher = more in-distribution

b is the base (evaluation.scores.bases). Defaults: eps = 0.001, from the range 0.0005 to 0.002 that our trials found
good; beta = 2.5, from 2 to 3; base = "fused" with w = 0.35 and alpha = 0.9 (good from 0.85 to 0.92). Uses class names,
and fit images and antibodies where there are any. Without fit images every radius is 0 and the base is the maximum
cosine. Without antibodies the score is its base, and the base "max_cosine" is the score max_logit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from evaluation.bank import Bank
from evaluation.blocks import blocks
from evaluation.checks import check_unit_rows
from evaluation.features import FloatArray, IntArray
from evaluation.prototypes import DEFAULT_ALPHA, DEFAULT_XI
from evaluation.radii import ROUNDING, self_radii
from evaluation.scores.base import PARAMETERS, FittedScore, Floats, Score
from evaluation.scores.bases import Base, BaseName, fit_base
from evaluation.space import Space


class Exceedance(NamedTuple):
    """What the antibodies do to n images.

    `largest` and `second` (n,) are the two largest exceedances e_j (0 where none fires); `antibody` (n,) the row of the
    bank with the largest, -1 where none fires; `base` (n,) the base b. The score is base - beta largest.
    """

    largest: Floats
    antibody: IntArray
    second: Floats
    base: Floats


@dataclass(frozen=True, config=PARAMETERS)
class Calibrated(Score):
    """Self-calibrated antibodies. `eps` in (0, 1); `beta` >= 0; `alpha`, `w` in [0, 1]; `xi` in [0, pi], radians."""

    name: ClassVar[str] = "calibrated"
    uses_bank: ClassVar[bool] = True
    eps: Annotated[float, Field(gt=0, lt=1)] = 0.001
    beta: Annotated[float, Field(ge=0)] = 2.5
    base: BaseName = "fused"
    alpha: Annotated[float, Field(ge=0, le=1)] = DEFAULT_ALPHA
    xi: Annotated[float, Field(ge=0, le=math.pi)] = DEFAULT_XI
    w: Annotated[float, Field(ge=0, le=1)] = 0.35

    def fit(self, space: Space) -> FittedCalibrated:
        """Fit the base, and each antibody's radius."""
        texts, vectors = space.texts.astype(np.float64), space.bank.vectors.astype(np.float64)
        base = fit_base(space, self.base, alpha=self.alpha, xi=self.xi, w=self.w)
        fit = space.fit.features if space.fit is not None else np.zeros((0, space.dim), np.float32)
        return FittedCalibrated(
            name=self.name,
            class_vectors=texts if base.prototypes is None else base.prototypes,
            texts=texts,
            base=base,
            bank=space.bank,
            antibodies=vectors,
            radii=self_radii(fit, texts, vectors, eps=self.eps),
            beta=self.beta,
        )


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class FittedCalibrated(FittedScore):
    """The calibrated score; `radii` (A,) and `antibodies` (A, d), float64 vectors, are in the order of `bank`."""

    texts: Floats
    base: Base
    bank: Bank
    antibodies: Floats
    radii: Floats
    beta: float

    @property
    def width(self) -> int:
        """Numbers held per image while scoring."""
        return super().width + len(self.texts) + 2 * len(self.antibodies)

    def exceedance(self, features: FloatArray) -> Exceedance:
        """Return what the antibodies do to images (n, d). Raises SetupError as `score` does."""
        check_unit_rows(features, what="images to score", dim=self.dim)
        found = Exceedance(*(np.empty(len(features), dtype) for dtype in (float, np.int64, float, float)))
        for rows in blocks(len(features), self.width):
            block = self._exceedance_block(features[rows].astype(np.float64))
            for whole, part in zip(found, block, strict=True):
                whole[rows] = part
        return found

    def _exceedance_block(self, x: Floats) -> Exceedance:
        text_cosines = x @ self.texts.T
        nearest, base = text_cosines.max(axis=1), self.base.values(x, text_cosines)
        if not len(self.antibodies):
            nothing = np.zeros(len(x))
            return Exceedance(nothing, np.full(len(x), -1), nothing, base)
        beyond = x @ self.antibodies.T
        beyond -= self.radii
        antibody, everyone = beyond.argmax(axis=1), np.arange(len(x))
        largest = _fired(beyond[everyone, antibody] - nearest)
        beyond[everyone, antibody] = -np.inf
        second = _fired(beyond.max(axis=1) - nearest)
        return Exceedance(largest, np.where(largest > 0, antibody, -1), second, base)

    def _score_block(self, x: Floats) -> Floats:
        text_cosines = x @ self.texts.T
        base = self.base.values(x, text_cosines)
        if not len(self.antibodies):
            return base
        beyond = x @ self.antibodies.T
        beyond -= self.radii
        return base - self.beta * _fired(beyond.max(axis=1) - text_cosines.max(axis=1))


def _fired(beyond: Floats) -> Floats:
    """max(0, beyond), where what is no more than rounding counts as 0."""
    return np.where(beyond > ROUNDING, beyond, 0.0)

"""The calibrated score: antibodies with a radius of their own, set by known images. Ours.

    d_j(x) = c(x, a_j) - max_k c(x, t_k)
    r_j    = the (1 - eps) quantile of d_j over the ID fit images          (evaluation.scores.radii)
    e_j(x) = max(0, d_j(x) - r_j)                                          the exceedance; j fires where it is above 0
    S(x)   = b(x) - beta max_j e_j(x)                                      higher = more in-distribution

Why: docs/method.md#self-calibrated-antibodies. b is the base (evaluation.scores.bases). Defaults: eps = 0.001, from the
range 0.0005 to 0.002 that our trials found good; beta = 2.5, from 2 to 3; base = "fused" with w = 0.35, v = 0 and
alpha = 0.9 (good from 0.85 to 0.92). Uses class names, and fit images and antibodies where there are any. Without fit
images every radius is 0 and the base is the maximum cosine. Without antibodies the score is its base, and the base
"max_cosine" is the score max_logit.

Variants: `margin` = "top5" compares an antibody with the mean of the five nearest classes (of all, where there are
fewer) in place of the nearest; `combine` = "sum" takes the sum of the exceedances in place of the largest; with
`guarded` an antibody that guards a class fires only on images nearest to that class's text. Radii are the same with
and without it, so it only takes firings away and the bound on harm stands.

`class_radii` (the default) is for contextual antibodies: "a fish in the meadow" can only be an answer to images that
pass for a fish, yet houses stand in meadows, and one radius for all known images makes it deaf. So a contextual
antibody that guards class k is calibrated on, and fires on, images nearest to the text of k alone. At most a share
`class_eps` of those exceeds its radius. With fewer than 1 / class_eps of them that share cannot be told from 0, and the
radius is drawn toward the one over all images (evaluation.scores.radii); without any, it has that radius and reach.

*Visual* antibodies stand for outliers that were seen (evaluation.antibodies.visual) and have a term of their own
(evaluation.scores.sight), of the same form: the largest exceedance of a radius, `visual_weight` standard deviations of
the closeness p for each of its own. Like any antibody they can reject an image and never vouch for one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from evaluation.scores.base import EVERY_CLASS, PARAMETERS, Combine, FittedScore, RepelledImages, RepulsionForm, Score
from evaluation.scores.bases import Base, BaseName, fit_base
from evaluation.scores.prototypes import DEFAULT_ALPHA, DEFAULT_XI
from evaluation.scores.radii import ROUNDING, Margin, class_radii, near_classes, self_radii
from evaluation.scores.sight import DEFAULT_VISUAL_EPS, DEFAULT_VISUAL_WEIGHT, Sight, Whitened
from evaluation.space import Bank, Space
from immuno_core.arrays import blocks, check_unit_rows
from immuno_core.config.numbers import real
from immuno_core.errors import SetupError, did_you_mean
from immuno_core.features import FloatArray, Floats, IntArray


class Exceedance(NamedTuple):
    """What the antibodies do to n images: `largest` (n,) of the exceedances e_j of those with texts, 0 where none
    fires, and `antibody` (n,) the row in the bank of the one that takes most from the score, the first of equals, -1
    where none fires."""

    largest: Floats
    antibody: IntArray


class Closest(NamedTuple):
    """The row in the bank of an antibody, and d_j - r_j of one image: below 0 by what it lacks to fire."""

    antibody: int
    exceedance: float


@dataclass(frozen=True, config=PARAMETERS)
class Calibrated(Score):
    """Self-calibrated antibodies. `eps`, `class_eps` in (0, 1); `beta` >= 0; `alpha`, `w`, `v` in [0, 1]; `xi` in [0,
    pi], radians; `shrinkage` in [0, 1], of the covariance in the base, None for the rule of Ledoit & Wolf."""

    name: ClassVar[str] = "calibrated"
    uses_bank: ClassVar[bool] = True
    eps: Annotated[float, real(gt=0, lt=1)] = 0.001
    beta: Annotated[float, real(ge=0)] = 2.5
    base: BaseName = "fused"
    alpha: Annotated[float, real(ge=0, most=1)] = DEFAULT_ALPHA
    xi: Annotated[float, real(ge=0, most=math.pi)] = DEFAULT_XI
    w: Annotated[float, real(ge=0, most=1)] = 0.35
    v: Annotated[float, real(ge=0, most=1)] = 0.0
    shrinkage: Annotated[float, real(ge=0, most=1)] | None = None
    margin: Margin = "top1"
    combine: Combine = "max"
    guarded: bool = False
    class_radii: bool = True
    class_eps: Annotated[float, real(gt=0, lt=1)] = 0.02
    visual_eps: Annotated[float, real(gt=0, lt=1)] = DEFAULT_VISUAL_EPS
    visual_weight: Annotated[float, real(ge=0)] = DEFAULT_VISUAL_WEIGHT

    def fit(self, space: Space) -> FittedCalibrated:
        """Fit the base, and each antibody's radius. Raises SetupError where `guarded` meets an unknown class."""
        seen = space.bank.visual
        sight = None
        if len(seen) and space.fit is not None:
            known = Whitened.of(space, alpha=self.alpha, xi=self.xi)
            sight = known.sight(seen.vectors, eps=self.visual_eps, weight=self.visual_weight)
        space = replace(space, bank=space.bank.worded)
        texts, vectors = space.texts.astype(np.float64), space.bank.vectors.astype(np.float64)
        base = fit_base(space, self.base, alpha=self.alpha, xi=self.xi, w=self.w, v=self.v, shrinkage=self.shrinkage)
        fit = space.fit.features if space.fit is not None else np.zeros((0, space.dim), np.float32)
        radii = self_radii(fit, texts, vectors, eps=self.eps, margin=self.margin)
        everyone = np.full(len(space.bank), EVERY_CLASS)
        guards = _guards(space, every_known=self.guarded)
        contextual = np.array([kind == "contextual" for kind in space.bank.kinds], dtype=bool)
        own = np.where(contextual, guards, EVERY_CLASS) if self.class_radii else everyone
        radii, share = class_radii(fit, texts, vectors, own, radii, eps=self.class_eps, margin=self.margin)
        return FittedCalibrated(
            name=self.name,
            class_vectors=texts if base.prototypes is None else base.prototypes,
            texts=texts,
            base=base,
            bank=space.bank.concat(seen),
            sight=sight,
            antibodies=vectors,
            radii=radii,
            guards=guards if self.guarded else np.where(share > 0, guards, EVERY_CLASS),
            drawn=int(np.count_nonzero((own != EVERY_CLASS) & (share < 1))),
            beta=self.beta,
            margin=self.margin,
            combine=self.combine,
        )


def _guards(space: Space, *, every_known: bool) -> IntArray:
    """(A,) the class each antibody guards, EVERY_CLASS for none in particular; an unknown one is refused or is none."""
    index = {"": EVERY_CLASS} | {name: k for k, name in enumerate(space.classes)}
    for text, guards in zip(space.bank.texts, space.bank.guards, strict=True):
        if every_known and guards not in index:
            raise SetupError(
                f"the antibody '{text}' guards '{guards}', which is no known class{did_you_mean(guards, space.classes)}"
            )
    return np.array([index.get(name, EVERY_CLASS) for name in space.bank.guards], dtype=np.int64)


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class FittedCalibrated(FittedScore):
    """The calibrated score; `radii` (A,), `antibodies` (A, d), float64 vectors, and `guards` (A,), the class on which
    each may fire or EVERY_CLASS, are those with texts, in the order of `bank`, where visual ones come last."""

    texts: Floats
    base: Base
    bank: Bank
    sight: Sight | None
    """The visual antibodies; None without any."""
    antibodies: Floats
    radii: Floats
    guards: IntArray
    beta: float
    margin: Margin
    combine: Combine
    drawn: int
    """Antibodies for one class, with a radius that is drawn toward the one over all images."""

    @property
    def chosen(self) -> dict[str, Any]:
        """How many radii of one class are drawn toward the one over all images, where there are any."""
        return {"class_radii_drawn": self.drawn} if self.drawn else {}

    @property
    def width(self) -> int:
        """Numbers held per image while scoring."""
        return super().width + self.base.width + len(self.texts) + 2 * len(self.bank)

    def exceedance(self, features: FloatArray) -> Exceedance:
        """Return what the antibodies do to images (n, d). Raises SetupError as `score` does."""
        check_unit_rows(features, what="images to score", dim=self.dim)
        largest, antibody = np.zeros(len(features)), np.full(len(features), -1)
        for rows in blocks(len(features), self.width) if len(self.bank) else ():
            images = self._repelled(features[rows].astype(np.float64))
            if len(self.antibodies):
                beyond = self._beyond(images)
                largest[rows] = _fired(beyond.max(axis=1) - images.near)
                antibody[rows] = np.where(largest[rows] > 0, beyond.argmax(axis=1), -1)
            if self.sight is not None:
                beyond = self.sight.beyond(images.points)
                more = (images.rest > 0) & (images.rest > self.beta * largest[rows])
                antibody[rows] = np.where(more, len(self.antibodies) + beyond.argmax(axis=1), antibody[rows])
        return Exceedance(largest, antibody)

    def fires(self, features: FloatArray) -> NDArray[np.bool_]:
        """Return on which of the images (n, d) any antibody fires. Raises SetupError as `score` does."""
        return self.exceedance(features).antibody >= 0

    def closest(self, feature: FloatArray) -> Closest | None:
        """Return which antibody with a text comes closest to firing on one image (d,); None where none may fire."""
        if not len(self.antibodies):
            return None
        images = self._repelled(feature[None].astype(np.float64))
        beyond = self._beyond(images)[0] - images.near[0]
        best = int(beyond.argmax())
        return Closest(best, float(beyond[best])) if np.isfinite(beyond[best]) else None

    @property
    def form(self) -> RepulsionForm:
        """Of the antibodies with texts: max-type or sum-type, by `combine`."""
        return RepulsionForm(
            ids=self.bank.worded.ids,
            antibodies=self.antibodies,
            radii=self.radii,
            guards=self.guards,
            weight=self.beta,
            combine=self.combine,
            silent=True,
            images=self._repelled,
        )

    @property
    def visual_form(self) -> RepulsionForm | None:
        """Of the visual antibodies: max-type; None without any."""
        if self.sight is None:
            return None

        def images(x: Floats) -> RepelledImages:
            seen = self._repelled(x)
            return seen._replace(near=np.zeros(len(x)), rest=self._taken(seen))

        return self.sight.form(self.bank.visual.ids, images)

    def _repelled(self, x: Floats) -> RepelledImages:
        text_cosines = x @ self.texts.T
        near = near_classes(text_cosines, self.margin)
        rest = np.zeros(len(x)) if self.sight is None else self.sight.taken(x)
        return RepelledImages(x, self.base.values(x, text_cosines), near, text_cosines.argmax(axis=1), rest)

    def _beyond(self, images: RepelledImages) -> Floats:
        """c(x, a_j) - r_j (b, A), -inf where j may not fire; exceeds `near` where j fires."""
        beyond = images.points @ self.antibodies.T
        beyond -= self.radii
        if (self.guards != EVERY_CLASS).any():
            elsewhere = (self.guards != EVERY_CLASS) & (self.guards != images.nearest[:, None])
            beyond[elsewhere] = -np.inf
        return beyond

    def _taken(self, images: RepelledImages) -> Floats:
        """What the antibodies with texts take from the score (b,)."""
        if not len(self.antibodies):
            return np.zeros(len(images.base))
        beyond = self._beyond(images)
        if self.combine == "max":
            return self.beta * _fired(beyond.max(axis=1) - images.near)
        beyond -= images.near[:, None]
        total: Floats = self.beta * _fired(beyond).sum(axis=1)
        return total

    def _score_block(self, x: Floats) -> Floats:
        images = self._repelled(x)
        return images.base - self._taken(images) - images.rest


def _fired(beyond: Floats) -> Floats:
    """max(0, beyond), where what is no more than rounding counts as 0."""
    return np.where(beyond > ROUNDING, beyond, 0.0)

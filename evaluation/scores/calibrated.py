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
from functools import cached_property
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from evaluation.scores.base import (
    EVERY_CLASS,
    PARAMETERS,
    Combine,
    FittedScore,
    RepelledImages,
    RepulsionForm,
    Score,
    fit_images,
)
from evaluation.scores.bases import Base, BaseName, Bases
from evaluation.scores.prototypes import DEFAULT_ALPHA, DEFAULT_XI
from evaluation.scores.radii import ROUNDING, Calibration, Calibrator, Margin, near_classes
from evaluation.scores.sight import DEFAULT_VISUAL_EPS, DEFAULT_VISUAL_WEIGHT, Sight, Whitened
from evaluation.space import Bank, Space
from immuno_core.arrays import blocks, check_unit_rows, product
from immuno_core.config.numbers import real
from immuno_core.errors import SetupError, did_you_mean
from immuno_core.features import FloatArray, Floats, IntArray
from immuno_core.records import VISUAL


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
    pi], radians; `shrinkage` in [0, 1], of the covariance in the base, None for the rule of Ledoit & Wolf; `radii`
    False takes 0 for each radius."""

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
    radii: bool = True
    visual_eps: Annotated[float, real(gt=0, lt=1)] = DEFAULT_VISUAL_EPS
    visual_weight: Annotated[float, real(ge=0)] = DEFAULT_VISUAL_WEIGHT

    def fit(self, space: Space) -> FittedCalibrated:
        """Fit the base, and each antibody's radius. Raises SetupError where `guarded` meets an unknown class."""
        parts = Makings(self, space)
        return parts.fitted(self, space.bank.worded, parts.calibrate(space.bank.worded), space.bank.visual)


@plain_dataclass(frozen=True, eq=False)
class Makings:
    """What calibrated scores on one space are made of, computed when first needed, and once.

    They may differ from `score` in weights (w, v, beta, those of visual antibodies) and banks: `fitted`. With `crossed`
    the radii are found without each part of the fit images too (evaluation.space.Feedback.parts). The space's own bank
    plays no part.
    """

    score: Calibrated
    space: Space
    crossed: bool = False

    def calibrate(self, bank: Bank) -> Calibration:
        """Return the radii of antibodies with texts. Raises SetupError where `guarded` meets an unknown class."""
        score, everyone = self.score, np.full(len(bank), EVERY_CLASS)
        guards = _guards(bank, self.space.classes, every_known=score.guarded)
        contextual = np.array([kind == "contextual" for kind in bank.kinds], dtype=bool)
        return self._calibrator.calibrate(
            bank.vectors.astype(np.float64),
            np.where(contextual, guards, EVERY_CLASS) if score.class_radii else everyone,
            guards if score.guarded else everyone,
            eps=score.eps,
            class_eps=score.class_eps,
            zero=not score.radii,
        )

    def fitted(self, score: Calibrated, bank: Bank, calibration: Calibration, visual: Bank) -> FittedCalibrated:
        """Return a score with a bank of texts, its `calibration`, and with visual antibodies."""
        base, sight = self.bases.base(score.w, score.v), None
        if len(visual) and self.space.fit is not None:
            sight = self.whitened.sight(visual.vectors, eps=score.visual_eps, weight=score.visual_weight)
        return FittedCalibrated(
            name=score.name,
            class_vectors=self.bases.texts if base.prototypes is None else base.prototypes,
            texts=self.bases.texts,
            base=base,
            bank=bank.concat(visual),
            sight=sight,
            antibodies=bank.vectors.astype(np.float64),
            radii=calibration.radii[0],
            guards=calibration.reach[0],
            drawn=calibration.drawn,
            parted=calibration if len(calibration.radii) > 1 else None,
            beta=score.beta,
            margin=score.margin,
            combine=score.combine,
            parameters=score,
        )

    @cached_property
    def bases(self) -> Bases:
        """Of these the scores' bases are made."""
        score = self.score
        return Bases(self.space, score.base, score.alpha, score.xi, score.shrinkage)

    @cached_property
    def whitened(self) -> Whitened:
        """In this space visual antibodies are. Raises SetupError for a space without fit images."""
        return Whitened.of(fit_images(self.space, VISUAL).images.features, float(self.bases.closeness.std()))

    @cached_property
    def _calibrator(self) -> Calibrator:
        fit, feedback = self.space.fit, self.space.feedback
        features = fit.features if fit is not None else np.zeros((0, self.space.dim), np.float32)
        parts = feedback.parts if self.crossed and feedback is not None else None
        return Calibrator.of(features, self.bases.texts, margin=self.score.margin, parts=parts)


def _guards(bank: Bank, classes: tuple[str, ...], *, every_known: bool) -> IntArray:
    """(A,) the class each antibody guards, EVERY_CLASS for none in particular; an unknown one is refused or is none."""
    index = {"": EVERY_CLASS} | {name: k for k, name in enumerate(classes)}
    for text, guards in zip(bank.texts, bank.guards, strict=True):
        if every_known and guards not in index:
            raise SetupError(
                f"the antibody '{text}' guards '{guards}', which is no known class{did_you_mean(guards, classes)}"
            )
    return np.array([index.get(name, EVERY_CLASS) for name in bank.guards], dtype=np.int64)


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
    parted: Calibration | None = None
    """Those radii, and the ones without each part of the fit images; None where no part was left out."""
    parameters: Calibrated
    """What it was fitted with, the choices of who fitted it included."""

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
        text_cosines = product(x, self.texts)
        near = near_classes(text_cosines, self.margin)
        rest = np.zeros(len(x)) if self.sight is None else self.sight.taken(x)
        return RepelledImages(x, self.base.values(x, text_cosines), near, text_cosines.argmax(axis=1), rest)

    def _beyond(self, images: RepelledImages) -> Floats:
        """c(x, a_j) - r_j (b, A), -inf where j may not fire; exceeds `near` where j fires."""
        beyond = product(images.points, self.antibodies)
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

"""Judges known images as new ones: by other images than the score was fitted on, or each by a fit without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evaluation.scores.calibrated import FittedCalibrated
from evaluation.shield.head import Head, JudgedArrays
from evaluation.space import Feedback, Space
from immuno_core.errors import SetupError
from immuno_core.features import IntArray


def with_known(space: Space) -> Space:
    """Return the space with known images to calibrate on and no outliers: those of the feedback, else the fit images.

    Raises SetupError where there are neither.
    """
    if space.feedback is not None:
        return replace(space, feedback=replace(space.feedback, outliers={}))
    if space.fit is None or space.fit_labels is None:
        raise SetupError("a shield needs known images for its threshold: give [data.fit] or [data.feedback_id]")
    return replace(space, feedback=Feedback.cross_fitted(space.fit, space.fit_labels, {}, seed=0))


def judge_known(space: Space, fitted: FittedCalibrated) -> JudgedArrays:
    """Return what the score says of the known feedback images (n,) of a space as `with_known` gives it.

    Where these are the fit images, each part of them is judged by the score fitted without it, with the same settings
    and antibodies.
    """
    if space.feedback is None:
        raise SetupError("there are no known images to calibrate on")
    known, parts = space.feedback.known, space.feedback.parts
    if parts is None:
        return Head.of(fitted).judge(known.features)
    rows: list[IntArray] = [np.flatnonzero(parts == part) for part in np.unique(parts)]
    found = [
        Head.of(fitted.parameters.fit(replace(space.without(int(parts[some[0]])), bank=fitted.bank))).judge(
            known.features[some]
        )
        for some in rows
    ]
    order = np.argsort(np.concatenate(rows))
    return JudgedArrays(*(np.concatenate(values)[order] for values in zip(*found, strict=True)))

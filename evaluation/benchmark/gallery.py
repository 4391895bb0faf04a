"""Which sealed outliers to show people: those that the baseline wrongly accepts, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.benchmark.fields import Number, Part, Text
from evaluation.metrics import threshold_at
from evaluation.scores.base import FittedScore
from evaluation.scores.calibrated import FittedCalibrated
from immuno_core.features import FeatureSet, Floats, IntArray

MOST_PER_SET = 12


class GalleryItem(Part):
    """One outlier that the method `before` accepts. Scores of the two methods are on scales of their own."""

    set: Text = ""
    image: str
    label: Text = ""
    nearest_class: Text = ""
    score_before: Number = None
    threshold_before: Number = None
    accepted_before: bool = False
    score_after: Number = None
    threshold_after: Number = None
    accepted_after: bool = False
    antibody: str | None = None
    """The antibody with the largest exceedance on it; None where none fires."""


def gallery(
    outliers: Sequence[FeatureSet],
    classes: Sequence[str],
    before: Mapping[str, Floats],
    after: Mapping[str, Floats],
    fitted: FittedScore,
) -> tuple[GalleryItem, ...]:
    """Return at most MOST_PER_SET images of each outlier set, spread evenly over the scores of the method before.

    `before` and `after` map set names, "id" among them, to the scores of the two methods; `fitted` is the method after.
    """
    thresholds = threshold_at(before["id"]), threshold_at(after["id"])
    return tuple(
        item
        for images in outliers
        for item in _items(images, classes, before[images.name], after[images.name], thresholds, fitted)
    )


def _items(
    images: FeatureSet,
    classes: Sequence[str],
    before: Floats,
    after: Floats,
    thresholds: tuple[float, float],
    fitted: FittedScore,
) -> list[GalleryItem]:
    rows = _spread(np.flatnonzero(before >= thresholds[0]), before)
    if not len(rows):
        return []
    features = images.features[rows]
    nearest = fitted.predict(features)
    caught_by = fitted.exceedance(features).antibody if isinstance(fitted, FittedCalibrated) else np.full(len(rows), -1)
    return [
        GalleryItem(
            set=images.name,
            image=images.paths[row],
            label=images.label_names[row],
            nearest_class=classes[nearest[i]],
            score_before=float(before[row]),
            threshold_before=thresholds[0],
            accepted_before=True,
            score_after=float(after[row]),
            threshold_after=thresholds[1],
            accepted_after=bool(after[row] >= thresholds[1]),
            antibody=fitted.bank.antibodies[caught_by[i]].described
            if isinstance(fitted, FittedCalibrated) and caught_by[i] >= 0
            else None,
        )
        for i, row in enumerate(rows)
    ]


def _spread(rows: IntArray, scores: Floats) -> IntArray:
    """Return a bounded number of rows, evenly over the ranking by score."""
    ranked = rows[np.argsort(-scores[rows], kind="stable")]
    if len(ranked) <= MOST_PER_SET:
        return ranked
    picks = np.linspace(0, len(ranked) - 1, MOST_PER_SET).round().astype(np.int64)
    return np.take(ranked, picks)

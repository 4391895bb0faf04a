"""The metrics written down a second time, as naively as possible: one threshold, one pair of images at a time.

Nothing here shares code with the package. Scores and flags are plain lists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .reference import auroc, fpr95_id, fpr95_ood, threshold

Numbers = Sequence[float]

__all__ = ["aupr_in", "aupr_out", "auroc", "deployed", "fpr95_id", "fpr95_ood", "h_score", "oscr", "threshold"]


def precision_and_recall(positives: Numbers, negatives: Numbers) -> list[tuple[float, float]]:
    """The points of the curve, from the highest threshold to the lowest."""
    points = []
    for t in sorted({*positives, *negatives}, reverse=True):
        true, false = sum(p >= t for p in positives), sum(n >= t for n in negatives)
        points.append((true / (true + false), true / len(positives)))
    return points


def average_precision(positives: Numbers, negatives: Numbers) -> float:
    """Steps: the precision at a threshold for all the recall that it adds."""
    area, before = [], 0.0
    for precision, recall in precision_and_recall(positives, negatives):
        area.append((recall - before) * precision)
        before = recall
    return math.fsum(area)


def trapezoid_under_precision(positives: Numbers, negatives: Numbers) -> float:
    """Straight lines between the points instead, from (recall 0, precision 1): what pytorch-ood calls AUPR."""
    area, last, before = [], 1.0, 0.0
    for precision, recall in precision_and_recall(positives, negatives):
        area.append((recall - before) * (precision + last) / 2)
        last, before = precision, recall
    return math.fsum(area)


def aupr_in(known: Numbers, outliers: Numbers) -> float:
    return average_precision(known, outliers)


def aupr_out(known: Numbers, outliers: Numbers) -> float:
    return average_precision([-o for o in outliers], [-k for k in known])


def oscr(known: Numbers, right: Sequence[bool], outliers: Numbers) -> float:
    """The curve point by point, from the threshold that accepts nothing, with straight lines between the points."""
    area, ccr, fpr = [], 0.0, 0.0
    for t in sorted({*known, *outliers}, reverse=True):
        next_ccr = sum(k >= t and hit for k, hit in zip(known, right, strict=True)) / len(known)
        next_fpr = sum(o >= t for o in outliers) / len(outliers)
        area.append((next_fpr - fpr) * (ccr + next_ccr) / 2)
        ccr, fpr = next_ccr, next_fpr
    return math.fsum(area)


def h_score(accuracy: float, area: float) -> float:
    return 0.0 if accuracy == 0 or area == 0 else 1 / ((1 / accuracy + 1 / area) / 2)


def deployed(
    known: Numbers, right: Sequence[bool], outliers: Numbers, at: float
) -> tuple[float, float, float, float | None]:
    accepted = [hit for k, hit in zip(known, right, strict=True) if k >= at]
    rejected = [o for o in outliers if not o >= at]
    accuracy = sum(accepted) / len(accepted) if accepted else None
    return at, len(accepted) / len(known), len(rejected) / len(outliers), accuracy

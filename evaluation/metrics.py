"""How well a score tells known images from outliers. Every metric is a share in [0, 1].

All take known scores (n,) and outlier scores (m,), n, m >= 1; higher = more in-distribution; an image is accepted iff
score >= threshold. All raise SetupError for an empty array and for NaN; infinities rank as numbers do. A score that is
the same for every image gives AUROC 0.5, both FPR95 1, as AUPR the share of positives, and as OSCR half the accuracy.

Papers call two different things FPR95; see `fpr95_id` and `fpr95_ood`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from immuno_core.errors import SetupError
from immuno_core.features import IntArray

Scores = NDArray[np.float64]
Bools = NDArray[np.bool_]
ACCEPTANCE = 0.95


def auroc(id_scores: Scores, outlier_scores: Scores) -> float:
    """Return the probability that a known image scores above an outlier, ties counting half (Mann-Whitney)."""
    known, outliers = checked(id_scores, "known"), np.sort(checked(outlier_scores, "outlier"))
    return twice_pairs_won(known, outliers) / (2 * known.size * outliers.size)


def twice_pairs_won(id_scores: Scores, sorted_outliers: Scores) -> int:
    """Return over all pairs: 2 where the known image scores higher, 1 for a tie. An integer, so sums of it are
    exact."""
    below = np.searchsorted(sorted_outliers, id_scores, side="left")
    not_above = np.searchsorted(sorted_outliers, id_scores, side="right")
    return int(below.sum()) + int(not_above.sum())


def aupr_in(id_scores: Scores, outlier_scores: Scores) -> float:
    """Return the average precision with known images as positives: sum over thresholds of (R_i - R_{i-1}) P_i."""
    return _average_precision(checked(id_scores, "known"), checked(outlier_scores, "outlier"))


def aupr_out(id_scores: Scores, outlier_scores: Scores) -> float:
    """Return the average precision with outliers as positives, ranked by the negated score."""
    return _average_precision(-checked(outlier_scores, "outlier"), -checked(id_scores, "known"))


def fpr95_id(id_scores: Scores, outlier_scores: Scores, acceptance: float = ACCEPTANCE) -> float:
    """Return the share of outliers accepted at the threshold that accepts 95 % of known images (MCM, NegLabel, EOE)."""
    threshold = threshold_at(id_scores, acceptance)
    return float(np.mean(checked(outlier_scores, "outlier") >= threshold))


def fpr95_ood(id_scores: Scores, outlier_scores: Scores, rejection: float = ACCEPTANCE) -> float:
    """Return the share of known images rejected at the threshold that rejects 95 % of outliers (OpenOOD, pytorch-ood).

    It is `fpr95_id` with the roles exchanged and the scores negated; a known image that ties with the threshold counts
    as rejected.
    """
    return fpr95_id(-checked(outlier_scores, "outlier"), -checked(id_scores, "known"), rejection)


def threshold_at(scores: Scores, acceptance: float = ACCEPTANCE) -> float:
    """Return the largest threshold that accepts at least the share `acceptance` of the scores (n,).

    It is the order statistic sorted(descending)[ceil(acceptance n) - 1]: always one of the scores, exact for small n
    and for ties, where an interpolated quantile is wrong. Raises SetupError for a share outside (0, 1].
    """
    known = checked(scores, "known")
    rank = rank_of_share(acceptance, known.size)
    return float(np.partition(known, known.size - rank)[known.size - rank])


def rank_of_share(share: float, count: int) -> int:
    """Return ceil(share * count), from 1 to count, in spite of products like 0.07 * 100 = 7.000000000000001.

    Raises SetupError for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise SetupError(f"an acceptance of {share}; give a share above 0 and up to 1, such as 0.95")
    return min(count, max(1, math.ceil(share * count - 1e-9)))


def id_accuracy(predicted: IntArray, labels: IntArray) -> float:
    """Return the share of known images (n,) whose predicted class is their own, accepted or not.

    Raises SetupError for no images or arrays of unequal shape.
    """
    if predicted.shape != labels.shape or predicted.ndim != 1 or not predicted.size:
        raise SetupError(f"accuracy needs a prediction per image, not {predicted.shape} for {labels.shape}")
    return float(np.mean(predicted == labels))


def h_score(id_accuracy: float, auroc: float) -> float:
    """Return the harmonic mean 2 a b / (a + b) of ID accuracy a and AUROC b; 0 where both are 0.

    What the Immuno-VLM paper calls H-score it does not define; this fits its figures.
    """
    total = id_accuracy + auroc
    return 2 * id_accuracy * auroc / total if total > 0 else 0.0


def oscr(id_scores: Scores, right: Bools, outlier_scores: Scores) -> float:
    """Return the area under correct classification rate against false positive rate (Dhamija et al., NeurIPS 2018).

    At a threshold, CCR is the share of known images that are accepted and `right` (n,) classified, and FPR the share of
    outliers accepted. The curve runs from (0, 0) through the points of all thresholds, joined by straight lines
    (trapezoids), to (1, ID accuracy). So scores that tie count half, and the area is the AUROC in which a wrongly
    classified known image wins no pair: at most the ID accuracy, and the AUROC where all are right.
    """
    known, outliers = checked(id_scores, "known"), np.sort(checked(outlier_scores, "outlier"))
    won = twice_pairs_won(known[checked_right(right, known)], outliers)
    return won / (2 * known.size * outliers.size)


class Deployed(NamedTuple):
    """What a shield with this threshold does, as shares in [0, 1]."""

    threshold: float
    acceptance: float
    """Share of known images accepted."""
    rejection: float
    """Share of outliers rejected."""
    accepted_accuracy: float | None
    """Share of the accepted known images that are rightly classified; None where none is accepted."""


def deployed(id_scores: Scores, right: Bools, outlier_scores: Scores, threshold: float) -> Deployed:
    """Return how a threshold, chosen on other images, fares on these; `right` (n,): the known image's class was hit.

    Raises SetupError for a threshold that is NaN.
    """
    if math.isnan(threshold):
        raise SetupError("the threshold is NaN, which accepts nothing; choose one with evaluation.metrics.threshold_at")
    known, outliers = checked(id_scores, "known"), checked(outlier_scores, "outlier")
    accepted = known >= threshold
    right_accepted = checked_right(right, known)[accepted]
    return Deployed(
        threshold=float(threshold),
        acceptance=float(np.mean(accepted)),
        rejection=float(np.mean(outliers < threshold)),
        accepted_accuracy=float(np.mean(right_accepted)) if right_accepted.size else None,
    )


def _average_precision(positives: Scores, negatives: Scores) -> float:
    """Precision at every positive's score, ties taken together, averaged over the positives."""
    positives, negatives = np.sort(positives), np.sort(negatives)
    thresholds, counts = np.unique(positives, return_counts=True)
    true = positives.size - np.searchsorted(positives, thresholds, side="left")
    false = negatives.size - np.searchsorted(negatives, thresholds, side="left")
    return float(np.sum(counts * (true / (true + false))) / positives.size)


def checked(scores: Scores, whose: str) -> Scores:
    """Return scores as float64 (n,), n >= 1. Raises SetupError for another shape, an empty array, and NaN."""
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise SetupError(f"no {whose} scores to measure on (an array of shape {array.shape}); the set has no images")
    if bad := int(np.isnan(array).sum()):
        raise SetupError(f"{bad} of {array.size} {whose} scores are NaN; a score must rank every image")
    return array


def checked_right(right: Bools, id_scores: Scores) -> Bools:
    """Return which known images are rightly classified, (n,). Raises SetupError unless there is one bool per score."""
    array = np.asarray(right)
    if array.shape != id_scores.shape or array.dtype != np.bool_:
        raise SetupError(f"right or wrong must be one bool per known image, not {array.dtype} {array.shape}")
    return array

"""How well a score tells known images from outliers. Every metric is a share in [0, 1].

All take known scores (n,) and outlier scores (m,), n, m >= 1; higher = more in-distribution; an image is accepted iff
score >= threshold. All raise SetupError for an empty array and for NaN; infinities rank as numbers do. A score that is
the same for every image gives AUROC 0.5, both FPR95 1, and as AUPR the share of positives.

Papers call two different things FPR95; see `fpr95_id` and `fpr95_ood`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from evaluation.features import IntArray
from immuno.errors import SetupError

Scores = NDArray[np.float64]

ACCEPTANCE = 0.95


def auroc(id_scores: Scores, outlier_scores: Scores) -> float:
    """Return the probability that a known image scores above an outlier, ties counting half (Mann-Whitney)."""
    known, outliers = _checked(id_scores, "known"), np.sort(_checked(outlier_scores, "outlier"))
    return twice_pairs_won(known, outliers) / (2 * known.size * outliers.size)


def twice_pairs_won(id_scores: Scores, sorted_outliers: Scores) -> int:
    """Return over all pairs: 2 where the known image scores higher, 1 for a tie. An integer, so sums of it are
    exact."""
    below = np.searchsorted(sorted_outliers, id_scores, side="left")
    not_above = np.searchsorted(sorted_outliers, id_scores, side="right")
    return int(below.sum()) + int(not_above.sum())


def aupr_in(id_scores: Scores, outlier_scores: Scores) -> float:
    """Return the average precision with known images as positives: sum over thresholds of (R_i - R_{i-1}) P_i."""
    return _average_precision(_checked(id_scores, "known"), _checked(outlier_scores, "outlier"))


def aupr_out(id_scores: Scores, outlier_scores: Scores) -> float:
    """Return the average precision with outliers as positives, ranked by the negated score."""
    return _average_precision(-_checked(outlier_scores, "outlier"), -_checked(id_scores, "known"))


def fpr95_id(id_scores: Scores, outlier_scores: Scores, acceptance: float = ACCEPTANCE) -> float:
    """Return the share of outliers accepted at the threshold that accepts 95 % of known images (MCM, NegLabel, EOE)."""
    threshold = threshold_at(id_scores, acceptance)
    return float(np.mean(_checked(outlier_scores, "outlier") >= threshold))


def fpr95_ood(id_scores: Scores, outlier_scores: Scores, rejection: float = ACCEPTANCE) -> float:
    """Return the share of known images rejected at the threshold that rejects 95 % of outliers (OpenOOD, pytorch-ood).

    It is `fpr95_id` with the roles exchanged and the scores negated; a known image that ties with the threshold counts
    as rejected.
    """
    return fpr95_id(-_checked(outlier_scores, "outlier"), -_checked(id_scores, "known"), rejection)


def threshold_at(scores: Scores, acceptance: float = ACCEPTANCE) -> float:
    """Return the largest threshold that accepts at least the share `acceptance` of the scores (n,).

    It is the order statistic sorted(descending)[ceil(acceptance n) - 1]: always one of the scores, exact for small n
    and for ties, where an interpolated quantile is wrong. Raises SetupError for a share outside (0, 1].
    """
    known = _checked(scores, "known")
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


def _average_precision(positives: Scores, negatives: Scores) -> float:
    """Precision at every positive's score, ties taken together, averaged over the positives."""
    positives, negatives = np.sort(positives), np.sort(negatives)
    thresholds, counts = np.unique(positives, return_counts=True)
    true = positives.size - np.searchsorted(positives, thresholds, side="left")
    false = negatives.size - np.searchsorted(negatives, thresholds, side="left")
    return float(np.sum(counts * (true / (true + false))) / positives.size)


def _checked(scores: Scores, whose: str) -> Scores:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise SetupError(f"no {whose} scores to measure on (an array of shape {array.shape}); the set has no images")
    if bad := int(np.isnan(array).sum()):
        raise SetupError(f"{bad} of {array.size} {whose} scores are NaN; a score must rank every image")
    return array

"""What AUROC, threshold and acceptance become when a few of many scores change, without ranking all of them again.

An antibody acts only on the images on which it fires. Ranking every image for every antibody would cost A times n log
n; this costs A times c log n for c changed images, and gives the same numbers, since pairs are counted as integers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.features import IntArray
from evaluation.metrics import rank_of_share, threshold_at, twice_pairs_won

Floats = NDArray[np.float64]


class Change(NamedTuple):
    """New scores (c,) for the images in `rows` (c,); no row twice."""

    rows: IntArray
    scores: Floats


NO_CHANGE = Change(np.zeros(0, np.int64), np.zeros(0))


class RankedScores:
    """Scores (n,) of one image set, sorted once. Raises SetupError for an empty set and for NaN."""

    def __init__(self, scores: Floats) -> None:
        self.scores = scores
        self.ordered = np.sort(scores)

    def __len__(self) -> int:
        return len(self.scores)

    def threshold(self, acceptance: float, change: Change = NO_CHANGE) -> float:
        """Return the threshold that accepts the share `acceptance` of the scores after a change."""
        before = float(self.ordered[len(self.ordered) - rank_of_share(acceptance, len(self.ordered))])
        old, new = self.scores[change.rows], change.scores
        # An order statistic moves only where a score crosses it, or leaves it or joins it.
        if np.array_equal(np.sign(old - before), np.sign(new - before)):
            return before
        changed = self.scores.copy()
        changed[change.rows] = new
        return threshold_at(changed, acceptance)

    def accepted(self, threshold: float, change: Change = NO_CHANGE) -> int:
        """Return how many scores are at or above a threshold after a change."""
        unchanged = len(self.ordered) - int(np.searchsorted(self.ordered, threshold, side="left"))
        gone = int(np.count_nonzero(self.scores[change.rows] >= threshold))
        return unchanged - gone + int(np.count_nonzero(change.scores >= threshold))

    def flipped(self, threshold: float, change: Change, *, to_rejected: bool) -> NDArray[np.bool_]:
        """Return which changed images (c,) are accepted before and rejected after; the other way round if not."""
        old, new = self.scores[change.rows] >= threshold, change.scores >= threshold
        return old & ~new if to_rejected else ~old & new


class RankedPair:
    """Known images and one outlier set, with `won`: twice the pairs in which the known image scores higher."""

    def __init__(self, known: RankedScores, outliers: RankedScores) -> None:
        self.known, self.outliers = known, outliers
        self.won = twice_pairs_won(known.scores, outliers.ordered)

    def auroc_of(self, won: int) -> float:
        """Return the AUROC, or a difference of AUROCs, that a count of pairs (as in `won`) means."""
        return won / (2 * len(self.known) * len(self.outliers))

    def won_after(self, known: Change, outliers: Change) -> int:
        """Return what `won` is after both changes.

        Pairs of a changed image with all images are recounted; pairs of two changed images, counted from both sides,
        are put right. Exact.
        """
        old_known, old_outliers = self.known.scores[known.rows], np.sort(self.outliers.scores[outliers.rows])
        new_outliers = np.sort(outliers.scores)
        won = self.won
        won += twice_pairs_won(known.scores, self.outliers.ordered) - twice_pairs_won(old_known, self.outliers.ordered)
        won += _twice_pairs_lost(new_outliers, self.known) - _twice_pairs_lost(old_outliers, self.known)
        won += twice_pairs_won(known.scores, new_outliers) - twice_pairs_won(known.scores, old_outliers)
        won += twice_pairs_won(old_known, old_outliers) - twice_pairs_won(old_known, new_outliers)
        return won


def _twice_pairs_lost(outliers: Floats, known: RankedScores) -> int:
    """Twice the pairs in which one of the outliers (c,) scores below a known image; one for a tie."""
    return 2 * len(known) * len(outliers) - twice_pairs_won(outliers, known.ordered)

"""What AUROC, threshold and acceptance become when a few of many scores change, without ranking all of them again.

Where an antibody acts on few images, ranking every image again for every antibody would cost A times n log n; this
costs A times c log n for c changed images. Both give the same numbers, since pairs are counted as integers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evaluation.metrics import rank_of_share, threshold_at
from immuno_core.features import Floats, IntArray

Rows = IntArray | slice
"""Some images by their rows, or all of them: ALL."""
ALL = slice(None)


class Change(NamedTuple):
    """New scores (c,) for the images in `rows` (c,), no row twice, or (n,) for ALL."""

    rows: Rows
    scores: Floats


NO_CHANGE = Change(np.zeros(0, np.int64), np.zeros(0))


class RankedScores:
    """Scores (n,) of one image set, sorted once. Raises SetupError for an acceptance outside (0, 1]."""

    def __init__(self, scores: Floats) -> None:
        self.scores, self.size = scores, len(scores)
        self.order: IntArray = np.argsort(scores)
        self.ordered = scores[self.order]

    def threshold(self, acceptance: float) -> float:
        """Return the threshold that accepts the share `acceptance` of the scores."""
        return float(self.ordered[self.size - rank_of_share(acceptance, self.size)])

    def accepted(self, threshold: float) -> int:
        """Return how many scores are at or above a threshold."""
        return self.size - int(self.ordered.searchsorted(threshold))


class ChangedScores:
    """The scores (n,) of a set after a change: `new` (c,) for what was `old` (c,) in the images `rows`."""

    def __init__(self, before: RankedScores, change: Change) -> None:
        self.before, self.size = before, before.size
        self.rows, self.new = change
        self.old = before.scores[change.rows]

    def threshold(self, acceptance: float) -> float:
        """Return the threshold that accepts the share `acceptance` of the scores."""
        before = self.before.threshold(acceptance)
        # An order statistic moves only where a score crosses it, or leaves it or joins it.
        if np.array_equal(np.sign(self.old - before), np.sign(self.new - before)):
            return before
        changed = self.before.scores.copy()
        changed[self.rows] = self.new
        return threshold_at(changed, acceptance)

    def accepted(self, threshold: float) -> int:
        """Return how many scores are at or above a threshold."""
        came = np.count_nonzero(self.new >= threshold) - np.count_nonzero(self.old >= threshold)
        return self.before.accepted(threshold) + int(came)


class RankedPair:
    """Known images and one outlier set, with `won`: twice the pairs in which the known image scores higher."""

    def __init__(self, known: RankedScores, outliers: RankedScores) -> None:
        self.known, self.outliers = known, outliers
        self.won = twice_won(known.ordered, outliers.ordered)

    def auroc_of(self, won: int) -> float:
        """Return the AUROC, or a difference of AUROCs, that a count of pairs (as in `won`) means."""
        return won / (2 * self.known.size * self.outliers.size)

    def won_after(self, known: ChangedScores, outliers: ChangedScores) -> int:
        """Return what `won` is after both changes. Exact.

        What is new counts once and what is old counts once less: against all images of the other side, and against
        what is new and old there.
        """
        of_known, of_outliers = np.concatenate([known.new, known.old]), np.concatenate([outliers.new, outliers.old])
        signs, others = (np.repeat([1, -1], len(changed.new)) for changed in (known, outliers))
        order = of_outliers.argsort()
        signed = np.concatenate([[0], others[order].cumsum()])
        won = self.won
        won += int(signs @ _twice_below(of_known, self.outliers.ordered))
        won -= int(others @ _twice_below(of_outliers, self.known.ordered))
        of_outliers = of_outliers[order]
        won += int(signs @ sum(signed[of_outliers.searchsorted(of_known, side)] for side in ("left", "right")))
        return won


def twice_won(known: Floats, outliers: Floats) -> int:
    """Return `RankedPair.won`; one search per outlier, two only for those that tie.

    `known` is ascending; `outliers` may be in any order, and are found sooner the nearer that is to ascending.
    """
    below = known.searchsorted(outliers)
    twice = 2 * int(below.sum())
    tied = known.take(below, mode="clip") == outliers
    if tied.any():
        twice += int((known.searchsorted(outliers[tied], "right") - below[tied]).sum())
    return 2 * len(known) * len(outliers) - twice


def _twice_below(scores: Floats, ordered: Floats) -> IntArray:
    """(c,) for each score: 2 for each of the ascending ones below it, 1 for each that ties."""
    twice: IntArray = ordered.searchsorted(scores) + ordered.searchsorted(scores, "right")
    return twice

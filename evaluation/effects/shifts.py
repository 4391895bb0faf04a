"""From one set of scores to another: what changes in gain, harm, FPR95, AUROC and accuracy, for many changes at once.

One side stays fixed (no antibody, or the whole bank), the other is each antibody's own. Where an antibody changes few
scores only those are ranked (evaluation.effects.ranking); where it changes many, all are, several antibodies at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.effects.ranking import Change, ChangedScores, RankedPair, RankedScores, twice_won
from evaluation.metrics import rank_of_share
from immuno_core.features import Floats, IntArray

# Share of the images from which ranking all of them again is the faster way.
MANY = 1 / 16


class Shift(NamedTuple):
    """What an antibody changes on one outlier set; see `immuno_core.records.Effect`."""

    gain: float
    harm: float
    d_fpr95: float
    d_auroc: float
    d_id_accuracy: float


class Boundary:
    """The scores that every antibody's own are compared with: of the known images, then of each outlier set.

    `right` (n,) says which known images are rightly classified. With `sign` 1 these scores are those without the
    antibody, and a change leads to those with it; with -1 it is the other way round.
    """

    def __init__(
        self, scores: Sequence[RankedScores], right: NDArray[np.bool_], acceptance: float, *, sign: int
    ) -> None:
        self._known, *self._outliers = scores
        self._right, self._acceptance, self._sign = right, acceptance, sign
        self._pairs = [RankedPair(self._known, ranked) for ranked in self._outliers]
        self._threshold = self._known.threshold(acceptance)
        self._accepted = [ranked.accepted(self._threshold) for ranked in self._outliers]
        self._images = sum(ranked.size for ranked in scores)

    def shifts(self, changes: Sequence[Sequence[Change]]) -> list[list[Shift]]:
        """Return what each antibody changes, by outlier set; `changes` are by antibody and image set."""
        changed = sum(change.scores.size for of_antibody in changes for change in of_antibody)
        if changed > MANY * len(changes) * self._images:
            return self._of_many(changes)
        return [self._of_few(of_antibody) for of_antibody in changes]

    def _of_few(self, changes: Sequence[Change]) -> list[Shift]:
        every = zip((self._known, *self._outliers), changes, strict=True)
        known, *outliers = (ChangedScores(before, change) for before, change in every)
        own = known.threshold(self._acceptance)
        threshold = self._threshold if self._sign == 1 else own
        right = self._right[known.rows]
        came = np.count_nonzero(right & (known.new >= threshold)) - np.count_nonzero(right & (known.old >= threshold))
        harm = self._rejected(self._known, known, threshold)
        return [
            Shift(
                gain=self._rejected(pair.outliers, after, threshold),
                harm=harm,
                d_fpr95=self._sign * (after.accepted(own) - accepted) / after.size,
                d_auroc=self._sign * pair.auroc_of(pair.won_after(known, after) - pair.won),
                d_id_accuracy=self._sign * int(came) / known.size,
            )
            for accepted, pair, after in zip(self._accepted, self._pairs, outliers, strict=True)
        ]

    def _rejected(self, fixed: RankedScores, changed: ChangedScores, threshold: float) -> float:
        """The share of the images accepted without the antibody that are rejected with it."""
        without, having = (changed.old, changed.new) if self._sign == 1 else (changed.new, changed.old)
        accepted = (fixed if self._sign == 1 else changed).accepted(threshold)
        lost = int(np.count_nonzero((without >= threshold) & (having < threshold)))
        return lost / accepted if accepted else 0.0

    def _of_many(self, changes: Sequence[Sequence[Change]]) -> list[list[Shift]]:
        known, *outliers = (
            _after(before, of_set)
            for before, of_set in zip((self._known, *self._outliers), zip(*changes, strict=True), strict=True)
        )
        # Taking one of a bank out hardly changes the order; a stable sort makes use of that.
        ordered = np.sort(known, axis=1, kind="stable" if self._sign == -1 else None)
        own = ordered[:, self._known.size - rank_of_share(self._acceptance, self._known.size), None]
        threshold = np.full_like(own, self._threshold) if self._sign == 1 else own
        harm, came = self._rejected_of_many(self._known, known, threshold)
        shifts: list[list[Shift]] = [[] for _ in changes]
        for accepted, pair, after in zip(self._accepted, self._pairs, outliers, strict=True):
            gain, _ = self._rejected_of_many(pair.outliers, after, threshold)
            d_accepted = np.count_nonzero(after >= own, axis=1) - accepted
            if pair.outliers.ordered[0] == pair.outliers.ordered[-1]:
                # Their order says nothing (NegLabel's score is 1 without antibodies), and the search wants one.
                after.sort(axis=1)
            for i, of_antibody in enumerate(shifts):
                won = twice_won(ordered[i], after[i])
                of_antibody.append(
                    Shift(
                        gain=float(gain[i]),
                        harm=float(harm[i]),
                        d_fpr95=self._sign * int(d_accepted[i]) / pair.outliers.size,
                        d_auroc=self._sign * pair.auroc_of(won - pair.won),
                        d_id_accuracy=int(came[i]) / self._known.size,
                    )
                )
        return shifts

    def _rejected_of_many(self, fixed: RankedScores, changed: Floats, threshold: Floats) -> tuple[Floats, IntArray]:
        """(r,) the shares as in `_rejected`, and how many rightly classified known images are accepted more with it."""
        having, without = changed >= threshold, fixed.ordered >= threshold
        if self._sign == -1:
            having, without = without, having
        accepted = np.count_nonzero(without, axis=1)
        lost = np.count_nonzero(without & ~having, axis=1)
        came = np.zeros_like(lost)
        if fixed is self._known:
            right = self._right[fixed.order]
            came = np.count_nonzero(having & right, axis=1) - np.count_nonzero(without & right, axis=1)
        return lost / np.maximum(accepted, 1), came


def _after(before: RankedScores, changes: Sequence[Change]) -> Floats:
    """(r, n) all scores of a set after each of r changes, in the order of those before: mostly nearly sorted."""
    changed = np.empty((len(changes), before.size))
    for row, change in zip(changed, changes, strict=True):
        scores = change.scores
        if not isinstance(change.rows, slice):
            scores = before.scores.copy()
            scores[change.rows] = change.scores
        scores.take(before.order, out=row, mode="clip")
    return changed

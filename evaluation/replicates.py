"""The metrics of many resamples at once, from how often each image was drawn: what evaluation.bootstrap runs on.

Known images are sorted by score once, and outliers too. With counts in that order, the number of drawn outliers below
any known image is a cumulative sum, and so are true and false positives at every threshold. The definitions are those
of evaluation.metrics; a resample's numbers equal those of the arrays written out, image by image (tested).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import ACCEPTANCE, Bools, Scores, checked, checked_right, rank_of_share

METRICS = ("auroc", "aupr_in", "aupr_out", "fpr95_id", "fpr95_ood", "id_accuracy", "h_score", "oscr")

Ints = NDArray[np.intp]
Counts = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SortedScores:
    """One method's scores on known images and one outlier set: their ascending order, and where each stands.

    `known` (n,) and `outliers` (m,) are the orders (indices); `right` (n,) is in the order of `known`. Against known
    image i (in order), `below[i]` outliers and `known_below[i]` known images score less, and `not_above[i]` outliers at
    most the same; against outlier j, `known_not_above[j]` known images and `outliers_not_above[j]` outliers.
    """

    known: Ints
    outliers: Ints
    right: Floats
    below: Ints
    not_above: Ints
    known_below: Ints
    known_not_above: Ints
    outliers_not_above: Ints

    @classmethod
    def of(cls, id_scores: Scores, right: Bools, outlier_scores: Scores) -> Self:
        """Sort scores (n,), (n,), (m,). Raises SetupError as evaluation.metrics does."""
        id_scores, outlier_scores = checked(id_scores, "known"), checked(outlier_scores, "outlier")
        known, outliers = np.argsort(id_scores, kind="stable"), np.argsort(outlier_scores, kind="stable")
        a, b = id_scores[known], outlier_scores[outliers]
        return cls(
            known=known,
            outliers=outliers,
            right=checked_right(right, id_scores)[known].astype(np.float64),
            below=np.searchsorted(b, a, side="left"),
            not_above=np.searchsorted(b, a, side="right"),
            known_below=np.searchsorted(a, a, side="left"),
            known_not_above=np.searchsorted(a, b, side="right"),
            outliers_not_above=np.searchsorted(b, b, side="right"),
        )

    def measure(self, known_counts: Counts, outlier_counts: Counts, names: Collection[str]) -> dict[str, Floats]:
        """Return the metrics named, (R,) each, of R resamples: counts (R, n) and (R, m) in the order of the images."""
        return _Resamples(self, known_counts, outlier_counts).metrics(names)


class _Resamples:
    """Counts in the order of the scores, and what the metrics take from their cumulative sums. All (R, ...)."""

    def __init__(self, ordered: SortedScores, known_counts: Counts, outlier_counts: Counts) -> None:
        self.ordered = ordered
        self.n, self.m = ordered.known.size, ordered.outliers.size
        known = np.take(known_counts, ordered.known, axis=1)
        outliers = np.take(outlier_counts, ordered.outliers, axis=1)
        self.known, self.outliers = known.astype(np.float64), outliers.astype(np.float64)
        self.known_sums, self.outlier_sums = _cumulative(known), _cumulative(outliers)

    def metrics(self, names: Collection[str]) -> dict[str, Floats]:
        """Return the metrics named, (R,) each; what two of them need is computed once."""
        found: dict[str, Floats] = {}
        if {"auroc", "h_score", "oscr"} & set(names):
            beaten = np.take(self.outlier_sums, self.ordered.below, axis=1)
            beaten += np.take(self.outlier_sums, self.ordered.not_above, axis=1)
            twice_won = self.known * beaten
            pairs = 2 * self.n * self.m
            found["auroc"] = twice_won.sum(axis=1) / pairs
            found["oscr"] = _dot(twice_won, self.ordered.right) / pairs
        if {"id_accuracy", "h_score"} & set(names):
            found["id_accuracy"] = _dot(self.known, self.ordered.right) / self.n
        if "h_score" in names:
            found["h_score"] = _harmonic(found["id_accuracy"], found["auroc"])
        if "fpr95_id" in names:
            found["fpr95_id"] = self._fpr95_id()
        if "fpr95_ood" in names:
            found["fpr95_ood"] = self._fpr95_ood()
        if "aupr_in" in names:
            found["aupr_in"] = self._aupr_in()
        if "aupr_out" in names:
            found["aupr_out"] = self._aupr_out()
        return {name: found[name] for name in names}

    def _fpr95_id(self) -> Floats:
        rejected_at_most = self.n - rank_of_share(ACCEPTANCE, self.n)
        threshold = (self.known_sums[:, 1:] <= rejected_at_most).sum(axis=1)
        rejected = self._at(self.outlier_sums, self.ordered.below[threshold])
        return (self.m - rejected) / self.m

    def _fpr95_ood(self) -> Floats:
        threshold = (self.outlier_sums[:, 1:] < rank_of_share(ACCEPTANCE, self.m)).sum(axis=1)
        return self._at(self.known_sums, self.ordered.known_not_above[threshold]) / self.n

    def _aupr_in(self) -> Floats:
        true = self.n - np.take(self.known_sums, self.ordered.known_below, axis=1)
        false = self.m - np.take(self.outlier_sums, self.ordered.below, axis=1)
        return _dot(self.known, _precision(true, false)) / self.n

    def _aupr_out(self) -> Floats:
        true = np.take(self.outlier_sums, self.ordered.outliers_not_above, axis=1)
        false = np.take(self.known_sums, self.ordered.known_not_above, axis=1)
        return _dot(self.outliers, _precision(true, false)) / self.m

    @staticmethod
    def _at(sums: Counts, places: Ints) -> Floats:
        """Each resample's sum at its own place."""
        return np.take_along_axis(sums, places[:, None], axis=1)[:, 0].astype(np.float64)


def _cumulative(counts: Counts) -> Counts:
    """(R, n) -> (R, n + 1): how many were drawn of the first i in order."""
    sums = np.zeros((counts.shape[0], counts.shape[1] + 1), np.int32)
    np.cumsum(counts, axis=1, out=sums[:, 1:])
    return sums


def _dot(rows: Floats, weights: Floats) -> Floats:
    """Each row's product with the weights. Not by BLAS, whose threads cost more here than they bring."""
    product: Floats = np.einsum("rn,rn->r", rows, np.broadcast_to(weights, rows.shape))
    return product


def _precision(true: Counts, false: Counts) -> Floats:
    """Of those accepted, the share that is right. Where nothing is, nothing was drawn there: any number will do."""
    precision: Floats = true / np.maximum(true + false, 1)
    return precision


def _harmonic(a: Floats, b: Floats) -> Floats:
    """evaluation.metrics.h_score of arrays."""
    total = a + b
    return np.divide(2 * a * b, total, out=np.zeros_like(total), where=total > 0)

"""Paired, stratified bootstrap of the metrics (Efron & Tibshirani 1993): 95 % percentile intervals.

The metrics of many resamples are computed at once, from how often each image was drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import ACCEPTANCE, Bools, Scores, checked, checked_right, rank_of_share
from immuno_core.errors import SetupError, did_you_mean

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


REPLICATES = 1000
COVERAGE = 0.95
_MOST_COUNTS = 2**16
"""Of one block of replicates: its arrays stay in the processor's cache, and memory does not grow with replicates."""


class MethodScores(NamedTuple):
    """What a method says of the test images: higher = more in-distribution."""

    known: Scores
    """(n,) of the known images."""
    right: Bools
    """(n,) whether the predicted class of a known image is its own."""
    outliers: Mapping[str, Scores]
    """(m,) of each outlier set, by name."""


class Estimate(NamedTuple):
    """A figure on the images as they are, and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Replicates:
    """Metrics on the images as they are, `points` (M, S), and on R resamples of them, `values` (M, S, R), by metric.

    Of metrics that no outlier takes part in (id_accuracy) every set has the same.
    """

    methods: tuple[str, ...]
    sets: tuple[str, ...]
    points: Mapping[str, NDArray[np.float64]]
    values: Mapping[str, NDArray[np.float64]]

    def intervals(self, method: str, outlier_set: str) -> dict[str, tuple[float, float]]:
        """Return the interval of every metric of a method on one outlier set."""
        m, s = self._method(method), self._set(outlier_set)
        return {metric: _interval(found[m, s]) for metric, found in self.values.items()}

    def mean(self, metric: str, method: str, sets: Sequence[str] | None = None) -> Estimate:
        """Return the mean of a metric over outlier sets (default: all), each with the same weight."""
        m, chosen = self._method(method), self._sets(sets)
        return _estimate(self.points[metric][m, chosen].mean(), self.values[metric][m, chosen].mean(axis=0))

    def paired_difference(self, metric: str, first: str, second: str, sets: Sequence[str] | None = None) -> Estimate:
        """Return first minus second of the means over outlier sets (default: all), on the same resamples."""
        a, b, chosen = self._method(first), self._method(second), self._sets(sets)
        points, values = self.points[metric], self.values[metric]
        return _estimate(
            (points[a, chosen] - points[b, chosen]).mean(), (values[a, chosen] - values[b, chosen]).mean(axis=0)
        )

    def _method(self, name: str) -> int:
        return _place(self.methods, name, "method")

    def _set(self, name: str) -> int:
        return _place(self.sets, name, "outlier set")

    def _sets(self, names: Sequence[str] | None) -> list[int]:
        return [self._set(name) for name in (self.sets if names is None else names)]


def resample(
    scores: Mapping[str, MethodScores], *, seed: int, count: int = REPLICATES, names: Sequence[str] = METRICS
) -> Replicates:
    """Measure methods, by label, on `count` resamples of the test images. The same seed gives the same numbers.

    `names` are the metrics wanted. Memory: some integers per score of one outlier set, and the results. Raises
    SetupError for no method or set, methods that differ in their sets or numbers of images, and scores that
    evaluation.metrics refuses.
    """
    sets = _common_sets(scores)
    shape = (len(scores), len(sets))
    points = {name: np.empty(shape) for name in names}
    values = {name: np.empty((*shape, count)) for name in names}
    for s, outlier_set in enumerate(sets):
        ordered = [SortedScores.of(one.known, one.right, one.outliers[outlier_set]) for one in scores.values()]
        n, m = ordered[0].known.size, ordered[0].outliers.size
        for i, method in enumerate(ordered):
            as_they_are = method.measure(np.ones((1, n), np.int32), np.ones((1, m), np.int32), names)
            for name in names:
                points[name][i, s] = as_they_are[name][0]
        known_draws = _draws(n, count, seed, "known")
        outlier_draws = _draws(m, count, seed, "outliers", outlier_set)
        step = max(1, _MOST_COUNTS // max(n, m))
        for start in range(0, count, step):
            block = slice(start, min(start + step, count))
            rows = block.stop - block.start
            known_counts, outlier_counts = _take(known_draws, rows), _take(outlier_draws, rows)
            for i, method in enumerate(ordered):
                measured = method.measure(known_counts, outlier_counts, names)
                for name in names:
                    values[name][i, s, block] = measured[name]
    return Replicates(tuple(scores), sets, points, values)


def _draws(size: int, count: int, seed: int, *stratum: str) -> Iterator[Ints]:
    """Yield, per replicate, how often each image was drawn. One stream per stratum, whatever is measured beside it."""
    entropy = hashlib.sha256("\n".join(stratum).encode("utf-8", "surrogatepass")).digest()
    generator = np.random.Generator(np.random.SFC64([seed, int.from_bytes(entropy[:16], "big")]))
    for _ in range(count):
        yield np.bincount(generator.integers(0, size, size=size), minlength=size)


def _take(draws: Iterator[Ints], rows: int) -> Counts:
    return np.stack(list(islice(draws, rows)), dtype=np.int32)


def _interval(replicates: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(replicates, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def _estimate(point: float, replicates: NDArray[np.float64]) -> Estimate:
    return Estimate(float(point), *_interval(replicates))


def _common_sets(scores: Mapping[str, MethodScores]) -> tuple[str, ...]:
    """Return the names of the outlier sets, which all methods must have measured, image for image."""
    if not scores:
        raise SetupError("no method to resample; hand in the scores of at least one")
    first_label, first = next(iter(scores.items()))
    sets = tuple(first.outliers)
    if not sets:
        raise SetupError(f"method '{first_label}' was measured on no outlier set; give it at least one")
    for label, one in scores.items():
        if one.outliers.keys() != first.outliers.keys():
            raise SetupError(f"methods '{first_label}' and '{label}' were measured on different outlier sets")
        for what, a, b in [("known images", first.known, one.known)] + [
            (f"images of '{name}'", first.outliers[name], one.outliers[name]) for name in sets
        ]:
            if a.shape != b.shape:
                raise SetupError(f"'{first_label}' has {a.size} {what}, '{label}' {b.size}: pairing needs the same")
    return sets


def _place(names: tuple[str, ...], name: str, what: str) -> int:
    if name not in names:
        raise SetupError(f"no {what} '{name}' was resampled{did_you_mean(name, names)}")
    return names.index(name)

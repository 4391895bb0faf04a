"""Paired, stratified bootstrap of the metrics (Efron & Tibshirani 1993): 95 % percentile intervals.

The metrics of many resamples are computed at once (evaluation.metrics.Resamples), from how often each was drawn.

A replicate draws as many known images as there are, with replacement, and as many outliers of each set: the strata are
resampled apart, and each is one draw for all methods, so that differences between methods are paired; the known images
are one draw for all sets, so that means over sets are too. What is drawn depends only on the seed, the name of a set
and how many images there are: not on which methods and which other sets are measured. The intervals say how much the
figures would move with other test images of the same kind; not how much with another fit, bank or encoder.

    found = resample({label: MethodScores(known, right, {set: outliers, ...}), ...}, seed=0)
    found.values["fpr95_id"]                                   (M, S, R): methods and sets in the order given
    found.intervals("mcm", "textures")                         of every metric: ResultRow.intervals
    found.mean("fpr95_id", "mcm")                              the mean over sets, with its interval
    found.paired_difference("fpr95_id", "bank", "none")        of the means over sets
    right_difference(bank, none, thresholds, seed=0)           of the shares of known images accepted and right

For speed scores are sorted once. A replicate is then a count per image (how often it was drawn), and every metric comes
from cumulative counts in the sorted order: no replicate is sorted. All definitions are those of evaluation.metrics.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import ACCEPTANCE, METRICS, Bools, Counts, Ints, Scores, SortedScores, checked, rank_of_share
from immuno_core.errors import SetupError, did_you_mean

REPLICATES = 1000
COVERAGE = 0.95
MOST_COUNTS = 2**16
"""Of one block of replicates: its arrays stay in the processor's cache, and memory does not grow with replicates."""


class MethodScores(NamedTuple):
    """What a method says of the test images: higher = more in-distribution."""

    known: Scores
    """(n,) of the known images."""
    right: Bools
    """(n,) whether the predicted class of a known image is its own."""
    outliers: Mapping[str, Scores]
    """(m,) of each outlier set, by name."""
    fired: Bools | None = None
    """(n,) whether any antibody fires on a known image; None for a score whose antibodies are never silent."""


class Threshold(NamedTuple):
    """A deployed threshold, and the scores (f,) of the known feedback images that it accepts 95 % of.

    None: no image of the feedback set it, so none makes it uncertain.
    """

    value: float
    found_on: Scores | None = None


EVERYTHING = Threshold(-np.inf)
"""Accepts every image."""


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
        m, s = self._method(method), _place(self.sets, outlier_set, "outlier set")
        return {metric: _interval(found[m, s]) for metric, found in self.values.items()}

    def mean(self, metric: str, method: str) -> Estimate:
        """Return the mean of a metric over the outlier sets, each with the same weight."""
        m = self._method(method)
        return _estimate(self.points[metric][m].mean(), self.values[metric][m].mean(axis=0))

    def paired_difference(self, metric: str, first: str, second: str) -> Estimate:
        """Return first minus second of the means over the outlier sets, on the same resamples."""
        a, b = self._method(first), self._method(second)
        points, values = self.points[metric], self.values[metric]
        return _estimate((points[a] - points[b]).mean(), (values[a] - values[b]).mean(axis=0))

    def _method(self, name: str) -> int:
        return _place(self.methods, name, "method")


def resample(
    scores: Mapping[str, MethodScores], *, seed: int, count: int = REPLICATES, names: Sequence[str] | None = None
) -> Replicates:
    """Measure methods, by label, on `count` resamples of the test images. The same seed gives the same numbers.

    `names` are the metrics wanted (default: all of evaluation.metrics.METRICS that can be resampled). Memory: some
    integers per score of one outlier set, and the results. Raises SetupError for no method or set, methods that differ
    in their sets or numbers of images, and scores that evaluation.metrics refuses.
    """
    names = [name for name, metric in METRICS.items() if metric.resampled] if names is None else names
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
        step = max(1, MOST_COUNTS // max(n, m))
        for start in range(0, count, step):
            block = slice(start, min(start + step, count))
            rows = block.stop - block.start
            known_counts, outlier_counts = _take(known_draws, rows), _take(outlier_draws, rows)
            for i, method in enumerate(ordered):
                measured = method.measure(known_counts, outlier_counts, names)
                for name in names:
                    values[name][i, s, block] = measured[name]
    return Replicates(tuple(scores), sets, points, values)


def right_difference(
    first: MethodScores,
    second: MethodScores,
    thresholds: tuple[Threshold, Threshold] = (EVERYTHING, EVERYTHING),
    *,
    seed: int,
    count: int = REPLICATES,
) -> Estimate:
    """Return first minus second of the share of known images that are accepted and rightly classified.

    A replicate resamples the feedback images, and finds both thresholds on them anew: other feedback would have given
    others. Of the test images only those count that are accepted and right by one method alone. They are few, and
    resamples of few are too much alike (of none, all the same), so their shares are drawn as in the Bayesian bootstrap
    (Rubin 1981), for either end of the interval with one more image of the kind that moves it outward, as in the exact
    interval of a share (Clopper & Pearson 1934). Raises SetupError for methods that were measured, or thresholds that
    were found, on different images.
    """
    methods, n = (first, second), first.known.size
    if second.known.size != n:
        raise SetupError(f"one method has {n} known images, the other {second.known.size}: pairing needs the same")
    rng = np.random.default_rng(seed)
    cuts = np.repeat([[threshold.value] for threshold in thresholds], count, axis=1)
    found = [t for t, threshold in enumerate(thresholds) if threshold.found_on is not None]
    cuts[found] = thresholds_anew([one.found_on for one in thresholds if one.found_on is not None], count, rng)
    # Images that no replicate judges otherwise than another are counted once.
    same = np.ones(n, dtype=bool)
    for one, cut in zip(methods, cuts, strict=True):
        same &= ~one.right | (one.known < cut.min()) | (one.known >= cut.max())
    alone = np.zeros((2, count))
    for rows, of in ((np.flatnonzero(same), cuts[:, :1]), (np.flatnonzero(~same), cuts)):
        a, b = (one.right[rows] & (one.known[rows] >= cut[:, None]) for one, cut in zip(methods, of, strict=True))
        alone += [(a & ~b).sum(axis=1), (b & ~a).sum(axis=1)]
    of_first, of_second, others, one_more = rng.standard_gamma([*alone, n - alone.sum(axis=0), np.ones(count)])
    total = of_first + of_second + others + one_more
    low, _ = _interval((of_first - of_second - one_more) / total)
    _, high = _interval((of_first - of_second + one_more) / total)
    value = accepted_and_right(first, thresholds[0]) - accepted_and_right(second, thresholds[1])
    return Estimate(value, low, high)


def accepted_and_right(scores: MethodScores, threshold: Threshold) -> float:
    """Return the share of known images that are both."""
    return float(np.mean(scores.right & (scores.known >= threshold.value)))


def thresholds_anew(scores: Sequence[Scores], count: int, rng: np.random.Generator) -> Scores:
    """Return (M, R) the thresholds that accept 95 % of R resamples of known images, by M methods: (n,) scores each.

    One draw for all methods. A threshold is one of the lowest scores, so images that are among those of no method are
    drawn as one. Raises SetupError for methods with other images.
    """
    if not scores:
        return np.empty((0, count))
    n = len(checked(scores[0], "known"))
    if any(one.shape != (n,) for one in scores):
        raise SetupError(
            f"thresholds were found on {sorted({one.size for one in scores})} images: pairing needs the same"
        )
    below = n - rank_of_share(ACCEPTANCE, n)
    # Of the resample, fewer than `below` come from this many with a probability of less than 1e-7.
    lowest = min(n, below + 18 + 8 * math.isqrt(below))
    rows = np.unique([np.argpartition(one, lowest - 1)[:lowest] for one in scores])
    drawn = rng.binomial(n, len(rows) / n, size=count)
    places = np.repeat(np.arange(count), drawn) * len(rows) + rng.integers(len(rows), size=drawn.sum())
    counts = np.bincount(places, minlength=count * len(rows)).reshape(count, len(rows))
    found = np.empty((len(scores), count))
    for m, one in enumerate(scores):
        order = np.argsort(one[rows], kind="stable")
        at = (np.cumsum(counts[:, order], axis=1) <= below).sum(axis=1)
        found[m] = one[rows][order][np.minimum(at, len(rows) - 1)]
    return found


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

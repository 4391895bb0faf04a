"""Per-class acceptance thresholds from extreme-value theory: the score above which a stated share of known images lies.

Immuno-VLM (Fang, Fang & Ji, ICML 2026, arXiv 2605.30745), phase 4, fits a Weibull tail to the known scores of each
class, as Bendale & Boult did (CVPR 2016, arXiv 1511.06233). Of n scores s the lowest m are the tail; with
y = top - s the distances below its upper end,

    P(s <= tau) = (m / n) exp(-((top - tau) / scale)^shape)

shape and scale by maximum likelihood, and tau_k is where this is 1 - target. A class's score is accepted iff
s >= tau_k.

- m: the tail is five times as long as what the target rejects (a quarter of the scores at 95 %), but 50 scores at
  least, and all where there are fewer: a short tail wants every score, a long one should not bend to the bulk.
- top: the next score above the tail. Where the tail is everything, max + (max - mean) / n, which is the end of the
  support as far as n scores can tell (exactly unbiased, but for a factor (n - 1) / n, for shape 1).
- A class with fewer than `least` scores shares the tail of all classes together.
- Equal scores: where ties leave no tail to model (a constant score, or more ties at the bottom than the target
  rejects) tau is the order statistic of evaluation.metrics.threshold_at. Ties with tau are accepted.

What one must give: scores of images that made neither the prototypes nor the adapter (a held-out part, or left out one
at a time). Scores of images that made them are too high, and so the thresholds. The class of a score is the one under
which it will be judged: the *predicted* class, for a rule that goes by it.

Measured (normal, Weibull, gamma and heavy-tailed scores, target 95 %, 400 draws;
tests/evaluation/scores/test_thresholds.py repeats it): the root mean squared error of the realised acceptance is 0.06
to 0.08 with 10 scores, against 0.09 to 0.10 for the order statistic, 0.04 to 0.05 against 0.07 to 0.09 with 20, and
0.014 against 0.017 with 200. A class that is two populations is no Weibull: with one image in ten far below the rest
the acceptance is 0.93.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import ACCEPTANCE, threshold_at
from immuno_core.arrays import check_labels
from immuno_core.errors import SetupError
from immuno_core.features import Floats, IntArray

LEAST = 10
"""Scores from which a class has a tail of its own. With 5 its threshold is no better than a guess: see the tests."""
_SHORT_TAIL = 50
_TAIL_OF_REJECTED = 5.0
# Weibulls beyond these are points or have no end worth the name.
_SHAPES = (0.05, 1000.0)
# Distances that differ by less than this share of the largest are equal: nothing to fit.
_NO_SPREAD = 1e-9


class Weibull(NamedTuple):
    """P(y > t) = exp(-(t / scale)^shape), t >= 0."""

    shape: float
    scale: float

    def exceeded_by(self, share: float) -> float:
        """Return the t that a share of the y, in (0, 1], lies above."""
        return self.scale * math.exp(math.log(max(-math.log(share), 1e-300)) / self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class ClassThresholds:
    """Thresholds of K classes for the acceptance `target`.

    `tau` (K,); `own` (K,) bool, False for the classes that share a tail; `counts` (K,) scores; `shared` is their tau.
    """

    tau: Floats
    own: NDArray[np.bool_]
    counts: IntArray
    shared: float
    target: float

    @property
    def fell_back(self) -> IntArray:
        """The classes that share a tail: they have too few scores for one of their own."""
        return np.flatnonzero(~self.own)

    def margin(self, scores: Floats, classes: IntArray) -> Floats:
        """Return s - tau_k (n,) of scores (n,) of classes (n,): accepted iff it is not negative.

        Raises SetupError for classes that do not fit.
        """
        check_labels(classes, what="scores to judge", samples=len(scores), classes=len(self.tau))
        return scores - self.tau[classes]


def class_thresholds(
    scores: Floats, classes: IntArray, *, count: int, target: float = ACCEPTANCE, least: int = LEAST
) -> ClassThresholds:
    """Return the thresholds of `count` classes from known scores (n,), n >= 1, of classes (n,).

    See the module for which scores they must be. `target` in (0, 1) is the share of known images to accept.
    Raises SetupError for no scores, NaN or infinite ones, classes out of range, and parameters out of range.
    """
    if not 0 < target < 1:
        raise SetupError(f"target = {target}: the share of known images to accept is above 0 and below 1, such as 0.95")
    if least < 1:
        raise SetupError(f"least = {least}: a class needs at least 1 score for a tail of its own")
    known = np.asarray(scores, dtype=np.float64)
    if known.ndim != 1 or not known.size:
        raise SetupError(f"no known scores to set thresholds by (an array of shape {known.shape})")
    if bad := int(np.count_nonzero(~np.isfinite(known))):
        raise SetupError(f"{bad} of {known.size} known scores are NaN or infinite; thresholds need numbers")
    check_labels(classes, what="known scores", samples=known.size, classes=count)
    counts = np.bincount(classes, minlength=count)
    shared = tail_threshold(known, target)
    own = counts >= least
    tau = np.full(count, shared)
    # One sort instead of a search per class.
    by_class = np.split(known[np.argsort(classes, kind="stable")], np.cumsum(counts)[:-1])
    for k in np.flatnonzero(own):
        tau[k] = tail_threshold(by_class[k], target)
    return ClassThresholds(tau, own, counts, shared, target)


def tail_threshold(scores: Floats, target: float) -> float:
    """Return the score that a Weibull tail fitted to scores (n,), n >= 1, finite, says the share `target` reaches."""
    ordered = np.sort(scores)
    rejected = 1 - target
    size = max(_SHORT_TAIL, math.ceil(_TAIL_OF_REJECTED * rejected * len(ordered)))
    if size < len(ordered):
        top = float(ordered[size])
        tail = ordered[: np.searchsorted(ordered, top)]  # ties with the top are not below it
    else:
        top = float(ordered[-1] + (ordered[-1] - ordered.mean()) / len(ordered))
        tail = ordered
    share = len(tail) / len(ordered)
    fitted = fit_weibull(top - tail) if share > rejected else None
    if fitted is None:
        return threshold_at(ordered, target)
    return top - fitted.exceeded_by(rejected / share)


def fit_weibull(distances: Floats) -> Weibull | None:
    """Return the maximum-likelihood Weibull of distances (m,), location 0; None for equal ones and ones not above 0.

    The shape solves the profile equation sum(y^k ln y) / sum(y^k) - 1 / k = mean(ln y), whose left side rises with k.
    """
    from scipy.optimize import brentq  # only here: it takes longer to import than the rest of this module to run

    largest = float(distances.max(initial=0.0))
    if not len(distances) or distances.min() <= 0 or np.ptp(distances) <= _NO_SPREAD * largest:
        return None
    y = distances / largest
    logs = np.log(y)
    mean = float(logs.mean())

    def slope(shape: float) -> float:
        powers = y**shape
        return float((powers * logs).sum() / powers.sum() - 1 / shape - mean)

    low, high = _SHAPES
    shape = low if slope(low) >= 0 else high if slope(high) <= 0 else float(brentq(slope, low, high))
    return Weibull(shape, largest * float(np.mean(y**shape)) ** (1 / shape))

"""What the curves of the page are drawn from: the stored scores, ROC curves, histograms."""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import Scores, fpr95_id, rank_of_share, threshold_at

SCORES_FILE = "scores.npz"
KNOWN_SET = "id"
"""The name under which the known test images are stored."""
_BINS = 44
_CURVE_POINTS = 200


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores that are usable, by "method|set". `problem` says in one sentence why there are none, or is None."""

    arrays: dict[str, Scores]
    problem: str | None = None

    def pair(self, method: str, outlier_set: str) -> tuple[Scores, Scores] | None:
        """Scores (n,) of the known images and (m,) of the outliers; None unless both are there."""
        known, outliers = (self.arrays.get(f"{method}|{name}") for name in (KNOWN_SET, outlier_set))
        return None if known is None or outliers is None else (known, outliers)


def read_scores(folder: Path) -> ScoreTable:
    """Read `scores.npz`; a missing or broken file gives an empty table that says so. Never raises for what is in it."""
    path = folder / SCORES_FILE
    if not path.is_file():
        return ScoreTable({}, f"there is no {SCORES_FILE} in the results folder")
    arrays: dict[str, Scores] = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            for name in stored.files:
                scores = _usable(stored[name])
                if scores is not None:
                    arrays[name] = scores
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        return ScoreTable({}, f"{SCORES_FILE} could not be read ({type(error).__name__})")
    return ScoreTable(arrays)


def _usable(array: NDArray[np.generic]) -> Scores | None:
    """The array as scores (n,) float64, or None: a NaN can be neither ranked nor drawn."""
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "fiu":
        return None
    scores = array.astype(np.float64)
    return None if np.isnan(scores).any() else scores


@dataclass(frozen=True, slots=True)
class Curve:
    """A ROC curve: for a falling threshold, the share of outliers (k,) and of known images (k,) that are accepted."""

    outliers: Scores
    known: Scores
    at_95: float
    """Share of outliers accepted at the threshold that accepts 95 % of known images: fpr95_id."""


def roc_curve(known: Scores, outliers: Scores) -> Curve:
    """Trace the ROC curve through the thresholds that accept 0.5 %, 1 %, ... 100 % of known images."""
    ranks = [rank_of_share(k / _CURVE_POINTS, known.size) for k in range(1, _CURVE_POINTS + 1)]
    thresholds = np.sort(known)[known.size - np.array(ranks)]
    x, y = (np.concatenate([[0.0], _accepted(scores, thresholds), [1.0]]) for scores in (outliers, known))
    return Curve(x, y, at_95=fpr95_id(known, outliers))


def _accepted(scores: Scores, thresholds: Scores) -> Scores:
    """Shares (k,) of the scores (n,) at or above the thresholds (k,)."""
    rejected: Scores = np.searchsorted(np.sort(scores), thresholds, side="left") / scores.size
    return 1 - rejected


@dataclass(frozen=True, slots=True)
class Histogram:
    """Known images and outliers by score: shares per bin (k,), bin edges (k + 1,), and the 95 % threshold."""

    edges: Scores
    known: Scores
    outliers: Scores
    threshold: float
    """At an edge where it is infinite."""
    accepted_outliers: float


def histogram(known: Scores, outliers: Scores) -> Histogram:
    """Count scores in equal bins; the outermost 0.2 % on either side are counted in the outermost bins."""
    threshold = threshold_at(known)
    pooled = np.concatenate([known, outliers])
    finite = pooled[np.isfinite(pooled)]
    low, high = np.quantile(finite, [0.002, 0.998]) if finite.size else (0.0, 0.0)
    if math.isfinite(threshold):
        low, high = min(low, threshold), max(high, threshold)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    shares = [np.histogram(np.clip(s, low, high), edges)[0] / s.size for s in (known, outliers)]
    drawn = float(np.clip(threshold, low, high))
    return Histogram(edges, shares[0], shares[1], drawn, fpr95_id(known, outliers))

"""Visual antibodies: what the outliers of the feedback look like, in a few directions.

Ours, after memory cells, which keep what was met. The outliers are drawn into clusters (k-means on their embeddings,
Lloyd 1982, started as Arthur & Vassilvitskii, 2007, have it), and the mean of each is an antibody without a text. What
becomes of it in a score is in evaluation.scores.calibrated.

More clusters fit better what resembles the feedback and ruin the rest, so they are few; how many is chosen
(evaluation.scores.immuno_vlm).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.cluster.vq import kmeans2

from evaluation.space import Bank
from immuno_core.features import FeatureSet, FloatArray, Floats, IntArray
from immuno_core.records import VISUAL, Antibody

MOST_SAMPLES = 12
_STARTS = 3
_ROUNDS = 30
_KEYS = 4
"""Coordinates that order the outliers: no two images agree in so many."""
_NO_DIRECTION = 1e-9


def visual_antibodies(outliers: Mapping[str, FeatureSet], count: int) -> Bank:
    """Return `count` visual antibodies, or fewer where there are fewer outliers; deterministic.

    Each names the outliers nearest to it.
    """
    centres, own = clusters([images.features for images in outliers.values()], count)
    features = np.concatenate([images.features for images in outliers.values()])
    names = [f"{name}/{key}" for name, images in outliers.items() for key in images.ids]
    found = []
    for c, centre in enumerate(centres):
        members = np.flatnonzero(own == c)
        nearest = members[np.argsort(-(features[members] @ centre), kind="stable")][:MOST_SAMPLES]
        found.append(
            Antibody(
                text="",
                kind=VISUAL,
                id=f"{VISUAL}{c}",
                origin=VISUAL,
                rationale=f"the mean of {len(members)} outliers of the feedback",
                samples=tuple(names[i] for i in nearest),
            )
        )
    return Bank(tuple(found), centres)


class Clusters(NamedTuple):
    """`centres` (k, d), normalised means in float32, and `own` (n,), in whose cluster each outlier is."""

    centres: FloatArray
    own: IntArray


def clusters(outliers: Sequence[FloatArray], count: int) -> Clusters:
    """Draw outliers (n_i, d), one at least, into `count` clusters; fewer where there are fewer.

    Deterministic, and the same in whatever order the outliers come.
    """
    given = np.concatenate(outliers).astype(np.float64)
    order = np.lexsort(given.T[:_KEYS])
    x = given[order]
    best: tuple[float, Floats, IntArray] | None = None
    for start in range(_STARTS if count > 1 else 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an empty cluster, which is left out
            centres, own = kmeans2(x, min(count, len(x)), iter=_ROUNDS, minit="++", rng=start)
        spread = float(((x - centres[own]) ** 2).sum())
        if best is None or spread < best[0]:
            best = spread, centres, own
    assert best is not None  # noqa: S101 - there is a first start
    _, centres, of_ordered = best
    own = np.empty(len(x), dtype=np.int64)
    kept, own[order] = np.unique(of_ordered, return_inverse=True)
    centres = centres[kept]
    lengths = np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), _NO_DIRECTION)
    return Clusters((centres / lengths).astype(np.float32), own)

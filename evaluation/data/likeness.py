"""What image sets are like: the known images, or one another. Told, never acted on: both can be as it should be.

A set of outliers that in truth holds known images teaches a score to reject these. Of known images half lie nearer to
the known classes than the median of the fit images does, each of them left out; of outliers far fewer do, by closeness
(evaluation.scores.bases) or by typicality, whichever tells them apart better.

Two sets of one source tell how well what was seen is known again, not how outliers fare that nobody has seen. They lie
among each other: an image's nearest is in the other set as often as by chance (the test of Schilling, JASA 1986, and
Henze, 1988). A near-duplicate is far nearer to an image of the other set than to any of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from evaluation.scores.bases import Bases
from evaluation.scores.immuno_vlm import DEFAULT_SHRINKAGE
from evaluation.scores.prototypes import DEFAULT_ALPHA, DEFAULT_XI
from evaluation.space import Space
from immuno_core.arrays import blocks, in_blocks
from immuno_core.features import FeatureSet, FloatArray, Floats, IntArray

FEWEST = 20
"""Images, below which a set tells nothing of its kind."""
LIKE_KNOWN = 0.4
"""Share of a set's images nearer than the median fit image: 0.5 of known images, at most 0.2 of outliers (trial)."""
OF_ONE_SOURCE = 0.5
"""Of the share by chance: 0.8 to 1.1 for one source, at most 0.35 for sets that differ in kind (trial)."""
NEAR_DUPLICATES = 0.05
_DUPLICATE = 0.25
"""Of the squared distance to the nearest image of its own set."""
_MOST = 2000
"""Images of a set that are compared with all of another; evenly spread."""


def like_known(space: Space) -> dict[str, float]:
    """Return the share of images nearer to the known classes than the median fit image, of feedback sets of outliers
    that seem to hold known images: from `LIKE_KNOWN` on."""
    fit, feedback = space.fit, space.feedback
    judged = {n: s for n, s in (feedback.outliers.items() if feedback else ()) if len(s) >= FEWEST}
    if fit is None or len(fit) < FEWEST or not judged:
        return {}
    bases = Bases(space, "fused", DEFAULT_ALPHA, DEFAULT_XI, DEFAULT_SHRINKAGE)
    nearness, distance = float(np.median(bases.closeness)), float(np.median(bases.left_out.squared))

    def shares(x: Floats) -> Floats:
        near, typical = (x @ bases.prototypes.T).max(axis=1) >= nearness, bases.spread.squared(x) <= distance
        return np.stack([near, typical], axis=1).astype(np.float64)

    width = bases.spread.width + len(space.classes)
    found = {n: float(in_blocks(s.features, width, shares).mean(axis=0).min()) for n, s in judged.items()}
    return {name: share for name, share in found.items() if share >= LIKE_KNOWN}


class Kinship(NamedTuple):
    """Of a set's images that were compared, how many have their nearest in the other set, how many would by chance, and
    how many have a near-duplicate there."""

    compared: int
    there: int
    by_chance: float
    duplicates: int

    @property
    def close(self) -> bool:
        """Whether the two sets seem to be of one source."""
        return self.there >= OF_ONE_SOURCE * self.by_chance or self.duplicates >= NEAR_DUPLICATES * self.compared


def kinship(images: FeatureSet, other: FeatureSet) -> Kinship:
    """Compare a set (n, d), n >= 2, with another, n >= 1."""
    rows = np.unique(np.linspace(0, len(images) - 1, min(len(images), _MOST)).astype(np.int64))
    some = images.features[rows]
    own, there = _distance(some, images.features, rows), _distance(some, other.features, None)
    return Kinship(
        compared=len(rows),
        there=int(np.count_nonzero(there < own)),
        by_chance=len(rows) * len(other) / (len(other) + len(images) - 1),
        duplicates=int(np.count_nonzero(there < _DUPLICATE * own)),
    )


def kin(sets: Sequence[FeatureSet], others: Sequence[FeatureSet]) -> Iterator[tuple[FeatureSet, FeatureSet, Kinship]]:
    """Yield the pairs of sets that seem to be of one source, with what says so."""
    for images in sets:
        for other in others:
            if min(len(images), len(other)) >= FEWEST and (found := kinship(images, other)).close:
                yield images, other, found


def _distance(some: FloatArray, images: FloatArray, own_rows: IntArray | None) -> Floats:
    """(m,) how far some images (m, d) are from the nearest of others (n, d): 1 - cosine; of their own set, where
    `own_rows` (m,) are theirs, from the nearest that is not the image itself."""
    nearest = np.empty(len(some))
    for rows in blocks(len(some), len(images)):
        cosines = some[rows] @ images.T
        if own_rows is not None:
            cosines[np.arange(len(cosines)), own_rows[rows]] = -np.inf
        nearest[rows] = 1 - cosines.max(axis=1)
    return nearest

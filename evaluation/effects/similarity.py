"""How alike two banks are: in words, in the embedding space, and in the images on which they fire.

Banks from different chat models (or seeds) may share few words and still repel the same images; that is what counts.
All measures are shares in [0, 1], 1 for equal banks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.antibodies.wording import words
from evaluation.effects.antibody_effects import JudgedSets
from evaluation.space import Bank
from immuno_core.arrays import blocks
from immuno_core.features import FloatArray

SAME = 0.9
"""Cosine from which two antibodies count as saying the same."""


@dataclass(frozen=True, slots=True)
class Alikeness:
    """Of two banks: `text` and `embedding` overlap of their antibodies, and `firing` overlap on the images.

    text: |A and B| / |A or B| over (words, class guarded). embedding: the share of the antibodies of both banks that
    have one of cosine >= SAME in the other. `nearest`: the mean cosine to the nearest antibody of the other bank.
    firing_outliers, firing_known: |A and B| / |A or B| over the images on which any antibody fires. None where both are
    empty, and there is nothing to compare.
    """

    text: float | None
    embedding: float | None
    nearest: float | None
    firing_outliers: float | None
    firing_known: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Fired:
    """On which of the known images (n,) and of the outliers (m,) any antibody of a bank fires."""

    known: NDArray[np.bool_]
    outliers: NDArray[np.bool_]


def fired(judged: JudgedSets) -> Fired:
    """Return on which images a bank fires; the outliers of all sets, in their order."""
    of_sets = [images.antibody >= 0 for images in judged.outliers.values()]
    return Fired(judged.known.antibody >= 0, np.concatenate(of_sets))


def alikeness(first: Bank, second: Bank, fired_first: Fired, fired_second: Fired) -> Alikeness:
    """Compare two banks of one encoder, given on which of the same images each fires."""
    embedding, nearest = vector_alikeness(first, second)
    return Alikeness(
        text=text_alikeness(first, second),
        embedding=embedding,
        nearest=nearest,
        firing_outliers=_overlap(fired_first.outliers, fired_second.outliers),
        firing_known=_overlap(fired_first.known, fired_second.known),
    )


def text_alikeness(first: Bank, second: Bank) -> float | None:
    """Return `Alikeness.text` of two banks."""
    texts = [{(words(t), g) for t, g in zip(bank.texts, bank.guards, strict=True)} for bank in (first, second)]
    return _jaccard(len(texts[0] & texts[1]), len(texts[0] | texts[1]))


def vector_alikeness(first: Bank, second: Bank) -> tuple[float | None, float | None]:
    """Return `Alikeness.embedding` and `Alikeness.nearest` of two banks of one encoder."""
    nearest = np.concatenate([_nearest(first.vectors, second.vectors), _nearest(second.vectors, first.vectors)])
    return (float(np.mean(nearest >= SAME)), float(nearest.mean())) if nearest.size else (None, None)


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and standard deviation (ddof 1; None for a single value) of a measure over banks."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def _nearest(rows: FloatArray, others: FloatArray) -> NDArray[np.float64]:
    """(n,) the largest cosine of each row to the others; -1 where there are none, nothing for no rows."""
    best = np.full(len(rows), -1.0)
    if len(others):
        for block in blocks(len(rows), len(others)):
            best[block] = (rows[block].astype(np.float64) @ others.astype(np.float64).T).max(axis=1)
    return best


def _overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float | None:
    return _jaccard(int(np.count_nonzero(first & second)), int(np.count_nonzero(first | second)))


def _jaccard(both: int, either: int) -> float | None:
    return both / either if either else None

"""Affinity maturation: after feedback, an antibody moves toward the outliers that came nearest to it.

Ours, after the immune system's; see docs/method.md#affinity-maturation. With g the pull and v_j the normalised mean of
the feedback outliers whose nearest antibody (by cosine) is a_j:

    a_j' = normalise((1 - g) a_j + g v_j)        where at least `least` outliers came nearest to a_j

The original stays in the bank beside it: maturing adds an embedding and takes none away, so breadth is kept.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from evaluation.space import Bank
from immuno_core.arrays import blocks, check_unit_rows
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray, IntArray
from immuno_core.records import MATURATION, Antibody

DEFAULT_PULL = 0.3
LEAST_OUTLIERS = 5
# Sums of unit vectors shorter than this, per vector, have no direction worth the name.
_NO_DIRECTION = 1e-9
MATURED_ID = "+matured"
"""What the id of a matured antibody ends with; before it stands its parent's id."""
_NOTE = " (matured)"


def mature(bank: Bank, outliers: Iterable[FloatArray], *, g: float = DEFAULT_PULL, least: int = LEAST_OUTLIERS) -> Bank:
    """Return the matured antibodies alone (m <= A), in the order of their parents in the bank.

    `outliers` are (n_i, d) unit rows of the feedback split. Empty where no antibody has `least` outliers.
    Raises SetupError for g outside [0, 1], `least` below 1, and embeddings that do not fit.
    """
    if not 0 <= g <= 1:
        raise SetupError(f"g = {g}: the pull toward feedback outliers is from 0 to 1")
    if least < 1:
        raise SetupError(f"least = {least}: an antibody matures by at least one outlier")
    vectors = bank.vectors.astype(np.float64)
    sums, counts = np.zeros_like(vectors), np.zeros(len(bank), dtype=np.int64)
    for features in outliers:
        check_unit_rows(features, what="feedback outliers", dim=bank.vectors.shape[1])
        if len(bank):
            _gather(features, vectors, sums, counts)
    lengths = np.linalg.norm(sums, axis=1)
    parents: IntArray = np.flatnonzero((counts >= least) & (lengths > _NO_DIRECTION * counts))
    moved = (1 - g) * vectors[parents] + g * sums[parents] / lengths[parents, None]
    sizes = np.linalg.norm(moved, axis=1)
    parents, moved = parents[sizes > _NO_DIRECTION], moved[sizes > _NO_DIRECTION] / sizes[sizes > _NO_DIRECTION, None]
    return Bank(tuple(_matured(bank.antibodies[j]) for j in parents), moved.astype(np.float32))


def unmatured_text(text: str) -> str:
    """Return the text of the antibody that one of this text is, or was matured from."""
    return text.removesuffix(_NOTE)


def _matured(parent: Antibody) -> Antibody:
    return Antibody(
        f"{parent.text}{_NOTE}",
        parent.kind,
        parent.guards,
        "moved toward the outliers nearest to its parent",
        id=f"{parent.id}{MATURED_ID}",
        origin=MATURATION,
        parent_id=parent.id,
        relation="matured",
    )


def _gather(features: FloatArray, vectors: np.ndarray, sums: np.ndarray, counts: IntArray) -> None:
    """Add each image to the sum and the count of its nearest antibody (the first of equals)."""
    for rows in blocks(len(features), len(vectors) + vectors.shape[1]):
        x = features[rows].astype(np.float64)
        nearest = (x @ vectors.T).argmax(axis=1)
        np.add.at(sums, nearest, x)
        np.add.at(counts, nearest, 1)

"""Arrays from outside are checked where they enter; large ones are cut into blocks, so that memory does not grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from immuno_core.errors import SetupError

Number = TypeVar("Number", bound=np.generic)
MOST_ROWS = 4096
MOST_ELEMENTS = 2**23
"""Of one block: 64 MiB in float64."""


def blocks(count: int, width: int, *, most: int = MOST_ROWS) -> Iterator[slice]:
    """Yield slices over `count` rows, such that a block of rows times `width` stays small; at least one row each."""
    step = max(1, min(most, MOST_ELEMENTS // max(width, 1)))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def in_blocks(
    features: NDArray[np.floating], width: int, measure: Callable[[NDArray[np.float64]], NDArray[Number]]
) -> NDArray[Number]:
    """Return `measure` of images (n, d), n >= 0, taken a block (b, d) in float64 at a time; see `blocks`."""
    slices = list(blocks(len(features), width)) or [slice(0)]
    return np.concatenate([measure(features[rows].astype(np.float64)) for rows in slices])


_TILE = 64
"""Rows; from so many on BLAS takes the same way for each number of a product, whatever its shape."""


def product(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x @ y.T (m, n) of rows (m, d) and (n, d).

    Each number is the same to the last bit whatever rows are beside it, so that scores do not depend on how images and
    antibodies are cut into blocks. BLAS rounds otherwise in small products and at odd edges: both are filled up.
    """
    found: NDArray[np.float64] = (_filled(x) @ _filled(y).T)[: len(x), : len(y)]
    return found


def _filled(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    more = -len(rows) % _TILE
    return np.concatenate([rows, np.zeros((more, rows.shape[1]))]) if more else rows


NORM_TOLERANCE = 1e-3
"""How far the norm of a row may be from 1. Vectors that were stored in half precision are within it."""


def check_unit_rows(array: NDArray[Any], *, what: str, dim: int | None = None) -> None:
    """Check that an array is (n, d) floating point, finite, with rows of norm 1; n may be 0.

    `what` says in an error which array it is. Raises SetupError for another shape or type, for NaN and infinity, for
    rows that are not of unit norm, and, where `dim` is given, for another d.
    """
    if array.ndim != 2 or array.dtype.kind != "f":
        raise SetupError(
            f"{what}: an array of shape {array.shape} and type {array.dtype}, not (n, d) floating-point embeddings"
        )
    if dim is not None and array.shape[1] != dim:
        raise SetupError(
            f"{what}: vectors of {array.shape[1]} dimensions where the class texts have {dim}; "
            "embed all of them with one encoder"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
    if (bad := np.flatnonzero(~np.isfinite(norms))).size:
        raise SetupError(f"{what}: {bad.size} row(s) hold NaN or infinity (first: row {bad[0]}); embed them again")
    if (bad := np.flatnonzero(np.abs(norms - 1) > NORM_TOLERANCE)).size:
        raise SetupError(
            f"{what}: {bad.size} row(s) are not of unit norm (first: row {bad[0]}, norm {norms[bad[0]]:.4g}); "
            "divide each embedding by its norm"
        )


def check_labels(labels: NDArray[Any], *, what: str, samples: int, classes: int) -> None:
    """Check that labels are (samples,) integers in [0, classes). Raises SetupError."""
    if labels.shape != (samples,) or labels.dtype.kind not in "iu":
        raise SetupError(f"{what}: labels of shape {labels.shape} and type {labels.dtype}, not {samples} class indices")
    if samples and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        raise SetupError(
            f"{what}: labels from {int(labels.min())} to {int(labels.max())} where there are {classes} classes"
        )

"""Cuts large matrices into blocks, so that memory does not grow with the number of images times the number of texts."""

from __future__ import annotations

from collections.abc import Iterator

MOST_ROWS = 4096
MOST_ELEMENTS = 2**23
"""Of one block: 64 MiB in float64."""


def blocks(count: int, width: int, *, most: int = MOST_ROWS) -> Iterator[slice]:
    """Yield slices over `count` rows, such that a block of rows times `width` stays small; at least one row each."""
    step = max(1, min(most, MOST_ELEMENTS // max(width, 1)))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))

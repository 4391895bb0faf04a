"""Finds the images that kill the process which embeds them: by halves, each tried by itself on an actor.

A decoder that crashes takes no exception with it, so all that is known of a shard that kills its actors is that one of
its images does it. Both halves are tried, then the halves of the half that killed again, down to single images; one
that has killed twice by itself is guilty. With one such image among n that takes about log2(n) + 3 actors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

KILLED: Final = "killed the embedding process"
"""The reason that a quarantined image is stored and reported with."""

Rows = tuple[int, ...]
"""Places of images in the shard."""

_CONFIRMED: Final = 2
"""How often an image must kill by itself: once may be chance."""


class PoisonHunt:
    """The search through one shard. The caller tries each group that it is given, alone, and says what came of it."""

    def __init__(self, rows: Sequence[int]) -> None:
        """`rows` are the places under suspicion, at least one."""
        self.guilty: set[int] = set()
        self._kills: dict[int, int] = {}
        self._open: set[Rows] = set()
        self._rows = tuple(rows)

    @property
    def over(self) -> bool:
        """Whether every group has been tried."""
        return not self._open

    def begin(self) -> list[Rows]:
        """Return the first groups to try."""
        return self._halves(self._rows)

    def survived(self, rows: Rows) -> None:
        """A group was embedded: none of its images is guilty."""
        self._open.remove(rows)

    def killed(self, rows: Rows) -> list[Rows]:
        """A group killed its actor; return the groups to try next."""
        self._open.remove(rows)
        if len(rows) > 1:
            return self._halves(rows)
        (row,) = rows
        self._kills[row] = self._kills.get(row, 0) + 1
        if self._kills[row] < _CONFIRMED:
            return self._halves(rows)
        self.guilty.add(row)
        return []

    def _halves(self, rows: Rows) -> list[Rows]:
        middle = len(rows) // 2
        groups = [half for half in (rows[:middle], rows[middle:]) if half]
        self._open.update(groups)
        return groups

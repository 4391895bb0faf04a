"""How fast something goes, over the last half minute: a start that loads models must not spoil what is foretold."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

_WINDOW_SECONDS: Final = 30.0
_GRAIN_SECONDS: Final = 0.5
"""Counts closer together than this are one entry, so that a pace takes no memory to speak of."""


class Pace:
    """Counts things and says how many come per second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])

    def add(self, count: int) -> None:
        """`count` more are done."""
        now = self._clock()
        self.count += count
        if len(self._seen) > 1 and now - self._seen[-2][0] < _GRAIN_SECONDS:
            self._seen.pop()
        self._seen.append((now, self.count))
        # The youngest entry that is older than the window stays: the window begins there.
        while len(self._seen) > 2 and now - self._seen[1][0] >= _WINDOW_SECONDS:
            self._seen.popleft()

    def per_second(self) -> float | None:
        """Return the rate over the window; None before anything was counted."""
        begin, before = self._seen[0]
        elapsed = self._clock() - begin
        return (self.count - before) / elapsed if self.count > before and elapsed > 0 else None

    def seconds_for(self, count: int) -> float | None:
        """Return how long `count` more will take at this rate; None where that cannot be told."""
        rate = self.per_second()
        return count / rate if rate else None

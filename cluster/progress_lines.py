"""Progress as lines on standard error: for people who read a job's log, and for programs (one JSON object a line)."""

from __future__ import annotations

import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from cluster.pace import Pace
from cluster.progress import ProgressState
from cluster.summary import duration

PLAIN_SECONDS: Final = 10.0
JSON_SECONDS: Final = 1.0


class _Lines(ABC):
    """What both share: when to write, and what is known then."""

    def __init__(self, every: float, stream: TextIO | None, clock: Callable[[], float]) -> None:
        self._every = every
        self._stream = stream
        self._clock = clock
        self._running = False
        self._state = ProgressState({})

    def start(self, total: int, description: str) -> None:
        """Write that it begins."""
        self.stop()
        self._total, self._what, self._began = total, description, self._clock()
        self._pace, self._written, self._running = Pace(self._clock), self._began, True
        self._write("start")

    def advance(self, count: int) -> None:
        """Write how far it is, if the last line is old enough."""
        if self._running:
            self._pace.add(count)
            self._write_in_time()

    def tell(self, state: ProgressState) -> None:
        """Keep the state for the next line."""
        self._state = state
        if self._running:
            self._write_in_time()

    def stop(self) -> None:
        """Write how far it came."""
        if self._running:
            self._running = False
            self._write("stop")

    def _write_in_time(self) -> None:
        now = self._clock()
        if now - self._written >= self._every:
            self._written = now
            self._write("progress")

    def _write(self, event: str) -> None:
        stream = self._stream or sys.stderr
        stream.write(self._line(event) + "\n")
        stream.flush()

    @property
    def _left(self) -> float | None:
        return self._pace.seconds_for(max(0, self._total - self._pace.count))

    @abstractmethod
    def _line(self, event: str) -> str: ...


class PlainProgress(_Lines):
    """A line at the beginning, one every ten seconds, and one at the end."""

    def __init__(
        self,
        *,
        every: float = PLAIN_SECONDS,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(every, stream, clock)

    def _line(self, event: str) -> str:
        if event == "start":
            return f"{self._what}: {self._total:,}"
        done = f"{self._what}: {self._pace.count:,} of {self._total:,}"
        rate, left, state = self._pace.per_second(), self._left, str(self._state)
        parts = [done] if rate is None else [done, f"{rate:,.0f}/s"]
        if event == "stop":
            parts.append(f"in {duration(self._clock() - self._began)}")
        elif left is not None:
            parts.append(f"{duration(left)} left")
        return ", ".join(parts) + (f" ({state})" if state else "")


class JsonProgress(_Lines):
    """An object at the beginning, one a second, and one at the end; its keys are in docs/faults.md."""

    def __init__(
        self,
        *,
        every: float = JSON_SECONDS,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(every, stream, clock)

    def _line(self, event: str) -> str:
        return json_line(
            event,
            what=self._what,
            done=self._pace.count,
            total=self._total,
            seconds=round(self._clock() - self._began, 3),
            per_second=_rounded(self._pace.per_second()),
            eta_seconds=_rounded(self._left),
            actors={name: _rounded(rate) for name, rate in self._state.actors.items()},
            retries=self._state.retries,
            quarantined=self._state.quarantined,
            deaths=self._state.deaths,
        )


def json_line(event: str, **values: Any) -> str:
    """Return an event as one line of strict JSON, in ASCII: names of files may hold what a terminal would obey."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"event": event, "time": moment, **values}, allow_nan=False)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)

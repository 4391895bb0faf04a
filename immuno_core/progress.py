"""How far a long piece of work has come, for whoever watches: a bar, lines, JSON, or nothing. Never on standard output.

`make_progress` chooses: what the command line or $IMMUNO_PROGRESS says, else a bar on a terminal and lines elsewhere.
"""

from __future__ import annotations

import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, TextIO, get_args

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from immuno_core.errors import SetupError, did_you_mean
from immuno_core.text import duration

_RATE_SECONDS: Final = 300.0
"""What rates and the time left are taken from: with large models on few cores a shard takes more than a minute."""


def unseen_bar(clock: Callable[[], float] = time.monotonic) -> Progress:
    """Return rich's count of tasks without its bar: for their rates (`task.speed`) and the time that is left."""
    return Progress(disable=True, speed_estimate_period=_RATE_SECONDS, get_time=clock)


ProgressMode = Literal["rich", "plain", "json", "quiet"]
MODES: Final[tuple[ProgressMode, ...]] = get_args(ProgressMode)
VARIABLE: Final = "IMMUNO_PROGRESS"


class ProgressState(NamedTuple):
    """What there is to tell besides a count, while actors embed."""

    actors: Mapping[str, float | None]
    """Images per second of each actor ("host:pid"); None where it cannot be told yet."""
    retries: int = 0
    quarantined: int = 0
    deaths: int = 0

    def __str__(self) -> str:
        """In words, as far as there is anything to tell."""
        rates = [rate for rate in self.actors.values() if rate is not None]
        told = []
        if rates:
            spread = f"{min(rates):,.0f} to {max(rates):,.0f}/s each" if len(rates) > 1 else f"{rates[0]:,.0f}/s"
            told.append(f"{len(self.actors)} actor{'s' if len(self.actors) != 1 else ''}, {spread}")
        told += [
            f"{number:,} {what}"
            for number, what in ((self.retries, "retried"), (self.quarantined, "left out"), (self.deaths, "died"))
            if number
        ]
        return "; ".join(told)


class ProgressReport:
    """Is told of a piece of work: `start`, any number of `advance` and `tell`, `stop` (also after an error).

    Work may begin within work: what is told then is of the inner one until that stops. What it does not override does
    nothing.
    """

    def note(self, text: str) -> None:
        """Something begins that takes seconds and cannot be counted."""

    def start(self, total: int, description: str) -> None:
        """`total` images or texts are to be embedded; those already stored are not among them."""

    def advance(self, count: int) -> None:
        """`count` more of them are done and stored."""

    def tell(self, state: ProgressState) -> None:
        """Something else has changed."""

    def stop(self) -> None:
        """The work is over, finished or not."""


class SilentProgress(ProgressReport):
    """Shows nothing."""


class RichProgress(ProgressReport):
    """A bar on standard error: how many of how many, how many per second, how long still, and what went wrong."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._tasks: list[TaskID] = []

    def note(self, text: str) -> None:
        """Print it, above the bars."""
        self._console.print(Text(text, "dim"))

    def start(self, total: int, description: str) -> None:
        """Show a bar."""
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[state]}", markup=False, style="progress.remaining"),
                console=self._console,
                speed_estimate_period=_RATE_SECONDS,
                # What a result prints must stay where it is, even while the bar is shown.
                redirect_stdout=False,
            )
            self._bar.start()
        self._tasks.append(self._bar.add_task(description, total=total, state=""))

    def advance(self, count: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.advance(self._tasks[-1], count)

    def tell(self, state: ProgressState) -> None:
        """Show the state behind the bar."""
        if self._bar is not None:
            self._bar.update(self._tasks[-1], state=str(state))

    def stop(self) -> None:
        """Leave the bar as it is; one within another goes."""
        if self._bar is None:
            return
        ended = self._tasks.pop()
        if self._tasks:
            self._bar.remove_task(ended)
        else:
            self._bar.stop()
            self._bar = None


class _Rate(ProgressColumn):
    """Images or texts per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


def progress_mode(chosen: str | None = None) -> ProgressMode:
    """Return how progress is shown: as `chosen`, else as $IMMUNO_PROGRESS says, else by what standard error is.

    Raises SetupError for an unknown mode.
    """
    name = chosen or os.environ.get(VARIABLE) or ("rich" if sys.stderr.isatty() else "plain")
    for mode in MODES:
        if mode == name:
            return mode
    where = "--progress" if chosen else VARIABLE
    raise SetupError(f"{where}: there is no way '{name}' to show progress{did_you_mean(name, MODES)}")


def make_progress(mode: ProgressMode) -> ProgressReport:
    """Return what shows progress in this way, on standard error."""

    kinds: dict[ProgressMode, Callable[[], ProgressReport]] = {
        "rich": RichProgress,
        "plain": PlainProgress,
        "json": JsonProgress,
        "quiet": SilentProgress,
    }
    return kinds[mode]()


class _Work(NamedTuple):
    total: int
    what: str
    began: float
    bar: Progress
    """For its rates."""

    @property
    def task(self) -> Task:
        return self.bar.tasks[0]


class _Lines(ProgressReport, ABC):
    """What both share: when to write, and what is known then."""

    every: float
    """Seconds between lines."""

    def __init__(self, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._works: list[_Work] = []
        self._state = ProgressState({})

    def start(self, total: int, description: str) -> None:
        """Write that it begins."""
        bar = unseen_bar(self._clock)
        bar.add_task(description, total=total)
        self._works.append(_Work(total, description, self._clock(), bar))
        self._write("start")

    def advance(self, count: int) -> None:
        """Write how far it is, if the last line is old enough."""
        if self._works:
            self._works[-1].bar.advance(self._works[-1].task.id, count)
            self._write_in_time()

    def tell(self, state: ProgressState) -> None:
        """Keep the state for the next line."""
        self._state = state
        if self._works:
            self._write_in_time()

    def stop(self) -> None:
        """Write how far it came."""
        if self._works:
            self._write("stop")
            self._works.pop()

    def _write_in_time(self) -> None:
        if self._clock() - self._written >= self.every:
            self._write("progress")

    def _write(self, event: str) -> None:
        self._written = self._clock()
        self._print(self._line(event, self._works[-1]))

    def _print(self, line: str) -> None:
        stream = self._stream or sys.stderr
        stream.write(line + "\n")
        stream.flush()

    @abstractmethod
    def _line(self, event: str, work: _Work) -> str: ...


class PlainProgress(_Lines):
    """A line at the beginning, one every ten seconds, and one at the end."""

    every = 10.0

    def note(self, text: str) -> None:
        """Write it."""
        self._print(text)

    def _line(self, event: str, work: _Work) -> str:
        if event == "start":
            return f"{work.what}: {work.total:,}"
        done = f"{work.what}: {int(work.task.completed):,} of {work.total:,}"
        rate, left, state = work.task.speed, work.task.time_remaining, str(self._state)
        parts = [done] if rate is None else [done, f"{rate:,.0f}/s"]
        if event == "stop":
            parts.append(f"in {duration(self._clock() - work.began)}")
        elif left is not None:
            parts.append(f"{duration(left)} left")
        return ", ".join(parts) + (f" ({state})" if state else "")


class JsonProgress(_Lines):
    """An object at the beginning, one a second, and one at the end; its keys are in docs/faults.md."""

    every = 1.0

    def note(self, text: str) -> None:
        """Write it, as an event of its own."""
        self._print(json_line("note", text=text))

    def _line(self, event: str, work: _Work) -> str:
        return json_line(
            event,
            what=work.what,
            done=int(work.task.completed),
            total=work.total,
            seconds=round(self._clock() - work.began, 3),
            per_second=_rounded(work.task.speed),
            eta_seconds=_rounded(work.task.time_remaining),
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

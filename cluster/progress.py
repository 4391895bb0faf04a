"""How far a long piece of work has come, for whoever watches: a bar, lines, JSON, or nothing. Never on standard output.

`make_progress` chooses: what the command line or $IMMUNO_PROGRESS says, else a bar on a terminal and lines elsewhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple, Protocol, get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from immuno.errors import SetupError, did_you_mean

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


class ProgressReport(Protocol):
    """Is told of a piece of work: `start`, any number of `advance` and `tell`, `stop` (also after an error)."""

    def start(self, total: int, description: str) -> None:
        """`total` images or texts are to be embedded; those already stored are not among them."""
        ...

    def advance(self, count: int) -> None:
        """`count` more of them are done and stored."""
        ...

    def tell(self, state: ProgressState) -> None:
        """Something else has changed."""
        ...

    def stop(self) -> None:
        """The work is over, finished or not."""
        ...


class SilentProgress:
    """Says nothing."""

    def start(self, total: int, description: str) -> None:
        """Say nothing."""

    def advance(self, count: int) -> None:
        """Say nothing."""

    def tell(self, state: ProgressState) -> None:
        """Say nothing."""

    def stop(self) -> None:
        """Say nothing."""


class RichProgress:
    """A bar on standard error: how many of how many, how many per second, how long still, and what went wrong."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar: Progress | None = None

    def start(self, total: int, description: str) -> None:
        """Show the bar."""
        self.stop()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}", markup=False, style="progress.remaining"),
            console=self._console,
            # What a result prints must stay where it is, even while the bar is shown.
            redirect_stdout=False,
        )
        self._bar.add_task(description, total=total, state="")
        self._bar.start()

    def advance(self, count: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], count)

    def tell(self, state: ProgressState) -> None:
        """Show the state behind the bar."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], state=str(state))

    def stop(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
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
    from cluster.progress_lines import JsonProgress, PlainProgress

    kinds: dict[ProgressMode, Callable[[], ProgressReport]] = {
        "rich": RichProgress,
        "plain": PlainProgress,
        "json": JsonProgress,
        "quiet": SilentProgress,
    }
    return kinds[mode]()

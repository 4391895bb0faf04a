"""How far a long embedding has come: silent by default, or a bar on standard error."""

from __future__ import annotations

from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class ProgressReport(Protocol):
    """What the embedders tell about a piece of work: `start`, any number of `advance`, `stop` (also after an error)."""

    def start(self, total: int, description: str) -> None:
        """`total` images or texts are to be embedded; those already stored are not among them."""
        ...

    def advance(self, count: int) -> None:
        """`count` more of them are done and stored."""
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

    def stop(self) -> None:
        """Say nothing."""


class RichProgress:
    """A bar on standard error: how many of how many, how many per second, and how long still."""

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
            console=self._console,
            # What a result prints must stay where it is, even while the bar is shown.
            redirect_stdout=False,
        )
        self._bar.add_task(description, total=total)
        self._bar.start()

    def advance(self, count: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], count)

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

"""How the long commands say what they do, on standard error: progress while they run, and a summary at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from cluster.journal import Journal
from cluster.records import EmbeddingSummary
from immuno_core.progress import ProgressMode, ProgressReport, json_line, make_progress, progress_mode


@contextmanager
def watched(chosen: str | None = None) -> Iterator[Journal]:
    """Yield the journal for an embedder; tell its summary at the end, also after an error.

    `chosen` is the value of `--progress`; see `immuno_core.progress.progress_mode`. Raises SetupError for an unknown
    one.
    """
    mode = progress_mode(chosen)
    journal = Journal(make_progress(mode))
    try:
        yield journal
    finally:
        tell_summary(journal.summary(), mode)


def tell_summary(summary: EmbeddingSummary, mode: ProgressMode) -> None:
    """Say what embedding came to, where anything was embedded or went wrong."""
    if not summary.is_worth_telling or mode == "quiet":
        return
    if mode == "json":
        click.echo(json_line("summary", **summary.as_dict()), err=True)
        return
    for line in summary.lines():
        click.echo(line, err=True)


@contextmanager
def bar(progress: ProgressReport, total: int, what: str) -> Iterator[ProgressReport]:
    """Show progress within the block."""
    progress.start(total, what)
    try:
        yield progress
    finally:
        progress.stop()

"""Progress is shown on standard error and nowhere else."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cluster import RichProgress, SilentProgress


def test_the_bar_tells_how_far_and_how_fast() -> None:
    screen = io.StringIO()
    progress = RichProgress(Console(file=screen, force_terminal=True, width=120))
    progress.start(200, "embedding images of [animals]")
    progress.advance(50)
    progress.advance(150)
    progress.stop()
    shown = screen.getvalue()
    assert "embedding images of [animals]" in shown
    assert "200/200" in shown
    assert "/s" in shown


def test_standard_output_stays_clean(capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (RichProgress(), SilentProgress()):
        progress.advance(1)  # before any start: nothing to show
        progress.start(2, "embedding texts")
        progress.advance(2)
        progress.stop()
        progress.stop()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "embedding texts" in captured.err

"""Progress is shown on standard error and nowhere else, as a bar, as lines, as JSON, or not at all."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from immuno_core.errors import SetupError
from immuno_core.progress import (
    JsonProgress,
    PlainProgress,
    ProgressState,
    RichProgress,
    SilentProgress,
    make_progress,
    progress_mode,
    unseen_bar,
)

TROUBLED = ProgressState({"node-a:17": 120.0, "node-b:18": 80.0, "node-c:19": None}, 2, 3, 1)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_bar_tells_how_far_and_how_fast_and_what_went_wrong() -> None:
    screen = io.StringIO()
    progress = RichProgress(Console(file=screen, force_terminal=True, width=160))
    progress.start(200, "embedding images of [animals]")
    progress.advance(50)
    progress.tell(TROUBLED)
    progress.advance(150)
    progress.stop()
    shown = screen.getvalue()
    assert "embedding images of [animals]" in shown
    assert "200/200" in shown
    assert "/s" in shown
    assert "3 actors, 80 to 120/s each; 2 retried; 3 left out; 1 died" in shown


def test_standard_output_stays_clean(capsys: pytest.CaptureFixture[str]) -> None:
    for mode in ("rich", "plain", "json", "quiet"):
        progress = make_progress(progress_mode(mode))
        progress.advance(1)  # before any start: nothing to show
        progress.tell(TROUBLED)
        progress.start(2, f"embedding texts, {mode}")
        progress.advance(2)
        progress.stop()
        progress.stop()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [mode in captured.err for mode in ("texts, rich", "texts, plain", "texts, json", "texts, quiet")] == [
        True,
        True,
        True,
        False,
    ]


def test_lines_are_few_and_say_where_it_stands() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream=stream, clock=clock)
    progress.start(4000, "embedding images of far")
    for _ in range(80):
        clock.now += 0.25
        progress.advance(25)
    progress.tell(TROUBLED)
    clock.now += 1
    progress.stop()
    assert stream.getvalue().splitlines() == [
        "embedding images of far: 4,000",
        "embedding images of far: 1,000 of 4,000, 100/s, 30.0 s left",
        "embedding images of far: 2,000 of 4,000, 100/s, 20.0 s left",
        "embedding images of far: 2,000 of 4,000, 100/s, in 21.0 s "
        "(3 actors, 80 to 120/s each; 2 retried; 3 left out; 1 died)",
    ]


def test_work_within_work_does_not_end_it() -> None:
    """Methods that are measured may have texts or patches embedded meanwhile."""
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream=stream, clock=clock)
    progress.note("starting")
    progress.start(3, "measuring methods")
    progress.advance(1)
    progress.start(8, "matching patches")
    progress.advance(8)
    progress.stop()
    progress.advance(2)
    progress.stop()
    progress.advance(1)
    progress.stop()
    assert [line.partition(", ")[0] for line in stream.getvalue().splitlines()] == [
        "starting",
        "measuring methods: 3",
        "matching patches: 8",
        "matching patches: 8 of 8",
        "measuring methods: 3 of 3",
    ]
    screen = io.StringIO()
    bars = RichProgress(Console(file=screen, force_terminal=True, width=160))
    bars.start(3, "measuring methods")
    bars.start(8, "matching patches")
    bars.note("starting")
    bars.stop()
    bars.advance(3)
    bars.stop()
    shown = screen.getvalue()
    assert "matching patches" in shown
    assert "starting" in shown
    assert "3/3" in shown
    assert "matching patches" not in shown.rpartition("3/3")[0].rpartition("measuring")[2]


def test_json_is_an_object_a_line_for_programs_to_read() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = JsonProgress(stream=stream, clock=clock)
    progress.note("starting\x1b[2J")
    progress.start(100, "embedding images of caf\udce9\x1b[2J")
    clock.now += 2
    progress.tell(TROUBLED)
    progress.advance(50)
    clock.now += 2
    progress.advance(50)
    progress.stop()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert stream.getvalue().isascii()
    assert "\x1b" not in stream.getvalue()
    first = lines.pop(0)
    assert (first["event"], first["text"]) == ("note", "starting\x1b[2J")
    assert [(line["event"], line["done"]) for line in lines] == [
        ("start", 0),
        ("progress", 0),
        ("progress", 100),
        ("stop", 100),
    ]
    last = lines[-1]
    assert {**last, "time": ""} == {
        "event": "stop",
        "time": "",
        "what": "embedding images of caf\udce9\x1b[2J",
        "done": 100,
        "total": 100,
        "seconds": 4.0,
        "per_second": 25.0,
        "eta_seconds": 0.0,
        "actors": {"node-a:17": 120.0, "node-b:18": 80.0, "node-c:19": None},
        "retries": 2,
        "quarantined": 3,
        "deaths": 1,
    }


def test_rates_forget_how_slow_the_start_was_and_are_known_of_slow_pieces() -> None:
    clock = Clock()
    bar = unseen_bar(clock)
    bar.add_task("images", total=2100)
    (task,) = bar.tasks
    assert (task.speed, task.time_remaining) == (None, None)
    clock.now += 300  # the model is loaded
    for _ in range(400):
        clock.now += 0.1
        bar.advance(task.id, 5)
    assert task.speed == pytest.approx(50, rel=0.05)
    assert task.time_remaining in (2, 3)
    for _ in range(9):
        clock.now += 100
        bar.advance(task.id, 5)
    assert task.speed == pytest.approx(0.05, rel=0.05)


def test_the_mode_is_chosen_by_option_variable_or_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMMUNO_PROGRESS", raising=False)
    assert progress_mode() == "plain"  # pytest's standard error is no terminal
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert progress_mode() == "rich"
    monkeypatch.setenv("IMMUNO_PROGRESS", "json")
    assert progress_mode() == "json"
    assert progress_mode("quiet") == "quiet"
    assert isinstance(make_progress("quiet"), SilentProgress)
    monkeypatch.setenv("IMMUNO_PROGRESS", "ritch")
    with pytest.raises(SetupError, match=r"IMMUNO_PROGRESS: there is no way 'ritch' .*did you mean 'rich'"):
        progress_mode()

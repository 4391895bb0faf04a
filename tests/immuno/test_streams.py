"""What terminals and pipes cannot take: other letters, no letters at all, no more."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from rich.console import Console
from rich.table import Table

from immuno.cli import main
from immuno.terminal.streams import OutputError, ReaderGoneError, writer
from immuno_core.progress import RichProgress


def written(encoding: str, show: Callable[[io.TextIOWrapper], None]) -> bytes:
    """What is written to a pipe by a stream of an encoding."""
    reading, writing = os.pipe()
    with writer(writing, io.TextIOWrapper(io.BytesIO(), encoding=encoding)) as stream:
        show(stream)
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123 - a descriptor
        return pipe.read()


TEXT = "92.0 → 86.0 ± 1.5 – é \udcff"


@pytest.mark.parametrize(
    ("encoding", "seen"),
    [
        ("ascii", rb"92.0 -> 86.0 +- 1.5 - \xe9 \udcff"),
        ("latin-1", b"92.0 -> 86.0 \xb1 1.5 - \xe9 \\udcff"),
        ("utf-8", "92.0 → 86.0 ± 1.5 – é \\udcff".encode()),
    ],
)
@pytest.mark.parametrize("show", [lambda out: out.write(TEXT), lambda out: click.echo(TEXT, file=out, nl=False)])
def test_letters_that_a_stream_lacks_are_written_in_plain_ones(
    encoding: str, seen: bytes, show: Callable[[io.TextIOWrapper], None]
) -> None:
    assert written(encoding, show) == seen


def _table(stream: io.TextIOWrapper) -> None:
    table = Table("mean ± deviation")
    table.add_row("1.0 ± 0.5")
    Console(file=stream, width=40).print(table)


def _bar(stream: io.TextIOWrapper) -> None:
    bar = RichProgress(Console(file=stream, force_terminal=True))
    bar.start(3, "füchse")
    bar.advance(2)
    bar.stop()


@pytest.mark.parametrize(("show", "seen"), [(_table, "1.0 +- 0.5"), (_bar, "2/3")])
def test_tables_and_bars_are_drawn_in_ascii(show: Callable[[io.TextIOWrapper], None], seen: str) -> None:
    assert seen in written("ascii", show).decode("ascii")


def test_click_writes_to_a_stream_of_ascii_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def show(stream: io.TextIOWrapper) -> None:
        monkeypatch.setattr(sys, "stdout", stream)
        click.echo("±", nl=False)

    assert written("ascii", show) == b"+-"


def test_a_full_disk_and_a_reader_that_is_gone_are_told_apart() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        stream = writer(full.fileno())
        stream.write("x")
        with pytest.raises(OutputError, match="standard output cannot be written: No space left on device"):
            stream.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    reading, writing = os.pipe()
    os.close(reading)
    stream = writer(writing)
    stream.write("x")
    with pytest.raises(ReaderGoneError):
        stream.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), writing)


def test_output_that_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", writer(full.fileno()))
        with pytest.raises(SystemExit) as ended:
            main(["--help"])
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line


@pytest.mark.parametrize(
    ("redirected", "status", "said"),
    [
        ("--version >/dev/full", 1, "failed: standard output cannot be written"),
        ("--version >&-", 0, ""),
        ("--version <&- >&- 2>&-", 0, ""),
        ("nonsense 2>/dev/full", 2, ""),
        ("nonsense 2>&-", 2, ""),
        ("--version | true; exit ${PIPESTATUS[0]}", 141, ""),
    ],
)
def test_streams_that_are_full_closed_or_gone_end_in_no_traceback(redirected: str, status: int, said: str) -> None:
    shell = ["bash", "-c", f"{sys.executable} -m immuno {redirected}"]
    done = subprocess.run(shell, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == bool(said)

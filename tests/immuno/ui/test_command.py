"""`immuno ui` on what is no record, and where it may not listen."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from immuno.cli import main


@pytest.mark.parametrize(
    ("make", "arguments", "said"),
    [
        (lambda path: None, [], "there is no database at"),
        (lambda path: path.write_bytes(b"x" * 4096), [], "is not a SQLite database"),
        (lambda path: path.mkdir(), [], "is a folder"),
        (None, ["--host", "0.0.0.0"], "give --token-file"),  # noqa: S104 - refused
        (None, ["--host", "no.such.host.invalid"], "cannot listen on"),
        (None, ["--token-file", "/nowhere/token"], "/nowhere/token"),
        (None, ["--port", "70000"], "--port"),
    ],
)
def test_what_cannot_be_served(
    make: object,
    arguments: list[str],
    said: str,
    tmp_path: Path,
    new_database: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = new_database if make is None else tmp_path / "x.db"
    if callable(make):
        make(path)
    with pytest.raises(SystemExit) as left:
        main(["ui", "--db", str(path), *arguments])
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_an_older_record(new_database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.db"
    path.write_bytes(new_database.read_bytes())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE immuno_schema SET version_num = '0001'")
    connection.close()
    with pytest.raises(SystemExit) as left:
        main(["ui", "--db", str(path)])
    assert left.value.code == 2
    assert "immuno db upgrade" in capsys.readouterr().err

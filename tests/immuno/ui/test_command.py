"""`immuno ui` on what is no record, and where it may not listen."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from immuno.cli import main
from tests.configs import write_config

from .conftest import HOSTILE, Record


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


def nearest(record: Record, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, object]]:
    with pytest.raises(SystemExit) as left:
        main(["db", "nearest", *options, "--db", str(record.path), "--json"])
    said = capsys.readouterr()
    assert left.value.code == 0, said.err
    found: list[dict[str, object]] = json.loads(said.out)
    return found


def test_nearest_to_any_text(
    record: Record, tiny_encoder_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bank holds what "a fox" and "a bear" are embedded as."""
    config = write_config(tmp_path / "x.toml", encoder={"model": f"local-dir:{tiny_encoder_dir}"})
    name = record.session.name
    for options in (("--session", name), ("--config", str(config)), ("--session", name, "--config", str(config))):
        found = nearest(record, capsys, "a fox", *options)
        assert [one["id"] for one in found] == [record.antibody.id, record.visual.id]
        assert found[0]["similarity"] == pytest.approx(1, abs=1e-6)
    assert nearest(record, capsys, "a bear", "--session", name)[0]["id"] == record.visual.id
    assert [one["id"] for one in nearest(record, capsys, HOSTILE, "--session", name)] == [record.visual.id]
    other = write_config(tmp_path / "other.toml", encoder={"model": "miniworld"})
    for arguments, said in (
        (["a fox"], "--session or --config"),
        (["a fox", "--config", str(other)], "nothing on record is of the encoder"),
        (["a fox", "--config", str(tmp_path / "none.toml")], "none.toml"),
        ([" ", "--session", name], "there is no text"),
    ):
        with pytest.raises(SystemExit) as left:
            main(["db", "nearest", *arguments, "--db", str(record.path)])
        (line,) = capsys.readouterr().err.splitlines()
        assert (left.value.code, said in line) == (2, True), line


@pytest.mark.long
def test_it_serves_until_it_is_stopped(record: Record) -> None:
    command = [sys.executable, "-m", "immuno", "ui", "--db", str(record.path), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert "Sessions" in httpx.get(address, trust_env=False).text
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == ""

"""Which database is meant where none is named: for every command the same one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from db.store import open_store
from immuno import refine as workflow
from immuno import workplace
from immuno.cli import main
from immuno_core.config.run import read_config
from immuno_core.paths import DEFAULT_DATABASE, DEMO_DATABASE, default_database
from tests.agents.word_place import word_embedder, write_word_world


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    status, out, err = run(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def sessions(capsys: pytest.CaptureFixture[str], command: str) -> list[str]:
    key = {"refine list": "session", "db sessions": "name"}[command]
    return [each[key] for each in said(capsys, *command.split())]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


@pytest.fixture(autouse=True)
def _in_a_folder_without_databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workplace, "make_embedder", word_embedder)


def test_it_is_the_one_that_exists_and_the_demo_s_only_where_it_is_alone(tmp_path: Path) -> None:
    assert default_database() == DEFAULT_DATABASE == Path("runs/immuno.db")
    for path in (DEMO_DATABASE, DEFAULT_DATABASE):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        assert default_database() == path


def test_what_the_demo_left_is_found_and_gone_on_with_by_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_word_world(tmp_path)
    start = ("refine", "start", str(config), "--session", "one", "--generations", "1")
    said(capsys, *start, "--db", str(DEMO_DATABASE))

    for command in ("refine list", "db sessions"):
        assert sessions(capsys, command) == ["one"]
    for command in ("refine show one", "refine prompts one", "db generations one", "refine resume one", "db check"):
        assert said(capsys, *command.split())
    (found,) = [each for each in said(capsys, "doctor") if each["name"] == "database"]
    assert f"{DEMO_DATABASE}: 1 session(s)" in found["text"]

    said(capsys, "refine", "branch", "one", "--session", "two", "--generations", "1")
    # What a benchmark and `embed` open.
    with workflow.Workplace.open(read_config(config), database=None, ray_address=None) as place:
        assert place.store.session("two").status == "finished"
    for command in ("refine list", "db sessions"):
        assert sorted(sessions(capsys, command)) == ["one", "two"]
    assert not DEFAULT_DATABASE.exists()


def test_a_database_of_ones_own_is_meant_before_the_demo_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (DEMO_DATABASE, DEFAULT_DATABASE):
        open_store(str(path)).close()
    said(capsys, "refine", "start", str(write_word_world(tmp_path)), "--session", "mine", "--generations", "1")
    for command in ("refine list", "db sessions"):
        assert sessions(capsys, command) == ["mine"]
    shutil.rmtree(DEMO_DATABASE.parent)
    assert sessions(capsys, "refine list") == ["mine"]


@pytest.mark.parametrize(
    "command", ["refine list", "refine show one", "refine stop one", "refine resume one", "db sql 1"]
)
def test_where_there_is_none_it_is_not_made_by_asking(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, out, err = run(capsys, *command.split())
    assert (status, out) == (2, "")
    assert "no database at" in err
    assert str(DEFAULT_DATABASE) in err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "command", ["refine list", "refine resume", "db sessions", "db merge", "bench", "embed", "doctor"]
)
def test_help_says_so(capsys: pytest.CaptureFixture[str], command: str) -> None:
    said = " ".join(run(capsys, *command.split(), "--help")[1].split())
    rule = f"Default: $IMMUNO_DB, else {DEFAULT_DATABASE}, else (where only that exists) the demo's {DEMO_DATABASE}."
    assert rule in said

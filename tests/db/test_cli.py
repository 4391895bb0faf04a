"""`immuno db`: what it prints, as tables and as JSON, and what it refuses."""

from __future__ import annotations

import json
import math
import sqlite3
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from db.records import EffectDraft, SessionRecord
from db.schema.migrations import HEAD
from db.store import AntibodyStore
from immuno.cli.db import command, group
from immuno_core.errors import SetupError
from immuno_core.text import printable

from .build import antibody, draft, effect, make_session

ROOT = Path(__file__).parents[2]
EVIL = "[bold red]robot[/] \x1b[31mdog\x07 \u202eevil\ud800 \U0001f98a\nnext"


def run(*arguments: str, path: Path | None = None) -> Result:
    where = [] if path is None else ["--db", str(path)]
    return CliRunner().invoke(group, [*arguments, *where])


def table(*arguments: str, path: Path) -> str:
    result = run(*arguments, path=path)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def rows(*arguments: str, path: Path) -> list[dict[str, Any]]:
    result = run(*arguments, "--json", path=path)
    assert (result.exit_code, result.stderr) == (0, "")
    value = json.loads(result.stdout)
    assert isinstance(value, list)
    return value


def error(*arguments: str, path: Path | None = None) -> str:
    """The one line that the front door would print on stderr, with exit status 2."""
    result = run(*arguments, path=path)
    assert isinstance(result.exception, SetupError)
    assert result.stdout == ""
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.fixture
def filled(store: AntibodyStore, session: SessionRecord, path: Path) -> Path:
    store.save_generation(draft(session.id))
    wolf = antibody("husky", guards="wolf", kind="contextual")
    effects = (
        EffectDraft(effect("solo", "far", gain=math.nan), wolf.id),
        EffectDraft(effect("leave_one_out", "far"), wolf.id),
    )
    second = draft(session.id, 1, antibodies=(wolf,), effects=effects, verdicts=(), bank=(), accepted=False)
    store.save_generation(second)
    other = make_session(store, "beta")
    store.save_generation(draft(other.id))
    store.close()
    return path


def test_the_front_door_finds_the_group() -> None:
    assert command is group
    assert set(group.commands) >= {
        "antibodies",
        "check",
        "diff",
        "effects",
        "export",
        "generations",
        "lineage",
        "nearest",
        "prompts",
        "sessions",
        "sql",
        "stats",
        "top",
        "upgrade",
        "verdicts",
        "version",
    }


def test_sessions(filled: Path) -> None:
    printed = table("sessions", path=filled)
    assert all(word in printed for word in ("alpha", "beta", "running", "tiny"))
    first, second = rows("sessions", path=filled)
    assert (first["name"], first["generations"], first["best"], first["config"]) == ("alpha", 2, 0, {"seed": 7})
    assert (second["name"], second["encoder"]["model"], second["best"]) == ("beta", "tiny", 0)
    assert first["created_at"].endswith("+00:00")


def test_generations(filled: Path) -> None:
    printed = table("generations", "alpha", path=filled)
    assert all(word in printed for word in ("session alpha", "FPR95", "50.0", "yes", "no"))
    assert "beta" not in printed
    assert [(row["session"], row["number"], row["accepted"]) for row in rows("generations", path=filled)] == [
        ("alpha", 0, True),
        ("alpha", 1, False),
        ("beta", 0, True),
    ]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ((), ["robot dog 0", "dog 0", "husky", "robot dog 0", "dog 0"]),
        (("alpha",), ["robot dog 0", "dog 0", "husky"]),
        (("alpha", "--generation", "0"), ["robot dog 0", "dog 0"]),
        (("alpha", "--status", "rejected"), ["dog 0"]),
        (("--class", "wolf"), ["husky"]),
        (("--kind", "contextual"), ["husky"]),
        (("--limit", "1"), ["robot dog 0"]),
        (("--class", "cat"), []),
    ],
)
def test_antibodies_and_their_filters(filled: Path, filters: Sequence[str], expected: list[str]) -> None:
    assert [row["text"] for row in rows("antibodies", *filters, path=filled)] == expected
    result = run("antibodies", *filters, path=filled)
    assert result.exit_code == 0
    assert all(text in result.stdout for text in expected)
    assert result.stderr == ("" if expected else "no antibodies\n")


def test_a_rejected_antibody_shows_its_reason(filled: Path) -> None:
    printed = table("antibodies", "beta", "--status", "rejected", path=filled)
    assert "names the class" in printed


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (("alpha",), ["bank", "solo", "solo", "leave_one_out"]),
        (("alpha", "--generation", "1"), ["solo", "leave_one_out"]),
        (("--scope", "bank"), ["bank", "bank"]),
        (("--set", "far"), ["solo", "leave_one_out"]),
        (("--class", "wolf", "--limit", "1"), ["solo"]),
    ],
)
def test_effects_and_their_filters(filled: Path, filters: Sequence[str], expected: list[str]) -> None:
    assert [row["scope"] for row in rows("effects", *filters, path=filled)] == expected


def test_an_undefined_effect_is_shown_as_such(filled: Path) -> None:
    (row,) = rows("effects", "--class", "wolf", "--scope", "solo", path=filled)
    assert row["gain"] == {"value": None, "kind": "nan"}
    assert (row["harm"], row["antibody_text"], row["fired_outliers"]) == (0.25, "husky", 9)
    printed = table("effects", "--class", "wolf", "--scope", "solo", path=filled)
    assert all(word in printed for word in ("nan", "0.250", "-0.125", "1 / 9"))


def test_prompts(filled: Path) -> None:
    assert "Name what looks like a {class}." in table("prompts", "alpha", path=filled)
    assert [(row["session"], row["step"]) for row in rows("prompts", path=filled)] == [
        ("alpha", "propose"),
        ("beta", "propose"),
    ]


def test_an_empty_database_is_an_empty_list(path: Path) -> None:
    for name in ("sessions", "generations", "antibodies", "effects", "prompts"):
        assert rows(name, path=path) == []
        result = run(name, path=path)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"no {name}\n")


# Texts from outside


def test_what_could_steer_a_terminal_is_written_out(store: AntibodyStore, session: SessionRecord, path: Path) -> None:
    one = antibody(EVIL, guards=EVIL, reason=EVIL, status="rejected")
    store.save_generation(
        draft(session.id, antibodies=(one,), effects=(), verdicts=(), bank=(), prompts={EVIL: EVIL}, reason=EVIL)
    )
    (row,) = rows("antibodies", path=path)
    assert (row["text"], row["guards"], row["reason"]) == (EVIL, EVIL, EVIL)
    for words in (("antibodies",), ("prompts",), ("generations", "-v")):
        printed = table(*words, path=path)
        assert {unicodedata.category(c) for c in printed if c != "\n"}.isdisjoint({"Cc", "Cf", "Cs"})
        flat = "".join(printed.split())
        assert "[bold" in flat
    assert printable(EVIL) == r"[bold red]robot[/] \x1b[31mdog\x07 \u202eevil\ud800 " + "\U0001f98a" + r"\nnext"


def test_json_is_ascii_whatever_a_model_wrote(store: AntibodyStore, session: SessionRecord, path: Path) -> None:
    store.save_generation(draft(session.id, reason=EVIL))
    result = run("generations", "--json", path=path)
    assert result.stdout.isascii()
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("width", [20, 50, 100])
def test_a_narrow_terminal_loses_nothing(
    store: AntibodyStore, session: SessionRecord, path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    one = antibody("a weathered bronze statue of a dog", reason="too near to a class", status="rejected")
    store.save_generation(draft(session.id, antibodies=(one,), effects=(), verdicts=(), bank=()))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    printed = table("antibodies", path=path)
    words = [*one.text.split(), *one.reason.split(), "look_alike", "rejected", "0.500", "cosine"]
    assert [word for word in words if word not in printed] == []
    assert ("text: a weathered bronze statue of a dog\n" in printed) == (width < 60)


# Which database


def test_the_database_is_the_option_then_the_environment_then_the_runs_folder(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no database at" in error("sessions")
    assert "/runs/immuno.db" in error("sessions")
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    filled.rename(tmp_path / "runs" / "demo" / "immuno.db")
    assert [row["name"] for row in json.loads(run("sessions", "--json").stdout)] == ["alpha", "beta"]
    monkeypatch.setenv("IMMUNO_DB", "elsewhere.db")
    assert "no database at" in error("sessions")
    assert run("sessions", path=tmp_path / "runs" / "demo" / "immuno.db").exit_code == 0
    assert [found.name for found in tmp_path.iterdir()] == ["runs"]


def test_a_misspelt_session_is_corrected(filled: Path) -> None:
    for name in ("generations", "antibodies", "effects", "prompts"):
        assert "did you mean 'alpha'?" in error(name, "alhpa", path=filled)


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database at all, but long enough to have been one " * 20)
    for name in ("sessions", "check", "version", "upgrade"):
        assert "notes.txt is not a SQLite database" in error(name, path=tmp_path / "notes.txt")
    for name in ("sessions", "check", "upgrade"):
        assert "there is no database at" in error(name, path=tmp_path / "missing.db")


def test_reading_changes_no_byte(filled: Path) -> None:
    before = filled.read_bytes()
    for name in ("sessions", "generations", "antibodies", "effects", "prompts", "check", "version"):
        table(name, path=filled)
    assert filled.read_bytes() == before
    assert [found.name for found in filled.parent.iterdir()] == [filled.name]


# Looking after it


def test_version(path: Path, tmp_path: Path) -> None:
    assert f"schema {HEAD}" in table("version", path=path)
    assert rows("version", path=path)[0]["database_schema"] == HEAD
    assert rows("version", path=tmp_path / "none.db")[0]["database_schema"] is None
    assert not (tmp_path / "none.db").exists()


def test_upgrade_of_what_is_new_already(path: Path) -> None:
    assert table("upgrade", path=path) == f"schema {HEAD} already\n"
    assert rows("upgrade", path=path) == [{"before": HEAD, "after": HEAD}]


def test_check_finds_a_sound_database_sound(filled: Path) -> None:
    assert all(line.startswith("ok") for line in table("check", path=filled).splitlines())
    names = ["revision", "tables", "integrity", "foreign keys", "embeddings", "banks", "prompts", "rows"]
    assert [(row["name"], row["ok"]) for row in rows("check", path=filled)] == [(name, True) for name in names]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("foreign keys", "DELETE FROM sessions WHERE name = 'alpha'"),
        ("embeddings", "UPDATE embeddings SET vector = x'00'"),
        ("prompts", "UPDATE generations SET prompt_version = 9"),
        (
            "banks",
            "UPDATE bank_members SET antibody_id ="
            " (SELECT id FROM antibodies WHERE id NOT IN (SELECT antibody_id FROM embeddings) LIMIT 1)",
        ),
    ],
)
def test_check_finds_what_is_wrong(filled: Path, name: str, damage: str) -> None:
    with closing(sqlite3.connect(filled)) as connection:
        connection.execute(damage)
        connection.commit()
    found = CliRunner().invoke(group, ["check", "--json", "--db", str(filled)], standalone_mode=False)
    assert [row["name"] for row in json.loads(found.stdout) if not row["ok"]] == [name]
    assert found.return_value == 1
    printed = CliRunner().invoke(group, ["check", "--db", str(filled)], standalone_mode=False)
    assert [line.split()[1] for line in printed.stdout.splitlines() if line.startswith("FAIL")] == [name.split()[0]]


def test_the_commands_load_nothing_heavy(filled: Path) -> None:
    """`--help` loads no SQLAlchemy, and no command loads torch, Ray, LangChain, NumPy or another room."""
    script = """
import contextlib, io, sys
from immuno.cli.db import group

with contextlib.redirect_stdout(io.StringIO()):
    group.main(["--help"], standalone_mode=False)
    print([name for name in ("sqlalchemy", "rich") if name in sys.modules], file=sys.stderr)
    for name in ("sessions", "antibodies", "effects"):
        for options in ([], ["--json"]):
            group.main([name, "--db", sys.argv[1], *options], standalone_mode=False)
heavy = ("torch", "ray", "langchain", "langchain_core", "langgraph", "numpy", "scipy", "open_clip", "alembic")
heavy += ("pyarrow", "psutil")
rooms = ("evaluation", "cluster", "agents")
print([name for name in (*heavy, *rooms) if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(filled)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.splitlines() == ["[]", "[]"]

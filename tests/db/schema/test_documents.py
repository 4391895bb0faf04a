"""The pages about the database: what they show works, and what they say of the tables is so."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

from db.calls import record_calls
from db.claims import claim, session_work
from db.records import EffectDraft
from db.schema.models import Base
from db.store import AntibodyStore
from immuno.cli.db import group
from immuno_core.records import Verdict
from tests.db.build import antibody, call, draft, effect, make_session, result
from tests.pages import blocks, commands

DOCS = Path(__file__).parents[3] / "docs"
SCHEMA = runpy.run_path(str(DOCS / "schema.py"))
COOKBOOK = "docs/queries.md"
COMMANDS = commands(COOKBOOK)
PROGRAMS = [block.text for block in blocks(COOKBOOK, "python")]


@pytest.fixture
def filled(path: Path, store: AntibodyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_session(store, "first")
    robot, moon = antibody("robot dog", seed=1), antibody("wolf on the moon", seed=2, kind="contextual")
    effects = tuple(
        EffectDraft(effect(scope, "near", harm=0.0), one.id)
        for scope in ("solo", "leave_one_out")
        for one in (robot, moon)
    )
    verdicts = (Verdict("near", "robots/1.png", 0.5, True, "dog", None),)
    store.save_generation(draft(first.id, verdicts=verdicts))
    bank = (robot.id, moon.id)
    store.save_generation(draft(first.id, 1, antibodies=(robot, moon), effects=effects, verdicts=(), bank=bank))
    record_calls(store, first.id, [call(1)])
    store.save_generation(draft(make_session(store, "second").id))
    run = store.start_run(config={}, config_digest="c", seed=0, git_sha=None, versions={}, session_id=first.id)
    store.save_results(run.id, [result()])
    claim(store.engine, session_work(first.id), "me")
    monkeypatch.setenv("IMMUNO_DB", str(path))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.usefixtures("filled")
def test_a_command_of_the_cookbook_finds_something(command: list[str]) -> None:
    immuno, db, *arguments = command
    assert (immuno, db) == ("immuno", "db")
    result = CliRunner().invoke(group, arguments)
    assert result.exception is None
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) > 1


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.splitlines()[0])
@pytest.mark.usefixtures("filled")
def test_a_program_of_the_cookbook_runs(program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "example.py"
    file.write_text(program, encoding="utf-8")
    runpy.run_path(str(file))
    assert capsys.readouterr().out


def test_the_cookbook_shows_every_query() -> None:
    queries = {"sessions", "generations", "antibodies", "effects", "prompts"}
    queries |= {"top", "nearest", "lineage", "diff", "verdicts", "stats", "sql", "calls", "runs", "running"}
    assert {command[2] for command in COMMANDS} == queries


def test_the_schema_page_is_up_to_date() -> None:
    assert (DOCS / "schema.md").read_text(encoding="utf-8") == SCHEMA["schema_page"](), (
        "run: python docs/schema.py > docs/schema.md"
    )


def test_the_diagram_has_every_table_and_every_reference() -> None:
    diagram = SCHEMA["er_diagram"]()
    for table in Base.metadata.tables.values():
        assert f"    {table.name} {{" in diagram
        for key in table.foreign_key_constraints:
            assert re.search(rf"{key.referred_table.name} (\|\||\|o)--o{{ {table.name} : ", diagram)

"""A session's bank, written to a file that `[antibodies] file` reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from db.generations import chosen_generation
from db.records import SessionRecord
from db.store import AntibodyStore
from evaluation.bank import read_bank_file
from immuno.cli.db import group
from immuno.errors import SetupError

from .build import antibody, draft


def export(*arguments: str | Path, database: Path) -> Result:
    return CliRunner().invoke(group, ["export", *map(str, arguments), "--db", str(database)])


@pytest.fixture
def filled(store: AntibodyStore, session: SessionRecord, path: Path) -> Path:
    husky = antibody("husky", guards="wolf", kind="look_alike")
    store.save_generation(draft(session.id, antibodies=(), effects=(), verdicts=(), bank=()))
    store.save_generation(draft(session.id, 1, antibodies=(husky,), effects=(), verdicts=(), bank=(husky.id,)))
    late = antibody("wolf on the moon", guards="wolf", kind="contextual", seed=1)
    store.save_generation(
        draft(session.id, 2, antibodies=(late,), effects=(), verdicts=(), bank=(husky.id, late.id), accepted=False)
    )
    return path


def test_the_best_generation_is_written_and_read_back(filled: Path, session: SessionRecord, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "bank.jsonl"
    result = export(session.name, file, database=filled)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "1 antibodies of generation 1" in result.stdout
    assert [(one.text, one.kind, one.guards) for one in read_bank_file(file)] == [("husky", "look_alike", "wolf")]


def test_another_generation_can_be_named(filled: Path, session: SessionRecord, tmp_path: Path) -> None:
    file = tmp_path / "bank.jsonl"
    result = export(session.name, file, "--generation", "2", "--json", database=filled)
    assert '"antibodies": 2' in result.stdout
    assert [one.text for one in read_bank_file(file)] == ["husky", "wolf on the moon"]


@pytest.mark.parametrize(
    ("session_name", "file", "options", "says"),
    [
        ("alpha", "bank.txt", [], "exported as .jsonl"),
        ("alpha", "bank.jsonl", ["--generation", "9"], "no generation 9; it has 0 to 2"),
        ("alhpa", "bank.jsonl", [], "alpha"),
    ],
)
def test_what_cannot_be_exported_is_told(
    filled: Path, tmp_path: Path, session_name: str, file: str, options: list[str], says: str
) -> None:
    result = export(session_name, tmp_path / file, *options, database=filled)
    assert isinstance(result.exception, SetupError)
    assert says in str(result.exception)
    assert not (tmp_path / file).exists()


def test_a_session_without_generations_has_no_bank(store: AntibodyStore, session: SessionRecord) -> None:
    with pytest.raises(SetupError, match="has no generation yet; run: immuno refine resume"):
        chosen_generation(store, session, None)

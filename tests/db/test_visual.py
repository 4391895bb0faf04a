"""Visual antibodies in the database: without a text, told apart by the samples that they came from."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from db.exchange.banks import EmbeddedBank, read_bank_parquet, unembedded, write_bank_parquet
from db.records import EffectDraft
from db.schema import migrations
from db.schema.engine import make_engine, migrating, resolve_url
from db.store import AntibodyStore
from immuno.cli.db import group
from immuno_core.bank import Bank
from immuno_core.errors import SetupError
from immuno_core.records import Antibody, Verdict
from tests.db.build import ENCODER, antibody, draft, effect, make_session, vector, visual

CAT, OWL = ("near/cat 1.png", "near/cat 2.png", "far/\x00.png"), ("near/owl.png",)
LIKE_CAT, LIKE_OWL = "visual: like near/cat 1.png, near/cat 2.png, ...", "visual: like near/owl.png"


@pytest.fixture
def seen(store: AntibodyStore) -> list[Antibody]:
    """Two of them in a generation beside a text, each with an effect; one fired on a sample."""
    given = [antibody("robot dog", seed=1), visual(2, *CAT), visual(3, *OWL)]
    effects = tuple(EffectDraft(effect("solo"), one.id) for one in given)
    verdict = Verdict("near", "1.png", 0.5, False, "dog", given[1].id)
    bank = tuple(one.id for one in given)
    changes: dict[str, Any] = {"antibodies": (*given, visual(2, *CAT)), "bank": bank}
    session = make_session(store)
    store.save_generation(draft(session.id, effects=effects, verdicts=(verdict,), **changes))
    return given


def ask(path: Path, *arguments: str) -> str:
    done = CliRunner().invoke(group, [*arguments, "--db", str(path)], env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    return done.output


def test_they_are_stored_with_their_samples_and_told_apart_by_these(store: AntibodyStore, seen: list[Antibody]) -> None:
    session = store.session("alpha")
    (generation,) = store.generations(session.id)
    bank = store.bank(generation.id)
    assert [one.samples for one in bank.antibodies] == [(), CAT, OWL]
    assert [one.text for one in bank.antibodies] == ["robot dog", "", ""]
    np.testing.assert_array_equal(bank.vectors, [vector(seed) for seed in (1, 2, 3)])
    assert [one.samples for one in store.antibodies(session.id, kind="visual")] == [CAT, OWL]
    assert [one.antibody_text for one in store.effects(session.id)] == ["robot dog", LIKE_CAT, LIKE_OWL]
    assert unembedded(store, session.id, "another encoder")[0].text == "robot dog"
    assert len(unembedded(store, session.id, "another encoder")) == 1  # they have no text to embed


@pytest.mark.parametrize(
    "odd",
    [
        {"kind": "visual", "text": ""},
        {"kind": "visual", "text": "a cat", "samples": CAT},
        {"kind": "look_alike", "text": "", "samples": CAT},
    ],
)
def test_a_visual_antibody_has_samples_and_no_text_and_no_other_has(store: AntibodyStore, odd: dict[str, Any]) -> None:
    session = make_session(store)
    wrong = antibody(**({"seed": 1} | odd))
    with pytest.raises(SetupError, match="has samples and no text"):
        store.save_generation(draft(session.id, antibodies=(wrong,), effects=(), verdicts=(), bank=(wrong.id,)))


def test_every_list_says_what_they_are_like(path: Path, seen: list[Antibody]) -> None:
    for question in (["antibodies"], ["effects"], ["top"], ["verdicts", "1.png"], ["diff", "alpha:0", "alpha:0"]):
        assert LIKE_CAT in ask(path, *question), question
    assert LIKE_OWL in ask(path, "nearest", seen[1].id)
    assert LIKE_CAT in ask(path, "nearest", "robot dog", "--kind", "visual")
    assert LIKE_OWL in ask(path, "lineage", seen[2].id)
    assert {"name": "visual", "number": 2} in json.loads(ask(path, "stats", "--json"))
    rows = json.loads(ask(path, "antibodies", "--kind", "visual", "--json"))
    assert [(one["text"], tuple(one["samples"])) for one in rows] == [("", CAT), ("", OWL)]
    assert len(ask(path, "antibodies", "--csv").splitlines()) == 4


def test_a_bank_takes_them_along_with_its_embeddings_only(path: Path, seen: list[Antibody], tmp_path: Path) -> None:
    ask(path, "export", "alpha", str(tmp_path / "bank.parquet"))
    ask(path, "export", "alpha", str(tmp_path / "bank.jsonl"))
    assert (tmp_path / "bank.jsonl").read_text(encoding="utf-8").count("\n") == 1
    found = read_bank_parquet(tmp_path / "bank.parquet").bank
    assert [one.samples for one in found.antibodies] == [(), CAT, OWL]
    np.testing.assert_array_equal(found.vectors, [vector(seed) for seed in (1, 2, 3)])
    for _ in range(2):
        ask(path, "import-bank", str(tmp_path / "bank.parquet"), "--session", "taken")
    assert ask(path, "antibodies", "taken").count("visual: like") == 2
    (owl,) = json.loads(ask(path, "nearest", seen[2].id, "--session", "taken", "--limit", "1", "--json"))
    assert (owl["text"], round(owl["similarity"], 5)) == (LIKE_OWL, 1.0)


@pytest.mark.parametrize(("kind", "text"), [("visual", "a cat"), ("look_alike", " "), ("smell", "a cat")])
def test_a_bank_file_with_another_text_than_its_kind_has_is_refused(tmp_path: Path, kind: Any, text: str) -> None:
    odd = Bank((Antibody(text, kind, id="1", samples=OWL),), vector(1)[None])
    write_bank_parquet(tmp_path / "bank.parquet", EmbeddedBank(odd, ENCODER))
    with pytest.raises(SetupError, match=r"bank.parquet, row 1: a text of the kind"):
        read_bank_parquet(tmp_path / "bank.parquet")


def test_a_bank_file_without_their_samples_is_refused(tmp_path: Path) -> None:
    odd = Bank((Antibody("", "visual", id="1"),), vector(1)[None])
    write_bank_parquet(tmp_path / "bank.parquet", EmbeddedBank(odd, ENCODER))
    with pytest.raises(SetupError, match="'samples' is not a JSON list of names"):
        read_bank_parquet(tmp_path / "bank.parquet")


def test_an_older_schema_loses_them_and_what_was_measured_of_them(path: Path, store: AntibodyStore, seen: Any) -> None:
    store.close()
    engine = make_engine(resolve_url(str(path)))
    with migrating(engine) as connection:
        migrations.downgrade(connection, "0006")
    engine.dispose()
    with closing(sqlite3.connect(path)) as database:
        for table in ("antibodies", "embeddings", "bank_members", "effects"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,), table  # noqa: S608
        assert database.execute("SELECT nearest_antibody_id FROM verdicts").fetchone() == (None,)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []

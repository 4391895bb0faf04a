"""Imported texts get their embeddings where an encoder is at hand, and `nearest` finds them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from db.exchange.banks import add_embeddings, unembedded
from db.maintenance import check_database
from db.questions.nearest import nearest
from db.records import SessionRecord
from db.schema.engine import reading
from db.store import AntibodyStore, open_store
from immuno.cli.db import group
from immuno_core.errors import SetupError
from tests.configs import write_config
from tests.db.build import DIM, ENCODER, draft, vector

TEXTS = ("robot dog", "steel wolf", "statue of a dog")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose encoder is a table of the three texts in their template."""
    rows = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 0, 1]], np.float32)
    np.savez(tmp_path / "texts.npz", texts=np.array([f"a photo of a {text}." for text in TEXTS]), features=rows)
    (tmp_path / "classes.txt").write_text("dog\n")
    return write_config(
        tmp_path / "config.toml",
        encoder={"kind": "precomputed", "texts": "texts.npz"},
        classes={"names": "classes.txt"},
        antibodies={"template": "a photo of a {}."},
    )


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    (tmp_path / "mined.txt").write_text("\n".join(TEXTS) + "\n")
    return tmp_path / "mined.txt"


def run(*arguments: str | Path, database: str) -> Any:
    done = CliRunner().invoke(group, [*map(str, arguments), "--db", database, "--json"])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def test_an_imported_bank_is_found_once_it_is_embedded(database: str, bank: Path, config: Path) -> None:
    assert run("import-bank", bank, database=database)[0]["embedded"] == 0
    with pytest.raises(SetupError, match=r"without an embedding .*immuno db embed mined --config"):
        run("nearest", "robot dog", database=database)
    assert run("embed", "mined", "--config", config, database=database) == [{"session": "mined", "embedded": 3}]
    assert run("embed", "mined", "--config", config, database=database) == [{"session": "mined", "embedded": 0}]
    found = run("nearest", "robot dog", database=database)
    assert [(one["text"], one["similarity"]) for one in found] == [("steel wolf", 0.8), ("statue of a dog", 0.0)]
    assert all(check.ok for check in check_database(database, Path("x")))


@pytest.mark.long  # a cluster of its own
def test_an_import_can_embed_at_once_and_says_so(path: Path, bank: Path, config: Path) -> None:
    (found,) = run("import-bank", bank, "--config", config, "--session", "mine", database=str(path))
    assert (found["antibodies"], found["embedded"], found["new"]) == (3, 3, True)
    (again,) = run("import-bank", bank, "--config", config, "--session", "mine", database=str(path))
    assert (again["embedded"], again["new"]) == (0, False)
    printed = CliRunner().invoke(group, ["embed", "mine", "--config", str(config), "--db", str(path)])
    assert printed.stdout == "session 'mine': 0 texts embedded\n"


def test_a_bad_configuration_stores_nothing(path: Path, bank: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"nothing\.toml"):
        run("import-bank", bank, "--config", tmp_path / "nothing.toml", database=str(path))
    with open_store(str(path)) as store:
        assert store.sessions() == ()


def test_what_was_turned_down_gets_an_embedding_too_and_the_rest_keeps_its_own(
    store: AntibodyStore, session: SessionRecord
) -> None:
    own = draft(session.id)
    store.save_generation(own)
    kept, turned_down = own.antibodies
    assert [one.id for one in unembedded(store, session.id, ENCODER.digest)] == [turned_down.id]
    vectors = {kept.id: vector(5), turned_down.id: vector(6)}
    assert add_embeddings(store, ENCODER, vectors) == 1
    assert add_embeddings(store, ENCODER, vectors) == 0
    assert unembedded(store, session.id, ENCODER.digest) == ()
    np.testing.assert_array_equal(store.bank(store.generations()[0].id).vectors, [vector(0)])
    (found,) = nearest(store, kept.id)
    assert found.id == turned_down.id
    assert found.similarity == pytest.approx(float(vector(0) @ vector(6)), abs=1e-6)


@pytest.mark.parametrize(
    ("key", "size", "says"),
    [("nobody", DIM, "no antibody with the id 'nobody'"), ("", DIM + 1, r"shape \(5,\)")],
    ids=["unknown", "wrong size"],
)
def test_what_cannot_be_embedded_adds_nothing(
    store: AntibodyStore, session: SessionRecord, key: str, size: int, says: str
) -> None:
    own = draft(session.id)
    store.save_generation(own)
    vectors = {own.antibodies[1].id: vector(6), key or own.antibodies[0].id: np.ones(size, np.float32)}
    if not key:
        vectors = {own.antibodies[1].id: np.ones(size, np.float32)}
    with pytest.raises(SetupError, match=says):
        add_embeddings(store, ENCODER, vectors)
    with reading(store.engine):
        assert len(unembedded(store, session.id, ENCODER.digest)) == 1


def test_an_imported_bank_gets_the_encoder_that_embeds_it_first(path: Path, bank: Path, config: Path) -> None:
    run("import-bank", bank, database=str(path))
    with open_store(str(path)) as store:
        (generation,) = store.generations()
        assert store.session("mined").encoder.model == "none"
    run("embed", "mined", "--config", config, database=str(path))
    with open_store(str(path)) as store:
        session = store.session("mined")
        assert session.encoder.model == "precomputed"
        assert store.bank(generation.id).texts == tuple(TEXTS)
        other = replace(session.encoder, weights_digest="another")
        rows = np.eye(3, dtype=np.float32)
        added = {one.id: row for one, row in zip(store.bank(generation.id).antibodies, rows, strict=True)}
        assert add_embeddings(store, other, added) == 3
        assert store.session("mined").encoder == session.encoder
        assert len(store.bank(generation.id)) == 3
    assert run("export", "mined", bank.with_suffix(".parquet"), database=str(path))[0]["antibodies"] == 3


def test_a_copy_learns_of_the_encoder_in_a_merge(path: Path, bank: Path, config: Path, tmp_path: Path) -> None:
    run("import-bank", bank, database=str(path))
    run("backup", tmp_path / "copy.db", database=str(path))
    run("embed", "mined", "--config", config, database=str(path))
    run("merge", path, database=str(tmp_path / "copy.db"))
    with open_store(str(tmp_path / "copy.db")) as store:
        assert store.session("mined").encoder.model == "precomputed"
        assert len(store.bank(store.generations()[0].id)) == 3

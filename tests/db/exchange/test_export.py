"""A session's bank, written to a file that `[antibodies] file` reads."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from db.exchange import columns
from db.exchange.banks import read_bank_parquet
from db.questions.nearest import nearest
from db.records import SessionRecord
from db.store import AntibodyStore, chosen_generation, open_store
from evaluation.antibodies.bank_files import read_bank_file
from immuno.cli.db import group
from immuno_core.errors import SetupError
from tests.db.build import ENCODER, antibody, draft


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
        ("alpha", "bank.txt", [], "exported as .jsonl or .parquet"),
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


def test_a_bank_goes_with_its_embeddings_to_another_database(filled: Path, tmp_path: Path) -> None:
    file, away = tmp_path / "bank.parquet", tmp_path / "away.db"
    assert "2 antibodies" in export("alpha", file, "--generation", "2", database=filled).stdout
    for _ in range(2):
        done = CliRunner().invoke(group, ["import-bank", str(file), "--db", str(away)])
        assert done.exception is None
    assert "is there already: generation 0 of 'bank': 2 antibodies, 0 embedded" in done.stdout
    with open_store(str(filled)) as source, open_store(str(away)) as target:
        assert [one.text for one in nearest(target, "husky")] == ["wolf on the moon"]
        assert nearest(target, "husky")[0].similarity == nearest(source, "husky")[0].similarity
        (generation,) = target.generations()
        assert generation.metrics["source"]["file"] == "bank.parquet"


def test_an_imported_bank_is_exported_as_texts(path: Path, tmp_path: Path) -> None:
    texts = tmp_path / "mined.txt"
    texts.write_text("one\ntwo\n")
    assert CliRunner().invoke(group, ["import-bank", str(texts), "--db", str(path)]).exception is None
    assert "2 antibodies" in export("mined", tmp_path / "out.jsonl", database=path).stdout
    assert [one.text for one in read_bank_file(tmp_path / "out.jsonl")] == ["one", "two"]
    refused = export("mined", tmp_path / "out.parquet", database=path).exception
    assert "imported as texts" in str(refused)


ENCODED = {b"immuno_encoder": json.dumps(asdict(ENCODER)).encode()}


@pytest.mark.parametrize(
    ("row", "metadata", "says"),
    [
        ({}, {}, "does not say which encoder"),
        ({}, {b"immuno_encoder": b'{"dim": 4}'}, "does not say which encoder"),
        ({"vector": [1.0] * 3}, ENCODED, r"row 1 has shape \(3,\)"),
        ({"vector": [math.nan] * 4}, ENCODED, "row 1 is not made of finite"),
        ({"vector": [2.0, 0.0, 0.0, 0.0]}, ENCODED, r"\.parquet: antibody vectors: 1 row\(s\) are not of unit norm"),
        ({"vector": None}, ENCODED, r"row 1 has shape \(0,\)"),
        ({"kind": "odd"}, ENCODED, "row 1: a text of the kind look_alike or contextual"),
        ({"text": None}, ENCODED, "row 1: 'text' is not a text"),
        ({"text": " "}, ENCODED, "row 1: a text of the kind"),
    ],
    ids=["no encoder", "half an encoder", "size", "nan", "norm", "no vector", "kind", "null", "blank"],
)
def test_a_bad_bank_is_named_and_stores_nothing(
    path: Path, tmp_path: Path, row: dict[str, Any], metadata: dict[bytes, bytes], says: str
) -> None:
    whole = {"text": "a", "kind": "look_alike", "guards": "", "rationale": "", "vector": [1.0, 0.0, 0.0, 0.0]} | row
    schema = pa.schema([*((n, pa.string()) for n in list(whole)[:4]), ("vector", pa.list_(pa.float32()))])
    pq.write_table(pa.Table.from_pylist([whole], schema.with_metadata(metadata)), tmp_path / "bank.parquet")
    refused = CliRunner().invoke(group, ["import-bank", str(tmp_path / "bank.parquet"), "--db", str(path)]).exception
    assert isinstance(refused, SetupError)
    assert re.search(says, str(refused))
    with open_store(str(path)) as store:
        assert store.sessions() == ()


def test_what_is_no_parquet_file_is_told(path: Path, tmp_path: Path) -> None:
    (tmp_path / "bank.parquet").write_text("text")
    for name, says in (("bank.parquet", "is not a Parquet file"), ("gone.parquet", "no bank at")):
        refused = CliRunner().invoke(group, ["import-bank", str(tmp_path / name), "--db", str(path)]).exception
        assert says in str(refused)


def test_a_small_parquet_file_that_stands_for_more_than_fits_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "_MOST_BYTES", 2**20)
    monkeypatch.setattr(columns, "_MOST_NUMBERS", 2**14)
    file = tmp_path / "bank.parquet"
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int32()), pa.array(["x" * 2**12]))
    for column, says in (
        ({"text": text}, r"1,024 rows of 'text' come to 4,194,304; 1,048,576 are the most"),
        ({"text": text.cast(pa.string())}, r"1,024 rows of 'text' come to 4,194,304; 1,048,576 are the most"),
        ({"vector": pa.array([[0.0] * 2**15])}, r"1 rows of 'vector' come to 32,768; 16,384 are the most"),
    ):
        blank = pa.array([""] * len(next(iter(column.values()))))
        table = pa.table(dict.fromkeys(("text", "kind", "guards", "rationale", "vector"), blank) | column)
        pq.write_table(table.replace_schema_metadata(ENCODED), file)
        assert file.stat().st_size < 100_000
        with pytest.raises(SetupError, match=rf"bank\.parquet: {says}"):
            read_bank_parquet(file)
    monkeypatch.setattr(columns, "_MOST_VALUES", 1000)
    with pytest.raises(SetupError, match=r"a column has 32,768 values; 1,000 are the most"):
        read_bank_parquet(file)

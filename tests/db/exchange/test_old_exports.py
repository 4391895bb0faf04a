"""Sessions that older versions exported, as JSONL or as Parquet: frozen ones are imported, no damage goes unnoticed.

`frozen/alpha_*.zip` were written by the code of schema 0004: what `fill` of test_exchange makes, but with matured
embeddings, and a call that failed.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from sqlalchemy import Connection, create_engine

from db.maintenance import check_database
from db.schema import migrations
from db.store import AntibodyStore
from tests.db.build import vector
from tests.rows import SHARES

from .test_exchange import contents, refused, take_in
from .test_faithful import UNFRIENDLY

FROZEN = Path(__file__).parent / "frozen"
MANIFEST, VECTORS = "manifest.json", "vectors.safetensors"


@pytest.fixture(autouse=True)
def _an_old_schema_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty database of an older schema takes the migrations a quarter of a second."""

    def quickly(connection: Connection, revision: str = "head") -> None:
        if revision == "head":
            _upgrade(connection)
        else:
            for statement in _old_schema(revision):
                connection.exec_driver_sql(statement)

    monkeypatch.setattr(migrations, "upgrade", quickly)


_upgrade = migrations.upgrade


@cache
def _old_schema(revision: str) -> tuple[str, ...]:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        _upgrade(connection, revision)
    with engine.connect() as connection:
        made: Any = connection.connection.driver_connection
        return tuple(line for line in made.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;"))


@pytest.fixture(params=["jsonl", "parquet"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return unpacked(request.param, tmp_path)


def unpacked(form: str, tmp_path: Path) -> Path:
    with zipfile.ZipFile(FROZEN / f"alpha_{form}.zip") as archive:
        archive.extractall(tmp_path / "alpha")
    return tmp_path / "alpha"


def test_what_was_exported_is_there(folder: Path, store: AntibodyStore) -> None:
    take_in(store, folder)
    alpha = store.session("alpha")
    assert (alpha.config, alpha.seed, alpha.generations, alpha.best) == ({"seed": 7}, 7, 4, 3)
    first, *later = store.generations()
    assert [one.text for one in store.antibodies(generation=0)] == UNFRIENDLY
    assert [one.guards for one in store.antibodies(generation=0)] == UNFRIENDLY
    assert [one.rationale for one in store.antibodies(generation=0)] == UNFRIENDLY
    np.testing.assert_array_equal(store.bank(first.id).vectors, [vector(0), vector(1)])
    for number, generation in enumerate(later, start=1):
        (matured,) = store.bank(generation.id).antibodies
        assert (matured.text, matured.relation) == (f"{UNFRIENDLY[0]} (matured)", "matured")
        np.testing.assert_array_equal(store.bank(generation.id).vectors, [vector(100 + number)])
    (solo,) = store.effects(scope="solo", outlier_set="odd")
    assert (math.isnan(solo.gain), solo.d_auroc) == (True, -math.inf)
    assert sorted(one.sample_id for one in store.verdicts(first.id)) == sorted(UNFRIENDLY)
    assert (str(first.metrics["mean"]), first.metrics["shares"]) == ("nan", [0.1, math.inf])
    assert next(one.text for one in store.prompts()) == "\ud83d\ude00 as two halves, \x00, \u202e"
    paid, failed = store.llm_calls()
    assert (paid.reply_text, failed.reply_text, failed.parameters) == ("paid for \x00", None, {"error": "refused"})
    (run,) = store.runs()
    assert (run.config, run.seed, run.status) == ({"x": math.inf}, 2**62, "finished")
    (row,) = store.results(run.id)
    assert row.metrics == dict.fromkeys(SHARES, 0.5) | {"auroc": None, "h_score": 0.25}
    assert row.intervals == {"auroc": (0.1, 0.2)}
    assert [one.reason for one in store.test_reads()] == ["the final measurement"]
    assert sum(take_in(store, folder).values()) == 0


def test_both_forms_give_the_same_sound_database(store: AntibodyStore, path: Path, tmp_path: Path) -> None:
    take_in(store, unpacked("jsonl", tmp_path / "lines"))
    before = contents(store)
    assert all(before.values())
    assert all(check.ok for check in check_database(str(path), path))
    take_in(store, unpacked("parquet", tmp_path / "columns"))
    assert repr(contents(store)) == repr(before)


# What is not whole


def _sign(folder: Path, name: str, **changes: Any) -> None:
    """Say in the manifest what a file is now, as one would who means to."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] |= {"sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()} | changes
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _line(number: int, **changes: Any) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        lines = raw.splitlines(keepends=True)
        lines[number - 1] = json.dumps(json.loads(lines[number - 1]) | changes).encode() + b"\n"
        return b"".join(lines)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_line(3, position="three"), "line 3: 'position' cannot be 'three'"),
        (_line(3, position=True), "line 3: 'position' cannot be True"),
        (_line(3, position=None), "line 3: 'position' cannot be None"),
        (_line(3, position=2**31), "'position' cannot be 2147483648"),
        (_line(3, position=2**70), "line 3: "),
        (_line(3, text=7), "line 3: 'text' cannot be 7"),
        (_line(3, text="a\udc80"), "line 3: "),
        (_line(3, txt="x"), "line 3: the column 'txt' is missing, or none of 'antibodies'"),
        (_line(3, digest="x" * 65), "'digest' cannot be"),
        (_line(3, created_at="yesterday"), "line 3: 'created_at' is not a time, but 'yesterday'"),
        (_line(3, created_at="2026-05-01T12:00:00"), "line 3: 'created_at' is a time without a time zone"),
        (lambda raw: raw.replace(b'"cosine": 0.5', b'"cosine": NaN', 1), "line 1: not JSON (NaN is no JSON)"),
        (lambda raw: raw.replace(b'"kind": ', b'"kid": ', 1), "line 1: the column 'kid' is missing"),
        (lambda raw: raw[:-9], ": not JSON ("),
        (lambda raw: raw + b"\xff\n", "not JSON ('utf-8' codec"),
        (lambda raw: raw + b"[]\n", "not a JSON object"),
        (lambda raw: raw + b"[" * 100_000 + b"\n", "not JSON ("),
        (_line(3, kind="friend"), "line 3: CHECK constraint failed: ck_antibodies_kind"),
        (_line(3, position=0), "line 3: UNIQUE constraint failed: antibodies.generation_id"),
        (_line(3, generation_id="nobody"), "line 3: FOREIGN KEY constraint failed"),
        (lambda raw: b"".join(raw.splitlines(keepends=True)[:-1]), "rows, not as many as"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_imported(
    store: AntibodyStore, path: Path, tmp_path: Path, change: Callable[[bytes], bytes], says: str
) -> None:
    folder = unpacked("jsonl", tmp_path)
    (folder / "antibodies.jsonl").write_bytes(change((folder / "antibodies.jsonl").read_bytes()))
    _sign(folder, "antibodies.jsonl")
    assert says in refused(store, folder)


@pytest.mark.parametrize("damage", ["bit", "cut", "gone"])
def test_a_damaged_file_is_noticed(store: AntibodyStore, path: Path, folder: Path, damage: str) -> None:
    for name in ("antibodies.jsonl", VECTORS, "embeddings.parquet"):
        if not (file := folder / name).exists():
            continue
        whole = file.read_bytes()
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 1
        file.unlink()
        if damage != "gone":
            file.write_bytes(changed if damage == "bit" else whole[:-9])
        says = f"cannot read {file}" if damage == "gone" else f"{file} has been changed since it was exported"
        assert says in refused(store, folder)
        file.write_bytes(whole)


@pytest.mark.parametrize(
    ("vectors", "says"),
    [
        (lambda all_: all_[:, :3], "the embedding of the row at"),
        (lambda all_: all_[:-1], "there is no vector of type '<f4' for it"),
        (lambda all_: np.concatenate([all_, all_]), "holds other vectors than"),
        (lambda all_: all_.astype(np.float16), "type float16, not (n, d) float32"),
        (lambda all_: all_ * np.float32("nan"), "not made of finite floating-point numbers"),
        (lambda all_: all_[0], "not (n, d) float32"),
        (None, "is not a safetensors file"),
    ],
)
def test_wrong_vectors_are_refused(
    store: AntibodyStore, path: Path, tmp_path: Path, vectors: Callable[[Any], Any] | None, says: str
) -> None:
    folder = unpacked("jsonl", tmp_path)
    tensors = safetensors.numpy.load((folder / VECTORS).read_bytes())
    changed = b"text" if vectors is None else safetensors.numpy.save({k: vectors(v) for k, v in tensors.items()})
    (folder / VECTORS).write_bytes(changed)
    _sign(folder, VECTORS)
    assert says in refused(store, folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "zip"}, "not the format 'immuno-session' 1"),
        ({"version": 2}, "not the format 'immuno-session' 1"),
        ({"schema": "9999"}, "has the schema '9999', which this version does not know"),
        ({"files": {"../../etc/passwd": {}}}, "does not name the files of an export"),
        ({"files": None}, "does not name the files of an export"),
    ],
)
def test_a_manifest_of_something_else(
    store: AntibodyStore, path: Path, folder: Path, change: dict[str, Any], says: str
) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | change))
    assert says in refused(store, folder)


def test_a_folder_that_is_no_export(store: AntibodyStore, path: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert f"no list of an exported session's files at {tmp_path / 'empty' / MANIFEST}" in refused(
        store, tmp_path / "empty"
    )
    (tmp_path / "empty" / MANIFEST).write_text("{")
    assert f"{tmp_path / 'empty' / MANIFEST}: not JSON" in refused(store, tmp_path / "empty")


def with_column(name: str, values: list[Any], kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        column = pa.array(values * (len(table) if len(values) == 1 else 1), kind)
        return table.set_column(table.schema.get_field_index(name), pa.field(name, kind), [column])

    return change


FLOATS = pa.list_(pa.float32())


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("sessions", lambda table: table.drop_columns("seed"), "the column 'seed' is missing"),
        ("sessions", lambda table: table.append_column("x", [[1]]), "the column 'x' is missing, or none of"),
        ("sessions", with_column("seed", ["7"], pa.string()), "row 1: 'seed' cannot be '7'"),
        ("sessions", with_column("config", ["{"], pa.string()), "row 1: 'config': not JSON"),
        ("sessions", with_column("name", [None], pa.string()), "row 1: 'name' cannot be None"),
        ("sessions", lambda table: table.slice(0, 0), "has 0 rows, not as many as"),
        ("embeddings", with_column("vector", [[1.0] * 3], FLOATS), "row 1 has shape (3,)"),
        ("embeddings", with_column("vector", [[math.nan] * 4], FLOATS), "not made of finite"),
        ("antibodies", None, "is not a Parquet file"),
    ],
    ids=["less", "more", "type", "json", "null", "rows", "size", "nan", "text"],
)
def test_what_is_no_row_is_named(
    store: AntibodyStore,
    path: Path,
    tmp_path: Path,
    name: str,
    change: Callable[[pa.Table], pa.Table] | None,
    says: str,
) -> None:
    folder = unpacked("parquet", tmp_path)
    file = folder / f"{name}.parquet"
    if change is None:
        file.write_text("text")
    else:
        pq.write_table(change(pq.read_table(file)), file)
    _sign(folder, file.name)
    assert says in refused(store, folder)

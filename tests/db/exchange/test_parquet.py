"""A session as Parquet files: the same session comes back, other programs read them, and no change goes unnoticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from db.exchange.joining import TABLES
from db.exchange.session_files import MANIFEST, open_folder
from db.exchange.sessions import export_session, import_session
from db.records import SessionRecord
from db.store import AntibodyStore, open_store
from immuno.cli.db import group
from immuno_core.errors import SetupError

from .test_exchange import contents, fill


@pytest.fixture
def filled(store: AntibodyStore, session: SessionRecord) -> AntibodyStore:
    fill(store, session)
    return store


@pytest.fixture
def folder(filled: AntibodyStore, tmp_path: Path) -> Path:
    export_session(filled, "alpha", tmp_path / "alpha", form="parquet")
    return tmp_path / "alpha"


@pytest.fixture
def other(new_database: Path, tmp_path: Path) -> Iterator[AntibodyStore]:
    path = tmp_path / "other.db"
    path.write_bytes(new_database.read_bytes())
    with open_store(str(path)) as opened:
        yield opened


def test_a_session_comes_back_row_for_row(filled: AntibodyStore, folder: Path, other: AntibodyStore) -> None:
    before = contents(filled)
    joined = import_session(other, open_folder(folder))
    assert repr(contents(other)) == repr(before)
    assert {one.table: one.added for one in joined} == {name: len(rows) for name, rows in before.items()}
    assert sum(one.added for one in import_session(other, open_folder(folder))) == 0
    for one in filled.generations():
        assert np.array_equal(other.bank(one.id).vectors, filled.bank(one.id).vectors)


def test_both_forms_give_the_same_database(filled: AntibodyStore, folder: Path, tmp_path: Path) -> None:
    export_session(filled, "alpha", tmp_path / "lines")
    found = []
    for name in ("alpha", "lines"):
        with open_store(str(tmp_path / f"{name}.db")) as fresh:
            import_session(fresh, open_folder(tmp_path / name))
            found.append(repr(contents(fresh)))
    assert found[0] == found[1]


def test_other_programs_read_typed_columns(filled: AntibodyStore, folder: Path, path: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        [MANIFEST, *(f"{table.name}.parquet" for table in TABLES)]
    )
    sessions = pq.read_table(folder / "sessions.parquet")
    (row,) = sessions.to_pylist()
    assert (row["name"], str(row["created_at"].tzinfo), json.loads(row["config"])) == ("alpha", "UTC", {"seed": 7})
    embeddings = pq.read_table(folder / "embeddings.parquet")
    assert embeddings.schema.field("vector").type.value_type == pa.float32()
    assert len(embeddings.column("vector")[0]) == 4
    assert pq.read_table(folder / "effects.parquet").schema.field("gain").type == pa.float64()


def rewrite(folder: Path, name: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a file and what the manifest says of it, as one would who means to."""
    file = folder / name
    pq.write_table(change(pq.read_table(file)), file)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def with_column(name: str, values: list[Any], kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.schema.get_field_index(name), pa.field(name, kind), [pa.array(values, kind)])

    return change


VECTORS = pa.list_(pa.field("element", pa.float32(), nullable=False))


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("sessions.parquet", lambda table: table.drop_columns("seed"), "the column 'seed' is missing"),
        ("sessions.parquet", lambda table: table.append_column("x", [[1]]), "the column 'x' is int64, not a column"),
        ("sessions.parquet", with_column("seed", ["7"], pa.string()), "the column 'seed' is string, not int64"),
        ("sessions.parquet", with_column("config", ["{"], pa.string()), "row 1: 'config' is not JSON"),
        ("sessions.parquet", with_column("name", [None], pa.string()), "row 1: 'name' is null"),
        ("sessions.parquet", lambda table: table.slice(0, 0), "has 0 rows, not as many as"),
        (
            "embeddings.parquet",
            lambda table: with_column("vector", [[1.0] * 3] * len(table), VECTORS)(table),
            r"row 1 has shape \(3,\)",
        ),
        (
            "embeddings.parquet",
            lambda table: with_column("vector", [[float("nan")] * 4] * len(table), VECTORS)(table),
            "not made of finite",
        ),
    ],
    ids=["less", "more", "type", "json", "null", "rows", "size", "nan"],
)
def test_what_is_no_row_is_named(
    filled: AntibodyStore, folder: Path, path: Path, name: str, change: Callable[[pa.Table], pa.Table], says: str
) -> None:
    rewrite(folder, name, change)
    with pytest.raises(SetupError, match=says):
        open_folder(folder)


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "no parquet"])
def test_a_damaged_file_is_told(filled: AntibodyStore, folder: Path, path: Path, damage: str) -> None:
    file = folder / "antibodies.parquet"
    whole = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    elif damage == "bit":
        whole[len(whole) // 2] ^= 1
        file.write_bytes(whole)
    elif damage == "cut":
        file.write_bytes(whole[:-9])
    else:
        file.write_bytes(b"text")
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"][file.name]["sha256"] = hashlib.sha256(b"text").hexdigest()
        (folder / MANIFEST).write_text(json.dumps(manifest))
    says = {"gone": "cannot read", "no parquet": "is not a Parquet file"}.get(damage, "has been changed")
    with pytest.raises(SetupError, match=says):
        open_folder(folder)


def test_the_commands_write_and_read_it(filled: AntibodyStore, path: Path, tmp_path: Path) -> None:
    filled.close()

    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(group, [*arguments, "--json"])
        assert done.exception is None
        return json.loads(done.stdout)

    (written,) = run("export-session", "alpha", str(tmp_path / "out"), "--parquet", "--db", str(path))
    assert written["files"]["generations.parquet"] == 4
    joined = run("import-session", str(tmp_path / "out"), "--as", "beta", "--db", str(tmp_path / "new.db"))
    assert {one["table"]: one["added"] for one in joined}["generations"] == 4

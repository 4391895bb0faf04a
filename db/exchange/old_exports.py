"""Sessions as versions before schema 0005 exported them, which are imported still: folders of JSONL or Parquet files.

manifest.json         format, schema, session, and of every other file its SHA-256 and its number of rows
TABLE.jsonl           one line per row of that table, rows before those that refer to them
vectors.safetensors   one tensor (rows, dim) per encoder, named by its digest: its k-th row is the vector of the
                      encoder's k-th line in embeddings.jsonl

or TABLE.parquet for each table, the vectors within embeddings.parquet. Texts are as the database stores them.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from db.exchange.columns import parquet_file, rows_of
from db.schema import migrations
from db.schema.engine import make_engine, migrating, resolve_url
from db.schema.vectors import DTYPE, to_bytes
from immuno_core.errors import SetupError
from immuno_core.files import read_bytes
from immuno_core.text import strict_json

_MANIFEST = "manifest.json"
_VECTORS = "vectors.safetensors"
_TABLES = (
    *("datasets", "encoders", "sessions", "generations", "llm_calls", "prompts", "runs"),
    *("antibodies", "results", "test_reads", "effects", "embeddings", "verdicts", "bank_members"),
)
"""After those that their foreign keys refer to."""
_TYPES: dict[str, tuple[type, ...]] = {
    **{"INTEGER": (int,), "BIGINT": (int,), "BOOLEAN": (bool,), "DOUBLE": (int, float)},
    **{"TEXT": (str,), "VARCHAR": (str,), "BLOB": (bytes,), "DATETIME": (str, datetime), "JSON": (dict, list, str)},
}
"""What a column of that type holds in a file: JSON is text in Parquet, times are text in JSONL."""
Row = dict[str, Any]


def restore(folder: Path, target: Path) -> None:
    """Make a SQLite database of an exported folder, of the schema that it was exported with.

    Raises SetupError, naming file and line where there is one, for what is no export, has been changed or is malformed.
    """
    manifest = _manifest(folder)
    files = manifest["files"]
    form = ".jsonl" if _VECTORS in files else ".parquet"
    for name, entry in files.items():
        if _digest(folder / name) != entry.get("sha256"):
            raise SetupError(f"{folder / name} has been changed since it was exported (its SHA-256 is another)")
    engine = make_engine(resolve_url(str(target)))
    with migrating(engine) as connection:
        migrations.upgrade(connection, manifest["schema"])
    engine.dispose()
    with closing(sqlite3.connect(target)) as database:
        database.execute("PRAGMA foreign_keys=ON")
        for table in _TABLES:
            path = folder / f"{table}{form}"
            count = _insert(database, table, _lines(path) if form == ".jsonl" else _parquet(path))
            if count != files[path.name].get("rows"):
                raise SetupError(f"{path} has {count} rows, not as many as {folder / _MANIFEST} says")
        database.commit()


def _manifest(folder: Path) -> dict[str, Any]:
    file = folder / _MANIFEST
    manifest = _object(read_bytes(file, "list of an exported session's files"), str(file))
    if (manifest.get("format"), manifest.get("version")) != ("immuno-session", 1):
        raise SetupError(f"{file}: not the format 'immuno-session' 1; another version of immuno-vlm wrote it")
    if manifest.get("schema") not in migrations.REVISIONS:
        raise SetupError(f"{file} has the schema {manifest.get('schema')!r}, which this version does not know")
    files = manifest.get("files")
    forms = ({*(f"{table}.jsonl" for table in _TABLES), _VECTORS}, {f"{table}.parquet" for table in _TABLES})
    entries = files if isinstance(files, dict) else {}
    if set(entries) not in forms or not all(isinstance(entry, dict) for entry in entries.values()):
        raise SetupError(f"{file} does not name the files of an export; export again")
    return manifest


def _insert(database: sqlite3.Connection, table: str, rows: Iterator[tuple[str, Row]]) -> int:
    """Insert the (place, row) pairs; return how many they were."""
    columns = {
        name: (kind.partition("(")[0], required)
        for _, name, kind, required, *_ in database.execute(f"PRAGMA table_info({table})")
    }
    place, count = "", 0

    def values() -> Iterator[list[Any]]:
        nonlocal place, count
        for place, row in rows:
            count += 1
            if wrong := sorted(columns.keys() ^ row.keys()):
                raise SetupError(f"{place}: the column '{wrong[0]}' is missing, or none of '{table}'")
            yield [_stored(row[name], *columns[name], f"{place}: '{name}'") for name in columns]

    marks = ", ".join("?" * len(columns))
    try:
        database.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", values())  # noqa: S608
    except (sqlite3.Error, OverflowError, UnicodeError) as error:
        raise SetupError(f"{place}: {error}") from None
    return count


def _stored(value: Any, kind: str, required: bool, where: str) -> Any:
    """A value as SQLite stores it."""
    if value is None and not required:
        return None
    if type(value) not in _TYPES[kind]:
        raise SetupError(f"{where} cannot be {value!r}")
    if kind == "DATETIME":
        return _time(value, where).strftime("%Y-%m-%d %H:%M:%S.%f")
    return json.dumps(_json(value, where) if isinstance(value, str) else value) if kind == "JSON" else value


def _time(value: str | datetime, where: str) -> datetime:
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except ValueError:
        raise SetupError(f"{where} is not a time, but {value!r}") from None
    if time.tzinfo is None:
        raise SetupError(f"{where} is a time without a time zone: {value!r}")
    return time.astimezone(UTC)


def _lines(path: Path) -> Iterator[tuple[str, Row]]:
    embeddings = path.stem == "embeddings"
    vectors = _vectors(path.with_name(_VECTORS)) if embeddings else {}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}, line {number}"
            row = _object(line, where)
            if embeddings:
                vector = next(vectors.get(row.get("encoder_digest"), iter(())), None)
                row["vector"] = _vector(vector, row, where)
            yield where, row
    if any(next(rest, None) is not None for rest in vectors.values()):
        raise SetupError(f"{path.with_name(_VECTORS)} holds other vectors than {path} describes; export again")


def _vectors(path: Path) -> dict[Any, Iterator[Any]]:
    """Each encoder's vectors, in the order of its lines."""
    import numpy as np
    import safetensors.numpy
    from safetensors import SafetensorError

    try:
        tensors = safetensors.numpy.load(path.read_bytes())
    except (SafetensorError, KeyError) as error:
        raise SetupError(f"{path} is not a safetensors file ({error}); export the session again") from None
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or tensor.dtype != np.float32:
            raise SetupError(f"{path}: '{name}' has shape {tensor.shape} and type {tensor.dtype}, not (n, d) float32")
    return {name: iter(tensor) for name, tensor in tensors.items()}


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    import numpy as np

    with parquet_file(path) as file:
        for number, row in enumerate(rows_of(file, path), start=1):
            where = f"{path}, row {number}"
            if "vector" in row:
                row["vector"] = _vector(np.array(row["vector"] or [], np.float32), row, where)
            yield where, row


def _vector(vector: Any, row: Row, where: str) -> bytes:
    if vector is None or row.get("dtype") != DTYPE:
        raise SetupError(f"{where}: there is no vector of type '{DTYPE}' for it")
    return to_bytes(vector, row.get("dim", 0), f"the row at {where}")


def _digest(path: Path) -> str:
    if not path.is_file():
        raise SetupError(f"cannot read {path}: it is missing, or no regular file; export the session again")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}; export the session again") from None


def _object(raw: bytes, where: str) -> dict[str, Any]:
    value = _json(raw, where)
    if not isinstance(value, dict):
        raise SetupError(f"{where}: not a JSON object")
    return value


def _json(raw: Any, where: str) -> Any:
    try:
        return strict_json(raw)
    except (ValueError, TypeError) as error:
        raise SetupError(f"{where}: not JSON ({error})") from None

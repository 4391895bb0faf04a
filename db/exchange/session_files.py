"""The files of an exported session: a folder that any program can read, and that says whether it is whole.

manifest.json         format, schema, session, and of every other file its SHA-256 and its number of rows
TABLE.jsonl           one line per row of that table (db.exchange.rows), rows before those that refer to them
vectors.safetensors   one tensor (rows, dim) per encoder, named by its digest: its k-th row is the vector of the
                      encoder's k-th line in embeddings.jsonl

or, in the other form, TABLE.parquet for each table (db.exchange.parquet_files), the vectors within embeddings.parquet.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Table

from db.exchange.joining import TABLES
from db.exchange.parquet_files import read_parquet, write_parquet
from db.exchange.rows import VECTOR, Row, decode, encode
from db.schema import migrations
from db.schema.vectors import DTYPE, from_bytes, to_bytes
from immuno_core.errors import SetupError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Form = Literal["jsonl", "parquet"]
FORMAT = "immuno-session"
VERSION = 1
MANIFEST = "manifest.json"
VECTORS = "vectors.safetensors"


def file_name(table: Table, form: Form = "jsonl") -> str:
    """Return the name of a table's file."""
    return f"{table.name}.{form}"


def write_table(folder: Path, table: Table, rows: Iterable[Row], form: Form = "jsonl") -> dict[str, Any]:
    """Write a table's file (and, as JSONL, of embeddings the vectors); return what the manifest says of it."""
    if form == "parquet":
        path = folder / file_name(table, form)
        return {path.name: {"rows": write_parquet(path, table, rows), "sha256": _file_digest(path)}}
    digest, count, vectors = hashlib.sha256(), 0, dict[str, list[bytes]]()
    with (folder / file_name(table)).open("xb") as file:
        for row in rows:
            line = json.dumps(encode(table, row), allow_nan=False).encode() + b"\n"
            digest.update(line)
            file.write(line)
            count += 1
            if VECTOR in row:
                vectors.setdefault(row["encoder_digest"], []).append(row[VECTOR])
    entries = {file_name(table): {"rows": count, "sha256": digest.hexdigest()}}
    if VECTOR in table.columns:
        entries[VECTORS] = {"rows": count, "sha256": _write_vectors(folder / VECTORS, vectors)}
    return entries


def _write_vectors(path: Path, vectors: Mapping[str, list[bytes]]) -> str:
    import safetensors.numpy

    tensors = {name: from_bytes(rows, len(rows[0]) // 4) for name, rows in vectors.items()}
    raw = safetensors.numpy.save(tensors)
    path.write_bytes(raw)
    return hashlib.sha256(raw).hexdigest()


def write_manifest(folder: Path, session_id: str, session: str, files: Mapping[str, Any]) -> None:
    """Write the manifest: last, for what has none is no export."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "schema": migrations.HEAD,
        "session": {"id": session_id, "name": session},
        "files": files,
    }
    (folder / MANIFEST).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class SessionFolder:
    """An exported session, found whole by `open_folder`."""

    path: Path
    session: str
    """The session's name when it was exported."""
    form: Form
    files: Mapping[str, Mapping[str, Any]]
    vectors: Mapping[str, NDArray[np.float32]] = field(repr=False)

    def rows(self, table: Table) -> Iterator[tuple[str, Row]]:
        """Yield (place, row) of a table's file; the digest of JSONL is checked at the end, of Parquet before.

        Raises SetupError naming file and line for what is no row of the table, and for a file that was changed.
        """
        if self.form == "parquet":
            yield from self._rows_of_parquet(table)
            return
        path = self.path / file_name(table)
        digest, seen = hashlib.sha256(), Counter[str]()
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    digest.update(line)
                    where = f"{path}, line {number}"
                    row = decode(table, _object(line, where), where)
                    if VECTOR in table.columns:
                        row[VECTOR] = self._vector(row, seen, where)
                    yield where, row
        except OSError as error:
            raise SetupError(f"cannot read {path}: {error.strerror}; export the session again") from None
        _check_digest(path, digest.hexdigest(), self.files)
        if VECTOR in table.columns and seen != {name: len(tensor) for name, tensor in self.vectors.items()}:
            raise SetupError(f"{self.path / VECTORS} holds other vectors than {path} describes; export again")

    def _rows_of_parquet(self, table: Table) -> Iterator[tuple[str, Row]]:
        path = self.path / file_name(table, self.form)
        try:
            _check_digest(path, _file_digest(path), self.files)
            for where, values in read_parquet(path, table):
                vector = values.pop(VECTOR, None)
                row = decode(table, values, where)
                if VECTOR in table.columns:
                    if row["dtype"] != DTYPE or vector is None:
                        raise SetupError(f"{where}: it has no vector of type '{DTYPE}'")
                    row[VECTOR] = to_bytes(vector, row["dim"], f"the row at {where}")
                yield where, row
        except OSError as error:
            raise SetupError(f"cannot read {path}: {error.strerror}; export the session again") from None

    def _vector(self, row: Row, seen: Counter[str], where: str) -> bytes:
        tensor = self.vectors.get(row["encoder_digest"])
        index = seen[row["encoder_digest"]]
        if tensor is None or index >= len(tensor):
            raise SetupError(f"{where}: {VECTORS} has no vector for it (encoder {row['encoder_digest']})")
        seen[row["encoder_digest"]] += 1
        if row["dtype"] != DTYPE:
            raise SetupError(f"{where}: unknown dtype '{row['dtype']}'; vectors are '{DTYPE}'")
        return to_bytes(tensor[index], row["dim"], f"the row at {where}")


def open_folder(path: Path) -> SessionFolder:
    """Open an exported session and read all of it once, so that what is imported afterwards is whole.

    Raises SetupError, naming file and line where there is one, for what is no export, is of another schema, has been
    changed or is malformed.
    """
    manifest = _manifest(path)
    files: dict[str, Any] = manifest["files"]
    form: Form = "jsonl" if VECTORS in files else "parquet"
    vectors = _read_vectors(path, files) if form == "jsonl" else {}
    folder = SessionFolder(path, manifest["session"]["name"], form, files, vectors)
    for table in TABLES:
        name, count = file_name(table, form), sum(1 for _ in folder.rows(table))
        if count != files[name].get("rows"):
            raise SetupError(f"{path / name} has {count} rows, not as many as {path / MANIFEST} says")
    return folder


def _manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        found = _object(file.read_bytes(), str(file))
    except OSError as error:
        raise SetupError(
            f"{path} is not an exported session: its {MANIFEST} cannot be read ({error.strerror}); "
            "make one with: immuno db export-session"
        ) from None
    if found.get("format") != FORMAT or found.get("version") != VERSION:
        raise SetupError(f"{file}: not the format '{FORMAT}' {VERSION}; another version of immuno-vlm wrote it")
    if found.get("schema") != migrations.HEAD:
        raise SetupError(
            f"{path} was exported with schema {found.get('schema')!r}, and this is schema {migrations.HEAD}; upgrade "
            "the database it came from (immuno db upgrade) and export again"
        )
    files, session = found.get("files"), found.get("session")
    forms = ({*map(file_name, TABLES), VECTORS}, {file_name(table, "parquet") for table in TABLES})
    whole = isinstance(files, dict) and set(files) in forms and all(isinstance(one, dict) for one in files.values())
    if not whole or not isinstance(session, dict) or not isinstance(session.get("name"), str):
        raise SetupError(f"{file} does not name the session and the files of an export; export again")
    return found


def _read_vectors(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> dict[str, NDArray[np.float32]]:
    import numpy as np
    import safetensors.numpy
    from safetensors import SafetensorError

    path = folder / VECTORS
    try:
        raw = path.read_bytes()
        tensors: dict[str, Any] = safetensors.numpy.load(raw)
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}; export the session again") from None
    except (SafetensorError, KeyError) as error:
        raise SetupError(f"{path} is not a safetensors file ({error}); export the session again") from None
    _check_digest(path, hashlib.sha256(raw).hexdigest(), files)
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or tensor.dtype != np.float32:
            raise SetupError(f"{path}: '{name}' has shape {tensor.shape} and type {tensor.dtype}, not (n, d) float32")
    return tensors


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(path: Path, digest: str, files: Mapping[str, Mapping[str, Any]]) -> None:
    if files[path.name].get("sha256") != digest:
        raise SetupError(f"{path} has been changed since it was exported (its SHA-256 is another); export again")


def _object(raw: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise SetupError(f"{where}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise SetupError(f"{where}: not a JSON object")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")

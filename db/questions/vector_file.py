"""All embeddings of an encoder in one file that is mapped into memory: what makes `nearest` fast on SQLite.

SQLite hands out 100,000 vectors in a third of a second; a mapped file needs no time at all. The file is derived from
the database, lies in the cache folder, and may be deleted. It is never stale: its name holds the stamp of the
embeddings (db.schema.stamps), read in the transaction that asks. Where the stamp is another one, a new file is written
under its own name and the old one removed; if only embeddings were added, which their ids must confirm, the old file is
copied and the new ones appended. Files are never changed, and appear whole: any number of processes may use them, and
of databases. Where none can be written, the answer is computed without.

A file holds the directions of the vectors (unit length) in float32: it finds candidates, and their cosines are
measured on what the database holds.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.orm import Session as Transaction

from db.schema import models as m
from db.schema.stamps import stamps
from db.schema.vectors import DTYPE, directions
from immuno_core.paths import cache_root

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_LEAST = 4096
"""With fewer embeddings no file is written: to read them takes 15 ms."""
_AT_ONCE = 2048
_ID = "S36"
_STAMP = sa.select(stamps.c.epoch, stamps.c.token).where(stamps.c.encoder_digest == sa.bindparam("encoder"))
_ROWID = sa.literal_column("embeddings.rowid", sa.Integer)


@dataclass(frozen=True, slots=True, eq=False)
class VectorFile:
    """Every proposed embedding of an encoder."""

    path: Path
    ids: NDArray[np.bytes_]
    """(n,) ids of the antibodies, in the order in which their embeddings were stored."""
    directions: NDArray[np.float32]
    """(n, d) unit vectors, mapped from the file."""


_last: list[VectorFile] = []
"""The file used last: whoever asks again in one process has it in memory already."""


def mapped(transaction: Transaction, database: str, encoder_digest: str, dim: int) -> VectorFile | None:
    """Return the embeddings of an encoder as the transaction sees them; None where there are few, or no file can be.

    `database` is the SQLite file's path.
    """
    row = transaction.execute(_STAMP, {"encoder": encoder_digest}).first()
    if row is None:  # no embedding was ever stored
        return None
    folder = cache_root() / "vectors" / hashlib.sha256(database.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    path = folder / f"{encoder_digest[:24]}-{row.epoch}-{row.token}.f32"
    if _last and _last[0].path == path:
        return _last[0]
    found = _opened(path, dim)
    if found is None:
        proposed = sa.select(sa.func.count()).where(*_of(encoder_digest))
        if (transaction.scalar(proposed) or 0) < _LEAST:
            return None
        with suppress(OSError):
            _write(transaction, path, encoder_digest, dim)
            found = _opened(path, dim)
    if found is not None:
        _last[:] = [found]
    return found


def _of(encoder_digest: str) -> tuple[sa.ColumnElement[bool], ...]:
    return m.Embedding.encoder_digest == encoder_digest, m.Embedding.kind == "proposed"


def _opened(path: Path, dim: int) -> VectorFile | None:
    import numpy as np

    try:
        ids = np.fromfile(path.with_suffix(".ids"), _ID)
        vectors = np.memmap(path, DTYPE, "r")
    except (OSError, ValueError):  # not there, just removed, or empty
        return None
    if len(vectors) != len(ids) * dim:
        return None
    return VectorFile(path, ids, vectors.reshape(len(ids), dim))


def _write(transaction: Transaction, path: Path, encoder_digest: str, dim: int) -> None:
    """Write the file and that of its ids; remove those that it replaces."""
    import numpy as np

    rows = transaction.execute(sa.select(_ROWID, m.Embedding.antibody_id).where(*_of(encoder_digest)))
    order = sorted(rows.all())
    ids = np.array([own for _, own in order], _ID)
    path.parent.mkdir(parents=True, exist_ok=True)
    others = [one for one in path.parent.glob(f"{encoder_digest[:24]}-*.f32") if one != path]
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        start = _copied(temporary, others, path, ids, dim)
        with temporary.open("ab") as file:
            last = order[start - 1][0] if start else 0
            for block in _vectors(transaction, encoder_digest, after=last):
                file.write(directions(block, dim).astype(DTYPE).tobytes())
        ids_file = temporary.with_suffix(".ids")
        ids.tofile(ids_file)
        ids_file.replace(path.with_suffix(".ids"))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        temporary.with_suffix(".ids").unlink(missing_ok=True)
    for one in others:
        with suppress(OSError):
            one.unlink()
            one.with_suffix(".ids").unlink()


def _copied(target: Path, others: list[Path], path: Path, ids: NDArray[np.bytes_], dim: int) -> int:
    """Copy the longest file of the same epoch whose ids are the first ones of `ids`; return how many they are."""
    import numpy as np

    epoch = path.name.split("-")[1]
    older = [found for one in others if one.name.split("-")[1] == epoch and (found := _opened(one, dim)) is not None]
    for found in sorted(older, key=lambda one: -len(one.ids)):
        if np.array_equal(found.ids, ids[: len(found.ids)]):
            shutil.copyfile(found.path, target)
            return len(found.ids)
    return 0


def _vectors(transaction: Transaction, encoder_digest: str, *, after: int) -> Iterator[list[bytes]]:
    query = sa.select(m.Embedding.vector).where(*_of(encoder_digest), after < _ROWID).order_by(_ROWID)
    # Through the connection: a session's own loading would take as long as the rest.
    rows = transaction.connection().execute(query, execution_options={"yield_per": _AT_ONCE})
    for block in rows.partitions():
        yield [raw for (raw,) in block]

"""Copying a live SQLite database into one file, while others go on writing."""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Engine

from db import schema
from db.engine import is_sqlite, make_engine, plain_errors, reading, resolve_url, shown
from immuno.errors import ImmunoError, SetupError


def backup_database(url: str | None, default: Path, target: Path) -> Path:
    """Write a copy of a SQLite database, as it is at one moment, to `target`; return its absolute path.

    The copy appears whole or not at all, is compact, needs no log beside it, and has been checked. A database of an
    older schema is copied too: that is what one does before an upgrade. Raises SetupError for PostgreSQL, for what is
    no database of ours, and for a target that exists or cannot be written.
    """
    resolved = resolve_url(url, default)
    if not is_sqlite(resolved):
        raise SetupError(
            f"{shown(resolved)} is not a SQLite file; back it up with PostgreSQL's own: "
            f"pg_dump --format=custom --file={target} {resolved.database}"
        )
    target = target.expanduser().absolute()
    if target.exists() or target.is_symlink():
        raise SetupError(f"{target} exists, and a backup overwrites nothing; name a new file")
    engine = make_engine(resolved, read_only=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with reading(engine) as transaction:
            if schema.stored_revision(transaction.connection()) is None:
                raise SetupError(f"{shown(resolved)} is empty: there is nothing to back up")
        _copy(engine, temporary, target)
    except OSError as error:
        raise SetupError(f"the backup {target} cannot be written: {error.strerror} ({error.filename})") from None
    finally:
        engine.dispose()
    return target


def _copy(engine: Engine, temporary: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.touch(exist_ok=False)  # here, where a folder that cannot be written is told from a damaged database
    try:
        with plain_errors(engine.url), closing(engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute("PRAGMA query_only=OFF")  # SQLite counts VACUUM INTO as a write, though of another file
            cursor.execute("VACUUM INTO ?", (str(temporary),))
        with closing(sqlite3.connect(temporary)) as copy:
            damage = [found for (found,) in copy.execute("PRAGMA integrity_check") if found != "ok"]
        if damage:
            raise ImmunoError(f"{shown(engine.url)} is damaged, and so would be its backup: {damage[0]}")
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)

"""SQL from a user, read-only by construction, with limits on time, memory and rows.

SQLite: a connection of its own, opened with mode=ro, which asks about every step of a statement and lets through only
reading: no write, no ATTACH, no PRAGMA, no extension; in a process of its own (db.questions.sqlite_child), since one
step may take for ever. PostgreSQL: a cursor declared over the query (only a query can be) in a READ ONLY transaction
with a statement_timeout; what a function of the server may do besides is decided by the rights of the role that
connects.

Values are as they are stored: db.schema.types tells how texts are escaped, db.schema.types how NaN is kept; bytes come
as hex.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy.exc import DBAPIError

from db.questions import sqlite_child
from db.questions.sqlite_child import LARGEST_RESULT, LONGEST_VALUE, size
from db.schema.engine import has_log, is_sqlite, reading, undisturbed
from db.store import AntibodyStore
from immuno_core.errors import SetupError

_CHILD = Path(sqlite_child.__file__)
_AT_ONCE = 20
"""Rows fetched at once from PostgreSQL: few, since the size of a value is known only when it has come."""


_Found = tuple[list[str], Sequence[Sequence[Any]]]
"""Columns, and rows."""


@dataclass(frozen=True, slots=True)
class Table:
    """What a query found."""

    columns: tuple[str, ...]
    """Distinct: of several with one name the later ones are numbered, x, x_2."""
    rows: tuple[tuple[Any, ...], ...]
    more: bool
    """Whether there are rows beyond the limit."""


def run_sql(store: AntibodyStore, query: str, *, seconds: float = 10.0, limit: int = 1000) -> Table:
    """Run one SELECT and return its first `limit` rows.

    Raises SetupError for what is no single query, for one that would do anything but read, and for one that takes
    longer than `seconds`.
    """
    if any(character == "\x00" or "\ud800" <= character <= "\udfff" for character in query):
        raise SetupError("SQL may hold neither NUL nor lone surrogates")
    found = (_run_on_sqlite if is_sqlite(store.engine.url) else _run_on_postgresql)(store, query, seconds, limit + 1)
    columns, rows = found
    if not columns:
        raise SetupError("that is no query; write a SELECT, as in: SELECT name FROM sessions")
    plain = tuple(tuple(map(_plain, row)) for row in rows[:limit])
    return Table(_distinct(columns), plain, more=len(rows) > limit)


def _plain(value: Any) -> Any:
    """What JSON can say of a value."""
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, Decimal):
        return float(value)
    return value if value is None or isinstance(value, str | int | float | dict | list | datetime) else str(value)


def _run_on_sqlite(store: AntibodyStore, query: str, seconds: float, most: int) -> _Found:
    path = _file(store)
    # Without a log nobody is writing; SQLite could not make its helper files in a folder that may not be written.
    alone = not os.access(path.parent, os.W_OK) and not has_log(path)
    address = f"file:{quote(str(path))}?mode=ro" + ("&immutable=1" if alone else "")
    with undisturbed(path) if alone else nullcontext():
        return _asked({"database": address, "query": query, "rows": most, "seconds": seconds}, seconds)


def _asked(asked: dict[str, Any], seconds: float) -> _Found:
    # Isolated, and without site: what it imports is the standard library, and nobody's PYTHONPATH changes that.
    command = [sys.executable, "-I", "-S", str(_CHILD)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        try:
            answer, _ = child.communicate(json.dumps(asked).encode())
        finally:  # at a Ctrl-C, too, it is gone when this returns
            child.kill()
            child.wait()
    if child.returncode == -signal.SIGALRM:
        raise _explained("statement timeout", seconds)
    if child.returncode:
        raise _explained("out of memory", seconds)
    lines = [json.loads(line) for line in answer.splitlines()]
    if isinstance(lines[-1], dict) and "error" in lines[-1]:
        raise _explained(lines[-1]["error"], seconds)
    return lines[0]["columns"], lines[1:]


def _file(store: AntibodyStore) -> Path:
    with reading(store.engine) as transaction:
        return Path(transaction.connection().exec_driver_sql("PRAGMA database_list").all()[0][2])


def _run_on_postgresql(store: AntibodyStore, query: str, seconds: float, most: int) -> _Found:
    deadline = time.monotonic() + seconds
    with reading(store.engine) as transaction:
        connection = transaction.connection()
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, round(1000 * seconds))}")
        driver: Any = connection.connection.dbapi_connection
        try:
            # A named cursor sends DECLARE ... CURSOR FOR by the extended protocol, which takes one statement only.
            with driver.cursor(name="immuno_sql") as cursor:
                cursor.itersize = _AT_ONCE
                cursor.execute(query)
                rows, left = [], LARGEST_RESULT
                for row in islice(cursor, most):
                    left -= size(row)
                    if left < 0:
                        raise _explained("result too large", seconds)
                    if time.monotonic() > deadline:  # the server's own limit is on each fetch
                        raise _explained("statement timeout", seconds)
                    rows.append(row)
                return [column.name for column in cursor.description or ()], rows
        except (connection.dialect.loaded_dbapi.Error, DBAPIError) as error:
            raise _explained(str(error), seconds) from None
        finally:
            driver.rollback()


_MEANINGS = (
    ("statement timeout", "it took longer than {seconds:g} s; narrow it, or allow more with --seconds"),
    ("authoriz", "only reading is allowed: SELECT, WITH, VALUES and EXPLAIN of them"),
    ("prohibited", "only reading is allowed: SELECT, WITH, VALUES and EXPLAIN of them"),
    ("read-only", "only reading is allowed: SELECT, WITH and VALUES"),
    ("one statement", "one statement at a time"),
    ("multiple commands", "one statement at a time"),
    ("too big", f"a value in it is longer than {LONGEST_VALUE >> 20} MB"),
    (
        "result too large",
        f"its result is larger than {LARGEST_RESULT >> 20} MB; narrow it, or lower --limit",
    ),
    ("out of memory", "it needs more memory than a query may have; narrow it"),
)


def _explained(message: str, seconds: float) -> SetupError:
    first = message.strip().splitlines()[0] if message.strip() else "it failed"
    meaning = next((words for part, words in _MEANINGS if part in first), None)
    return SetupError("the SQL was not run to its end: " + (meaning.format(seconds=seconds) if meaning else first))


def _distinct(columns: Sequence[str]) -> tuple[str, ...]:
    taken: list[str] = []
    for name in columns:
        number, own = 1, name
        while own in taken:
            number += 1
            own = f"{name}_{number}"
        taken.append(own)
    return tuple(taken)

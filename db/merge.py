"""Joining two databases: everything that one holds is added to the other, without duplicates, or nothing is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import Table
from sqlalchemy.orm import Session as Transaction

from db.engine import reading, writing
from db.joining import TABLES, Joined, join_rows, parents_first
from db.rows import Row
from db.store import AntibodyStore
from db.writing import check_session_name
from immuno.errors import SetupError, did_you_mean

_AT_ONCE = 1000


def merge(store: AntibodyStore, other: AntibodyStore, *, rename: Mapping[str, str] | None = None) -> tuple[Joined, ...]:
    """Add all rows of `other` to `store` in one transaction; return what was added, table by table.

    Both may be SQLite or PostgreSQL. `rename` (name in `other` -> name here) keeps two sessions of one name apart.
    A second merge adds nothing. Raises SetupError where both are the same database, for a session to rename that is
    not there, and for a row that contradicts one of `store` (db.joining says when), naming it.
    """
    if store.url == other.url:
        raise SetupError(f"{other.url} would be merged into itself; name another database")
    renamed = dict(rename or {})
    names = [session.name for session in other.sessions()]
    for name, new in renamed.items():
        check_session_name(new)
        if name not in names:
            raise SetupError(f"no session '{name}' in {other.url}{did_you_mean(name, names)}")
    with reading(other.engine) as source, writing(store.engine) as target:
        return tuple(join_rows(target, table, _rows(source, table, other.url, renamed)) for table in TABLES)


def _rows(source: Transaction, table: Table, url: str, renamed: Mapping[str, str]) -> Iterator[tuple[str, Row]]:
    found = source.execute(parents_first(table), execution_options={"yield_per": _AT_ONCE})
    for one in found:
        row = dict(one._mapping)
        if table.name == "sessions":
            row["name"] = renamed.get(row["name"], row["name"])
        key = ", ".join(str(row[column.name]) for column in table.primary_key.columns)
        yield f"{url}: row {key} of '{table.name}'", row

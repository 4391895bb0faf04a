"""The schema of a database, in a form that can be compared."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, text

from db.schema import migrations


def schema_of(path: Path) -> dict[str, list[str]]:
    """Every table, index and trigger with its parts, in an order of their own: constraints may be listed in any.

    A table that was copied to alter it has its name in quotes; columns that were added to one share a line.
    """
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {
        name: sorted(re.sub(r"\s+", " ", re.sub('[()"]', "", part)).strip() for part in _parts(sql))
        for name, sql in rows
    }


def _parts(sql: str) -> list[str]:
    """What is between line ends, and between commas that are in no inner parentheses."""
    lines = sql.removesuffix(")").splitlines()
    return [part for line in lines for part in re.split(r",\s*(?![^()]*\))", line) if part.strip()]


_FACTS = {
    "column": "SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)"
    " FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
    " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
    " WHERE relkind = 'r' AND attnum > 0 AND NOT attisdropped AND relnamespace = current_schema()::regnamespace",
    "constraint": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = current_schema()::regnamespace",
    "index": "SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema()",
    "trigger": "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "rule": "SELECT definition FROM pg_rules WHERE schemaname = current_schema()",
    "function": "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = current_schema()::regnamespace"
    " AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')",
    "extension": "SELECT extname FROM pg_extension",
    "revision": f"SELECT version_num FROM {migrations.VERSION_TABLE}",  # noqa: S608
}


def schema_on_postgresql(connection: Connection) -> set[tuple[object, ...]]:
    """Every fact of the schema, as the server itself writes it; the order of columns is none."""
    return {(what, *row) for what, query in _FACTS.items() for row in connection.execute(text(query))}

"""The schema of a SQLite file, in a form that can be compared."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from db.schema import migrations


def schema_of(path: Path) -> dict[str, list[str]]:
    """Every table and index with its parts, in an order of their own: constraints may be listed in any.

    A table that was copied to alter it has its name in quotes; columns that were added to one share a line.
    """
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {
        name: sorted(re.sub(r"\s+", " ", re.sub('[()"]', "", part)).strip() for part in _parts(sql))
        for name, sql in rows
        if name != migrations.VERSION_TABLE
    }


def _parts(sql: str) -> list[str]:
    """What is between line ends, and between commas that are in no inner parentheses."""
    lines = sql.removesuffix(")").splitlines()
    return [part for line in lines for part in re.split(r",\s*(?![^()]*\))", line) if part.strip()]

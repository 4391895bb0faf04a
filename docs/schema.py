"""docs/schema.md, made from the models: an ER diagram and a table for each table.

To write it anew after a change of the models: python docs/schema.py > docs/schema.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from inspect import getdoc

from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, Table, UniqueConstraint

from db.schema.models import Base
from db.schema.types import LosslessText, Measured, StrictJson, UtcDateTime

_INTRODUCTION = """\
# The schema

Made from `db/schema/models.py` by `python docs/schema.py > docs/schema.md`; a test checks that it is up to date.
How to ask the database: [queries.md](queries.md).

- Keys (`id`) are UUIDs of version 7, as text: they sort by time, and are the same in every database.
- Times are UTC. On SQLite they are text, `2026-05-01 12:00:00.000000`.
- A number that is undefined, or was not measured, is NULL. Within JSON: `{"value": null, "kind": "nan"}`.
- Every metric of a line of results is a row of `result_metrics`, under the name that it has in `results.json`.
- NUL and lone surrogates in a text are stored as U+241B and four hex digits; `immuno db sql` shows texts as stored.
- `embeddings.vector` is little-endian float32, `dim` numbers.
- Beside these tables a database has some that are no part of the record, and may change: `claims` (who is working on
  what), what `nearest` needs on PostgreSQL (`halves`) and the revision of the schema.
- `parent_generation_id` of a session and `parent_id` of an antibody may name what is in another database.
- `generation_id` of an effect, a verdict or a bank member says where it was measured or in force; that of an antibody
  and its embedding which generation proposed it.

**What a power cut costs.** On SQLite nothing that a command acknowledged: each commit is flushed to the disk
(`synchronous=FULL` with a write-ahead log), as far as the disk tells the truth about flushing. The same holds for a
killed process and for a full disk; unfinished transactions are undone when the file is opened next. The log needs a
file system of the machine's own: on a network share use PostgreSQL. There the server's settings decide: with `fsync`
and `synchronous_commit` on, which is its default, the same holds. Tests kill processes and fill disks, of both kinds;
nobody cut the power of a machine.
"""


def schema_page() -> str:
    """Return docs/schema.md."""
    tables = _tables()
    parts = [_INTRODUCTION, f"```mermaid\n{er_diagram()}\n```\n", *(_table(name, *tables[name]) for name in tables)]
    return "\n".join(parts)


def er_diagram() -> str:
    """Return the models as a mermaid ER diagram: keys and foreign keys of each table, a line for each reference."""
    lines = ["erDiagram"]
    for name, (table, _) in _tables().items():
        lines.append(f"    {name} {{")
        for column in table.columns:
            marks = ["PK"] * column.primary_key + ["FK"] * bool(column.foreign_keys)
            if marks:
                lines.append(f"        {_type(column)} {column.name} {', '.join(marks)}")
        lines.append("    }")
    lines += [line for _, (table, _) in _tables().items() for line in _references(table)]
    return "\n".join(lines)


def _tables() -> dict[str, tuple[Table, str]]:
    """Tables by name, those referred to before those that refer, each with what its model says of it."""
    words = {mapper.local_table: getdoc(mapper.class_) or "" for mapper in Base.registry.mappers}
    return {table.name: (table, words[table]) for table in Base.metadata.sorted_tables}


def _references(table: Table) -> Iterator[str]:
    keys = [one for one in table.constraints if isinstance(one, ForeignKeyConstraint)]
    for key in sorted(keys, key=lambda one: [column.name for column in one.columns]):
        optional = any(column.nullable for column in key.columns)
        label = ", ".join(column.name for column in key.columns)
        yield f'    {key.referred_table.name} {"|o" if optional else "||"}--o{{ {table.name} : "{label}"'


def _table(name: str, table: Table, words: str) -> str:
    lines = [f"## {name}\n", " ".join(words.split()), "", "| column | type | NULL | refers to |", "|---|---|---|---|"]
    for column in table.columns:
        to = ", ".join(sorted(key.target_fullname for key in column.foreign_keys))
        own = f"**{column.name}**" if column.primary_key else column.name
        lines.append(f"| {own} | {_type(column)} | {'yes' if column.nullable else ''} | {to} |")
    unique = sorted(
        ", ".join(column.name for column in one.columns)
        for one in table.constraints
        if isinstance(one, UniqueConstraint)
    )
    words_of = (_words(one) for one in table.constraints if isinstance(one, CheckConstraint))
    notes = [f"Unique: ({columns})." for columns in unique] + sorted(one for one in words_of if one)
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), *([""] if notes else [])])


def _words(check: CheckConstraint) -> str | None:
    """What a check of the form "x IN ('a', 'b')" allows."""
    found = re.fullmatch(r"(\w+) IN \((.*)\)", str(check.sqltext))
    return None if found is None else f"{found[1]}: {found[2].replace(chr(39), '`')}."


def _type(column: Column[object]) -> str:
    ours = {LosslessText: "text", UtcDateTime: "time", StrictJson: "json", Measured: "number"}
    plain = {"string": "text", "double": "number", "big_integer": "integer", "large_binary": "bytes"}
    name = column.type.__visit_name__
    return ours.get(type(column.type)) or plain.get(name, name)


if __name__ == "__main__":
    sys.stdout.write(schema_page())

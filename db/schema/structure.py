"""Whether a database still has the tables of this version, and nothing that acts on them behind its back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import (
    CheckConstraint,
    Connection,
    ForeignKeyConstraint,
    Inspector,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    inspect,
    text,
)

from db.schema.machinery import metadata_of

_TRIGGERS = {
    "sqlite": "SELECT 'trigger', name, tbl_name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT 'trigger', tgname, relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
    " WHERE NOT tgisinternal AND pg_table_is_visible(tgrelid)"
    " UNION SELECT 'rule', rulename, tablename FROM pg_rules WHERE schemaname = current_schema()",
}
_OWN_TRIGGERS = {"sqlite": set[tuple[str, str]](), "postgresql": {("encoders", "immuno_index_encoder")}}
"""Table and name of ours (db.schema.pgvector: the HNSW index of a new encoder)."""
_sound: set[frozenset[object]] = set()
"""Contents of sqlite_master that were compared, and found right: a comparison takes 50 ms, to read it one."""


def differences(connection: Connection) -> list[str]:
    """Return what is not as this version made it, a line each; empty where all is.

    Tables (a view is none), their columns, keys, constraints and unique indexes, and triggers. Tables, views
    and columns of others, and indexes that only make a query faster, do no harm.
    """
    master: frozenset[object] = frozenset()
    if connection.dialect.name == "sqlite":
        master = frozenset(map(tuple, connection.execute(text("SELECT type, name, tbl_name, sql FROM sqlite_master"))))
        if master in _sound:
            return []
    found = list(_differences(connection))
    if master and not found:
        _sound.add(master)
    return found


def _differences(connection: Connection) -> Iterator[str]:
    there = inspect(connection)
    tables = {one.name: one for metadata in metadata_of(connection.dialect.name) for one in metadata.sorted_tables}
    present, views = set(there.get_table_names()), set(there.get_view_names())
    own, triggers = _OWN_TRIGGERS[connection.dialect.name], set[tuple[str, str]]()
    for what, name, table in connection.execute(text(_TRIGGERS[connection.dialect.name])):
        triggers.add((table, name))
        if table.lower() in tables and (table, name) not in own:
            yield f"the table '{table}' has a {what}, '{name}'"
    yield from (f"the table '{table}' has no trigger '{name}'" for table, name in own - triggers)
    for name in tables.keys() - present:
        yield f"the table '{name}' {'is a view' if name in views else 'is missing'}"
    kept = sorted(tables.keys() & present)
    is_now = _present(connection, there, kept)
    for name in kept:
        wanted, has = set(_wanted(connection, tables[name])), is_now[name]
        yield from (f"the table '{name}' has no {fact}" for fact in sorted(wanted - has))
        more = sorted(one for one in has - wanted if not one.startswith(("index ", "column ")))
        yield from (f"the table '{name}' has a {fact}" for fact in more)


def _wanted(connection: Connection, table: Table) -> Iterator[str]:
    for column in table.columns:
        yield _column(column.name, column.type.compile(connection.dialect), column.nullable)
    for constraint in table.constraints:
        match constraint:
            case PrimaryKeyConstraint():
                yield f"primary key ({_list(constraint.columns.keys())})"
            case UniqueConstraint():
                yield f"unique key ({_list(constraint.columns.keys())})"
            case ForeignKeyConstraint():
                columns = (one.column.name for one in constraint.elements)
                yield _reference(constraint.column_keys, constraint.referred_table.name, columns)
            case CheckConstraint():
                yield f"check '{connection.dialect.identifier_preparer.format_constraint(constraint)}'"
    for index in table.indexes:
        yield _index(str(index.name), index.columns.keys(), unique=bool(index.unique))


def _present(connection: Connection, there: Inspector, names: list[str]) -> dict[str, set[str]]:
    facts: dict[str, set[str]] = {name: set() for name in names}
    for (_, table), columns in there.get_multi_columns(filter_names=names).items():
        facts[table] |= {
            _column(one["name"], one["type"].compile(connection.dialect), one["nullable"]) for one in columns
        }
    for (_, table), key in there.get_multi_pk_constraint(filter_names=names).items():
        facts[table].add(f"primary key ({_list(key['constrained_columns'] if key else ())})")
    for (_, table), keys in there.get_multi_unique_constraints(filter_names=names).items():
        facts[table] |= {f"unique key ({_list(one['column_names'])})" for one in keys}
    for (_, table), references in there.get_multi_foreign_keys(filter_names=names).items():
        facts[table] |= {
            _reference(one["constrained_columns"], one["referred_table"], one["referred_columns"]) for one in references
        }
    for (_, table), checks in there.get_multi_check_constraints(filter_names=names).items():
        facts[table] |= {f"check '{one['name']}'" for one in checks}
    for (_, table), indexes in there.get_multi_indexes(filter_names=names).items():
        facts[table] |= {
            _index(str(one["name"]), (name or "?" for name in one["column_names"]), unique=bool(one["unique"]))
            for one in indexes
            if not one.get("duplicates_constraint")
        }
    return facts


def _column(name: str, kind: str, nullable: bool | None) -> str:
    return f"column '{name}', {kind}{'' if nullable else ' NOT NULL'}"


def _reference(columns: Iterable[str], table: str, referred: Iterable[str]) -> str:
    return f"foreign key ({_list(columns)}) to {table} ({_list(referred)})"


def _index(name: str, columns: Iterable[str], *, unique: bool) -> str:
    return f"{'unique ' if unique else ''}index '{name}' ({_list(columns)})"


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)

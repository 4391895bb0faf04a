"""Adding rows that were made in another database, or all of them: new ones are inserted, known ones must be equal.

Keys are UUIDs, so two rows with one key are one row. What the program itself changes in a row (whether a session still
runs) is taken from the newer one. Encoders and data sets are known by their digests, and each database made its own
row for them: there the one that is stored stays, as everywhere (db.store).

SQLite has one writer at a time, and others wait: somebody's session, with replies to record. So there everything is
read and checked beforehand, and what is new laid beside the tables; the database is locked only to move it there, a
few seconds for a million rows. Where a row is refused then (it takes another's key, or refers to nothing), or another
program wrote one meanwhile, all is done once more under the lock, row by row, and the row is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    UniqueConstraint,
    Update,
    and_,
    insert,
    literal,
    or_,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session as Transaction
from sqlalchemy.types import TypeEngine

from db.schema import models as m
from db.schema.engine import is_sqlite, reading, writing
from db.schema.forms import check_form, short
from db.schema.types import LosslessText, Measured, StrictJson, UtcDateTime, to_json
from db.schema.vectors import DTYPE, norm
from db.store import AntibodyStore
from db.writing import check_session_name
from immuno_core.errors import SetupError, did_you_mean

TABLES: tuple[Table, ...] = tuple(m.Base.metadata.sorted_tables)
"""Every table of the record, after those that its foreign keys refer to."""
_BATCH, _BATCH_OF_LISTS = 500, 16
"""Rows compared at once; those about a list of samples have up to a megabyte each."""
_LENGTH_TOLERANCE = 1e-2
_NEVER = datetime.min.replace(tzinfo=UTC)
_CHANGING: dict[str, tuple[str, ...]] = {
    "sessions": ("status", "grounds", "encoder_digest", "updated_at"),
    "runs": ("status", "finished_at"),
}
"""What changes after a row was written; the last column is the time that tells which state is newer."""
_LABELS = {"sessions": ("name",)}
"""What a database may call differently (a session that was given another name on import)."""
_SHARED = {"encoders": (("digest",), ("dim",)), "datasets": (("digest", "name", "split", "role"), ("count",))}
"""Rows that every database makes itself: what they are known by, and what must agree."""
Row = dict[str, Any]
"""One row as the column types hand it out: column name -> value."""
_PYTHON: dict[type, tuple[type, ...]] = {
    **{LosslessText: (str,), UtcDateTime: (datetime,), StrictJson: (dict, list), Boolean: (bool,)},
    **{Double: (float,), Measured: (float,), LargeBinary: (bytes,)},
}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Joined:
    """How many rows of a table were added, and how many were there already."""

    table: str
    added: int
    present: int


_Placed = Sequence[tuple[str, Row]]
"""Rows, each with what an error calls it."""


@dataclass(frozen=True, slots=True)
class _Joining:
    """Compares rows with those that a transaction reads; `add` takes the new ones, parents first."""

    transaction: Transaction
    add: Callable[[Table, _Placed], None]
    updates: list[Update] = field(default_factory=list)
    """Of stored rows that are older; to be executed when all tables are joined."""
    dims: dict[str, int] = field(default_factory=dict)
    """How many numbers a vector of each encoder has that was met."""

    def join(self, table: Table, rows: Iterable[tuple[str, Row]]) -> Joined:
        """Join the (place, row) pairs of a table; those of the tables before it in TABLES have been.

        Raises SetupError, naming the row, where it differs from the stored row of its key, has not the form of its
        table, or has a vector of another size than its encoder's.
        """
        added = present = 0
        for batch in _batches(rows, _batch(table)):
            known = _stored(self.transaction, table, [row for _, row in batch])
            new: list[tuple[str, Row]] = []
            for place, row in batch:
                _check_types(table, row, place)
                if table.name == m.Encoder.__tablename__:
                    self.dims[row["digest"]] = row["dim"]
                if table.name == m.Embedding.__tablename__:
                    _check_vector(row, self.dims, place)
                key = _key(table, row)
                if key in known:
                    _agree(table, known[key], row, place)
                    self.updates.extend(_renewal(table, known[key], row))
                    present += 1
                else:
                    check_form(table.name, row, place)
                    known[key] = row
                    new.append((place, row))
            if new:
                self.add(table, new)
            added += len(new)
        return Joined(table.name, added, present)

    def join_all(self, tables: Iterable[tuple[Table, Iterable[tuple[str, Row]]]]) -> tuple[Joined, ...]:
        """Join tables with their rows, in the order of TABLES."""
        return tuple(self.join(table, rows) for table, rows in tables)


def parents_first(table: Table, where: ColumnElement[bool] | None = None) -> Select[Any]:
    """Return a query of a table's rows (those that fit) in an order in which they can be inserted.

    In a table that refers to itself a row comes after the one that it refers to, which must fit too.
    """
    fits = true() if where is None else where
    keys = list(table.primary_key.columns)
    own = next((one for one in table.foreign_key_constraints if one.referred_table is table), None)
    if own is None:
        return select(table).where(fits).order_by(*keys)
    pairs = [(element.parent, element.column) for element in own.elements]
    columns = {column.name: column for column in (*keys, *(referred for _, referred in pairs))}.values()
    is_root = or_(*(parent.is_(None) for parent, _ in pairs))
    tree = select(*columns, literal(0).label("depth")).where(fits, is_root).cte("tree", recursive=True)
    below = and_(*(parent == tree.c[referred.name] for parent, referred in pairs))
    tree = tree.union_all(select(*columns, tree.c.depth + 1).join(tree, below).where(fits))
    placed = and_(*(key == tree.c[key.name] for key in keys))
    return select(table).join(tree, placed).order_by(tree.c.depth, *keys)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def _batch(table: Table) -> int:
    return _BATCH_OF_LISTS if table.name in ("sample_lists", "verdicts") else _BATCH


def _known_by(table: Table) -> list[str]:
    if table.name in _SHARED:
        return list(_SHARED[table.name][0])
    return [column.name for column in table.primary_key.columns]


def _key(table: Table, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _known_by(table))


def _stored(transaction: Transaction, table: Table, rows: Sequence[Row]) -> dict[tuple[Any, ...], Row]:
    columns = [table.columns[name] for name in _known_by(table)]
    keys = [_key(table, row) for row in rows]
    among = columns[0].in_([key[0] for key in keys]) if len(columns) == 1 else tuple_(*columns).in_(keys)
    found = [dict(row._mapping) for row in transaction.execute(select(table).where(among))]
    return {_key(table, row): row for row in found}


def _agree(table: Table, stored: Row, row: Row, place: str) -> None:
    """Check that two rows of one key say the same."""
    changing = _CHANGING.get(table.name, ())
    if table.name in _SHARED:
        compared = set(_SHARED[table.name][1])
    else:
        compared = set(row) - set(changing) - set(_LABELS.get(table.name, ()))
    for name in sorted(compared):
        kind = table.columns[name].type
        if _comparable(kind, stored[name]) != _comparable(kind, row[name]):
            raise SetupError(
                f"{place}: the database has this row ({', '.join(map(repr, _key(table, row)))}) with another "
                f"'{name}'; one of the two was changed by hand: nothing was added"
            )


def _renewal(table: Table, stored: Row, row: Row) -> Iterator[Update]:
    """What takes over what changes, where the row is newer than the stored one."""
    changing = _CHANGING.get(table.name, ())
    if changing and (row[changing[-1]] or _NEVER) > (stored[changing[-1]] or _NEVER):
        mine = and_(*(table.columns[name] == row[name] for name in _known_by(table)))
        # As it was when it was looked at: what somebody wrote since then is newer.
        same = table.columns[changing[-1]].is_not_distinct_from(stored[changing[-1]])
        yield update(table).where(mine, same).values({name: row[name] for name in changing})


def _comparable(kind: TypeEngine[Any], value: Any) -> Any:
    if isinstance(kind, StrictJson):
        return to_json(value)
    return None if isinstance(kind, Measured) and math.isnan(value) else value


def _check_types(table: Table, row: Row, place: str) -> None:
    """SQLite takes any value for any column: what comes from a file is looked at here."""
    for column in table.columns:
        if not _fits(column, row[column.name]):
            raise SetupError(f"{place}: '{column.name}' cannot be {short(row[column.name])}; nothing was added")


def _fits(column: Column[Any], value: Any) -> bool:
    kind = column.type
    if value is None:
        return column.nullable is True
    if isinstance(kind, Integer) and type(value) is int:
        most = 2 ** (63 if isinstance(kind, BigInteger) else 31)
        return bool(-most <= value < most)
    if isinstance(kind, String) and isinstance(value, str):
        return len(value) <= int(kind.length or len(value))
    return type(value) in _PYTHON.get(type(kind), ())


def _insert(transaction: Transaction, table: Table, rows: _Placed) -> None:
    try:
        with transaction.begin_nested():
            transaction.execute(insert(table), [row for _, row in rows])
    except IntegrityError:
        for place, row in rows:  # one of them it was: again, one by one, to name it
            _insert_one(transaction, table, place, row)


def _insert_one(transaction: Transaction, table: Table, place: str, row: Row) -> None:
    try:
        with transaction.begin_nested():
            transaction.execute(insert(table), [row])
    except IntegrityError as error:
        raise SetupError(f"{place}: {_why(transaction, table, row, str(error.orig))}; nothing was added") from None


def _why(transaction: Transaction, table: Table, row: Row, refused: str) -> str:
    for names in _unique_keys(table):
        if any(row[name] is None for name in names):
            continue
        same = and_(*(table.columns[name] == row[name] for name in names))
        taken = transaction.execute(select(*table.primary_key.columns).where(same)).first()
        if taken is not None:
            mend = (
                "; name it otherwise here: import-session --as NAME, or merge --rename OLD NEW"
                if table.name == m.Session.__tablename__
                else ""
            )
            values = ", ".join(f"{name} {row[name]!r}" for name in names)
            return f"{values} is taken by another row of '{table.name}' ({', '.join(map(str, taken))}){mend}"
    if "foreign key" in refused.lower():
        return "it refers to a row that is neither in the database nor before it"
    return f"it breaks a rule of the table ({refused.splitlines()[0]})"


def _unique_keys(table: Table) -> list[list[str]]:
    constraints = [one.columns for one in table.constraints if isinstance(one, UniqueConstraint)]
    indexes = [one.columns for one in table.indexes if one.unique]
    return [[column.name for column in columns] for columns in (*constraints, *indexes)]


def _check_vector(row: Row, dims: Mapping[str, int], place: str) -> None:
    dim = dims.get(row["encoder_digest"])
    if dim is None:
        raise SetupError(f"{place}: its encoder {row['encoder_digest']} is not in the database; nothing was added")
    if row["dim"] != dim or row["dtype"] != DTYPE or len(row["vector"]) != 4 * dim:
        raise SetupError(
            f"{place}: its vector has {len(row['vector'])} bytes ({row['dim']} numbers of type {row['dtype']}), but "
            f"its encoder gives {dim} of type {DTYPE}; nothing was added"
        )
    length = norm(row["vector"])
    if not abs(length - 1) < _LENGTH_TOLERANCE:
        raise SetupError(f"{place}: its vector has the length {length:.3g}, not 1; nothing was added")


def merge(store: AntibodyStore, other: AntibodyStore, *, rename: Mapping[str, str] | None = None) -> tuple[Joined, ...]:
    """Add all rows of `other` to `store`, or none; return what was added, table by table.

    Both may be SQLite or PostgreSQL. `rename` (name in `other` -> name here) keeps two sessions of one name apart.
    A second merge adds nothing. Raises SetupError where both are the same database, for a session to rename that is
    not there, and for a row that contradicts one of `store` (db.exchange.joining says when), naming it.
    """
    if store.engine.url == other.engine.url:
        raise SetupError(f"{other.url} would be merged into itself; name another database")
    renamed = dict(rename or {})
    names = [session.name for session in other.sessions()]
    for name, new in renamed.items():
        check_session_name(new)
        if name not in names:
            raise SetupError(f"no session '{name}' in {other.url}{did_you_mean(name, names)}")
    return join(store, other, other.url, rename=renamed)


def join(
    store: AntibodyStore,
    other: AntibodyStore,
    place: str,
    *,
    rename: Mapping[str, str] | None = None,
    only: Mapping[str, ColumnElement[bool]] | None = None,
) -> tuple[Joined, ...]:
    """Add the rows of `other` (of each table, `only` those) to `store`, or none of them; errors call it `place`."""

    def tables() -> Iterator[tuple[Table, Iterator[tuple[str, Row]]]]:
        for table in TABLES:
            yield table, _rows(source, table, place, rename or {}, (only or {}).get(table.name))

    with reading(other.engine) as source:
        if is_sqlite(store.engine.url) and (joined := _in_bulk(store.engine, tables())) is not None:
            return joined
        with writing(store.engine) as target:
            joining = _Joining(target, partial(_insert, target))
            joined = joining.join_all(tables())
            for renewal in joining.updates:
                target.execute(renewal)
            return joined


def _in_bulk(engine: Engine, tables: Iterable[tuple[Table, Iterable[tuple[str, Row]]]]) -> tuple[Joined, ...] | None:
    """Join on SQLite with a short lock; None, and nothing is added, where the database refuses a row."""
    new = MetaData()
    beside = {
        table: Table(
            f"new_{table.name}", new, *(Column(one.name, one.type) for one in table.columns), prefixes=["TEMPORARY"]
        )
        for table in TABLES
    }
    with engine.connect() as connection:
        connection.detach()  # closed at the end, it takes its temporary tables along
        with reading(connection) as transaction:
            new.create_all(transaction.connection(), checkfirst=False)

            def lay(table: Table, rows: _Placed) -> None:
                transaction.execute(insert(beside[table]), [row for _, row in rows])

            joining = _Joining(transaction, lay)
            joined = joining.join_all(tables)
            transaction.commit()
        with writing(connection) as target:
            try:
                with target.begin_nested():
                    for table, rows in beside.items():
                        moved = select(rows).order_by(text("rowid"))
                        target.execute(insert(table).from_select([one.name for one in table.columns], moved))
                    for renewal in joining.updates:
                        target.execute(renewal)
            except IntegrityError:
                return None
    return joined


def _rows(
    source: Transaction, table: Table, place: str, rename: Mapping[str, str], only: ColumnElement[bool] | None
) -> Iterator[tuple[str, Row]]:
    found = iter(source.execute(parents_first(table, only), execution_options={"yield_per": 2 * _batch(table)}))
    while True:
        try:
            row = dict(next(found)._mapping)
        except StopIteration:
            return
        except (TypeError, ValueError, SetupError) as error:  # of a value that a column of its type cannot hold
            raise SetupError(f"{place}: a row of '{table.name}' cannot be read ({error}); nothing was added") from None
        key = ", ".join(str(row[column.name]) for column in table.primary_key.columns)
        if table.name == m.Session.__tablename__:
            row["name"] = rename.get(row["name"], row["name"])
            check_session_name(row["name"])
        yield f"{place}: row {key} of '{table.name}'", row

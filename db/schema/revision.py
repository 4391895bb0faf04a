"""Creating, checking and upgrading the schema. A new database is made from the models, an older one by migrations.

Both make the same (tests/db/schema/test_migrations.py compares them on both engines).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    inspect,
    select,
    text,
)

from db.schema import migrations
from db.schema.engine import is_sqlite, migrating, plain_errors, reading, shown
from db.schema.machinery import metadata_of
from db.schema.structure import differences
from immuno_core.errors import SetupError

_LOCK = int.from_bytes(b"immuno", "big")
_STAMP = Table(
    migrations.VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{migrations.VERSION_TABLE}_pkc"),
)
"""Alembic's table, as Alembic makes it."""


def stored_revision(connection: Connection) -> str | None:
    """Return the revision of the database's schema; None where it holds nothing.

    Raises SetupError for a database that is somebody else's. (On PostgreSQL other tables may share the schema.)
    """
    tables = set(inspect(connection).get_table_names())
    if migrations.VERSION_TABLE in tables:
        return connection.scalar(select(_STAMP.c.version_num))
    foreign = tables if is_sqlite(connection.engine.url) else tables & _our_tables()
    if foreign:
        raise SetupError(
            f"{shown(connection.engine.url)} is another program's database (it has the table '{min(foreign)}', but not "
            f"'{migrations.VERSION_TABLE}'); name another with --db"
        )
    return None


def _our_tables() -> set[str]:
    from db.schema.models import Base

    return set(Base.metadata.tables)


def check(engine: Engine) -> None:
    """Raise SetupError unless the database has the schema of this version of immuno-vlm."""
    with reading(engine) as session:
        revision = stored_revision(session.connection())
    if revision == migrations.HEAD:
        return
    where = shown(engine.url)
    if revision is None:
        raise SetupError(f"{where} is empty; name another database with --db, or fill it: immuno refine, immuno bench")
    if revision in migrations.REVISIONS:
        raise SetupError(
            f"{where} was written by an older immuno-vlm (schema {revision}, now {migrations.HEAD}); make a copy, "
            f"then run: immuno db upgrade --db {where}"
        )
    raise SetupError(f"{where} was written by a newer immuno-vlm (schema {revision}); upgrade the package to read it")


def create_or_check(engine: Engine) -> None:
    """Create the schema in an empty database, and check that of any other. Processes may do so at the same time.

    Raises as `check` does, and for tables that are not as this version made them: nothing is written into those.
    """
    with reading(engine) as session:
        empty = stored_revision(session.connection()) is None
    if empty:
        _use_write_ahead_log(engine)
        with _migrating(engine) as connection:
            if stored_revision(connection) is None:  # still: another process may have been faster
                _create(connection)
    check(engine)
    _check_structure(engine)
    _use_write_ahead_log(engine)


def _create(connection: Connection) -> None:
    """Make the schema in one that is empty: seven times faster than by all the migrations."""
    for metadata in (*metadata_of(connection.dialect.name), _STAMP.metadata):
        metadata.create_all(connection, checkfirst=False)
    connection.execute(insert(_STAMP).values(version_num=migrations.HEAD))


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Bring the schema up to date in one transaction; return the revision before and after. Raises as `check` does."""
    with _migrating(engine) as connection:
        before = stored_revision(connection)
        if before in migrations.REVISIONS[:-1]:
            migrations.upgrade(connection)
    check(engine)
    _check_structure(engine)
    return before, migrations.HEAD


def _check_structure(engine: Engine) -> None:
    with reading(engine) as session:
        found = differences(session.connection())
    if found:
        raise SetupError(
            f"{shown(engine.url)} is not as immuno-vlm made it: {found[0]}; nothing was written; see: immuno db check, "
            "and go back to a copy"
        )


@contextmanager
def _migrating(engine: Engine) -> Iterator[Connection]:
    """A transaction that one process has at a time: on SQLite each is so, on PostgreSQL by an agreed lock."""
    with migrating(engine) as connection:
        if not is_sqlite(engine.url):
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        yield connection


def _use_write_ahead_log(engine: Engine) -> None:
    """Switch a SQLite file to the write-ahead log. The file remembers; it cannot be done within a transaction."""
    if is_sqlite(engine.url):
        with plain_errors(engine.url), closing(engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA journal_mode=WAL")

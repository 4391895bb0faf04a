from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.records import SessionRecord
from db.store import AntibodyStore, open_store

from .build import make_session


@pytest.fixture(autouse=True)
def _no_database_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMMUNO_DB", raising=False)


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database made once by the migrations: the tests copy it, which is faster than to make it anew."""
    path = tmp_path_factory.mktemp("template") / "immuno.db"
    open_store(str(path)).close()
    return path


@pytest.fixture
def path(new_database: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(new_database, tmp_path / "immuno.db"))


@pytest.fixture
def store(path: Path) -> Iterator[AntibodyStore]:
    with open_store(str(path)) as opened:
        yield opened


@pytest.fixture
def session(store: AntibodyStore) -> SessionRecord:
    return make_session(store)

"""What sessions in the word world need."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.chat import pacing
from db.store import AntibodyStore, open_store
from evaluation.space import Space
from immuno_core.retries import Backoff

from . import word_world as world


@pytest.fixture(scope="session")
def space() -> Space:
    return world.space()


@pytest.fixture
def store(new_database: Path, tmp_path: Path) -> Iterator[AntibodyStore]:
    with open_store(str(shutil.copy(new_database, tmp_path / "immuno.db"))) as opened:
        yield opened


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again after a moment, and asks no server but those of the tests."""
    monkeypatch.setattr(pacing, "BACKOFF", Backoff(first=0.01, longest=0.1))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

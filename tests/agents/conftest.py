"""What sessions in the word world need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from db.store import AntibodyStore, open_store
from evaluation.space import Space

from . import word_world as world


@pytest.fixture(scope="session")
def space() -> Space:
    return world.space()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AntibodyStore]:
    with open_store(str(tmp_path / "immuno.db")) as opened:
        yield opened

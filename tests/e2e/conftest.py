"""What the tests of whole runs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.own_data import write_own_data


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of a benchmark on embeddings alone."""
    return write_own_data(tmp_path)

"""A run that opens the seal is on record from its beginning, and what became of it too."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.store import open_store
from immuno.workplace import recorded_run
from tests.configs import make_config

pytestmark = pytest.mark.usefixtures("unpainted")


@pytest.mark.parametrize(
    ("raised", "status"), [(None, "finished"), (ValueError, "failed"), (KeyboardInterrupt, "failed")]
)
def test_a_run_that_failed_is_not_running(raised: type[BaseException] | None, status: str, tmp_path: Path) -> None:
    with open_store(str(tmp_path / "immuno.db")) as store:
        try:
            with recorded_run(store, make_config(seed=3), "digest") as run:
                assert [(one.id, one.status, one.seed) for one in store.runs()] == [(run.id, "running", 3)]
                if raised is not None:
                    raise raised
        except (ValueError, KeyboardInterrupt):
            pass
        (found,) = store.runs()
    assert found.status == status
    assert found.finished_at is not None

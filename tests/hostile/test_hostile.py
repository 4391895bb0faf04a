"""Bad replies of each family: the session ends well, or pauses with one line. All of them: python -m tests.hostile."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kinds import KINDS
from .sessions import run_all


def test_no_name_stands_for_two_kinds() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 100


@pytest.mark.long
def test_a_session_ends_well_or_pauses_with_one_line(new_database: Path, tmp_path: Path) -> None:
    outcomes = list(run_all((kind for kind in KINDS if kind.quick), new_database, tmp_path))
    assert len(outcomes) > 20
    assert [one for one in outcomes if one.wrong] == []

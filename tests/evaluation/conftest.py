"""Hypothesis for this room: the same examples in every run, and no time limit on a busy machine. Reports to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from evaluation.report import render_report
from tests.evaluation.report.report_folder import make_results, make_rows, make_scores
from tests.evaluation.report.report_folder import write_folder as write
from tests.evaluation.report.report_page import Page, read

settings.register_profile("evaluation", derandomize=True, deadline=None)
settings.load_profile("evaluation")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return make_rows(make_scores())


@pytest.fixture(scope="module")
def report(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_report(write(tmp_path_factory.mktemp("full"), make_results(rows), make_scores()))


@pytest.fixture(scope="module")
def full(report: Path) -> Page:
    return read(report)


@pytest.fixture
def render(rows: list[dict[str, Any]], tmp_path: Path) -> Callable[..., Page]:
    """Render a results folder without scores, session and gallery, with some keys changed (None removes one)."""

    def rendered(**changes: Any) -> Page:
        changed = {**make_results(rows), "session": None, "gallery": [], **changes}
        results = {k: v for k, v in changed.items() if v is not None}
        return read(render_report(write(tmp_path / "run", results, None)))

    return rendered

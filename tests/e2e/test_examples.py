"""The pages that a newcomer follows run as they stand, from top to bottom, in a folder where nothing is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.scores import registry
from tests.e2e.small_world import SMALLER, draw_photos, make_small, shortened
from tests.pages import ROOT, run
from tools.notebooks import ORDER, executed

pytestmark = [pytest.mark.ray, pytest.mark.long]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: str) -> Path:
    make_small(monkeypatch)
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster)
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    draw_photos(tmp_path / "photos")
    return tmp_path


def test_the_python_of_readme_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("README.md", folder, lambda _: [])  # its commands are run from the wheel
    assert "AUROC" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["docs/quickstart.md", "docs/own-data.md"])
def test_a_newcomers_page_runs(page: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(page, folder, shortened)
    assert "FPR95" in capsys.readouterr().out


def test_the_examples_of_the_python_guide_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, contract = run("docs/api.md", folder)
    out = capsys.readouterr().out
    assert out.count("AUROC") == 3
    assert "finished" in out
    assert (folder / "runs" / "notebook" / "report.html").exists()
    assert (module.name, contract.name) == ("mymodule.py", "test_mymodule.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(contract)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert re.search(r"^1\d passed", done.stdout, re.MULTILINE), done.stdout


def test_the_notebooks_run(folder: Path) -> None:
    """As they are kept, but for the size of the world."""
    for name in ORDER:
        executed(name, folder, before=SMALLER)

"""The examples of docs/api.md and README run as they stand, in order, in a folder where nothing is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evaluation.scores import registry
from tests.e2e.small_world import make_small

pytestmark = [pytest.mark.ray, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]
_FENCED = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_examples(page: str, folder: Path) -> list[Path]:
    """Run the blocks of Python in one namespace; one that begins with "# NAME.py" is a file, and returned."""
    names: dict[str, Any] = {"__name__": "example"}
    files = []
    for number, block in enumerate(_FENCED.findall((ROOT / page).read_text(encoding="utf-8"))):
        if (named := re.match(r"# (\w+\.py)\n", block)) is not None:
            files.append(folder / named[1])
            files[-1].write_text(block)
        else:
            exec(compile(block, f"{page}, block {number}", "exec"), names)  # noqa: S102 - these are our own pages
    return files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: str) -> Path:
    make_small(monkeypatch)
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster)
    monkeypatch.setattr(registry, "_REGISTERED", {})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_examples("README.md", folder)
    assert "AUROC" in capsys.readouterr().out
    module, contract = run_examples("docs/api.md", folder)
    out = capsys.readouterr().out
    assert out.count("AUROC") == 3
    assert "finished" in out
    assert (folder / "runs" / "notebook" / "report.html").exists()
    assert (module.name, contract.name) == ("mymodule.py", "test_mymodule.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(contract)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert re.search(r"^1\d passed", done.stdout, re.MULTILINE), done.stdout

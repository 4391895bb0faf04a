"""The wheel, installed into a place of its own, does from another folder what README says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.small_world import SMALLER, draw_photos, shortened
from tests.pages import commands

pytestmark = [pytest.mark.ray, pytest.mark.wheel]

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("immuno_vlm-*.whl"))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def run(wheel: Path, elsewhere: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs Python in a folder where nothing is, with the installed wheel before the checkout on its path."""
    home = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(home)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(home), "IMMUNO_CACHE": str(elsewhere / "cache")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done

    # Nothing of the checkout is imported, although the tests' environment knows it.
    where = run("-c", "import immuno, db; print(immuno.__file__, db.__file__, sep='\\n')").stdout.splitlines()
    assert all(Path(path).is_relative_to(home) for path in where)
    assert run(str(home / "bin" / "immuno"), "--version").stdout.startswith("immuno, version ")
    return run


def test_the_wheel_holds_everything_that_is_not_python(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    rooms = ("immuno/", "immuno_core/", "cluster/", "agents/", "evaluation/", "db/")
    assert {name for name in tracked if name.startswith(rooms)} <= packed
    assert {f"immuno/{name}" for name in tracked if name.startswith("configs/")} <= packed
    assert {f"{room}py.typed" for room in rooms} <= packed


ALL_IN_ONE = """
import json, sys
from cluster.actors.runtime import connect
from immuno.cli import main
with connect("local"):
    for command in json.loads(sys.argv[1]):
        try:
            main(command)
        except SystemExit as stopped:
            assert not stopped.code, (command, stopped.code)
"""
"""Commands in turn: what each would import and start costs more than it does itself."""


def test_the_demo_and_the_commands_of_the_readme_run_from_another_folder(run: Run, elsewhere: Path) -> None:
    draw_photos(elsewhere / "photos")
    typed = [words[1:] for words in commands("README.md") if words[0] == "immuno" and words[1] != "submit"]
    # Two seeds show what three do, and the verdict is given once, on one's own images.
    said = [[word.replace("0,1,2", "0,1") for word in shortened(words)] for words in typed]
    said = [[word for word in words if word != "--settle" or "--seeds" not in words] for words in said]
    assert {words[0] for words in said} == {"init", "refine", "bench", "guard", "db"}
    demo = run("-c", f"{SMALLER}from immuno.__main__ import run\nrun()", "demo", "--json")
    assert {row["ood"] for row in json.loads(demo.stdout)["rows"]} >= {"near", "contextual", "far"}
    done = run("-c", SMALLER + ALL_IN_ONE, json.dumps(said))
    assert done.stderr.count("no configs/miniworld.toml here: taking") == 1
    assert "FPR95" in done.stdout

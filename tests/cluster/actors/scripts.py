"""Runs a piece of a program as a process of its own, as a user's would be."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def start_script(source: str, *arguments: str, stdin: int | None = None) -> subprocess.Popen[str]:
    """Start a script from the root of the checkout. It inherits what it needs to join the tests' Ray cluster."""
    return subprocess.Popen(
        [sys.executable, "-W", "error::UserWarning", "-c", textwrap.dedent(source), *arguments],
        cwd=ROOT,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_script(source: str, *arguments: str) -> str:
    """Run a script to its end and return what it printed. Raises AssertionError if it failed."""
    with start_script(source, *arguments) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out

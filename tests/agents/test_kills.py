"""SIGKILL and stops at random moments of sessions, and on they go: nothing is lost, nothing is there twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
def test_a_session_killed_twenty_times_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.agents.kill_world", str(tmp_path), "--kills", "20", "--seed", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert found["kills"] >= 20
    assert found["sessions"] >= 4  # one of each kind
    assert found[
        "stops"
    ]  # it goes on until it met both: how many sessions a request reaches in time hangs on the machine
    assert found["merges"]
    assert len(found["generations_at_kill"]) > 2  # the kills fell on different generations

"""The check of a machine with a GPU, tried without one: it runs, and says what it skipped and why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)


def test_on_a_cpu_it_makes_what_can_be_made(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    checks = ("precision", "halving", "pinned", "two_actors", "texts", "vllm_beside")
    done = run("--device", "cpu", "--quick", "--out", str(report), "--only", *checks)
    assert done.returncode == 0, done.stderr
    made = {check["check"]: check for check in json.loads(report.read_text())["checks"]}
    assert {name: made[name]["state"] for name in checks} == {
        "precision": "ok", "halving": "skipped", "pinned": "skipped", "two_actors": "ok", "texts": "ok",
        "vllm_beside": "skipped",
    }  # fmt: skip
    assert made["precision"]["measured"]["bf16"]["images"]["least_cosine"] > 0.999
    assert made["pinned"]["reason"] == "asks for a GPU"
    assert made["vllm_beside"]["reason"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    done = run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "no GPU" in done.stderr

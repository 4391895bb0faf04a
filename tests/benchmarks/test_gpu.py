"""The check of a machine with a GPU, tried without one: it runs, and says what it skipped and why."""

from __future__ import annotations

import json
import logging
import multiprocessing.dummy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import gpu


@pytest.fixture(autouse=True)
def _root_log_as_it_was() -> Iterator[None]:
    filters = list(logging.getLogger("root").filters)
    yield
    logging.getLogger("root").filters = filters


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments])
    return gpu.main()


@pytest.mark.parametrize(
    "processes", [pytest.param(True, marks=pytest.mark.long), False], ids=["processes", "threads for processes"]
)
def test_on_a_cpu_it_makes_what_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, processes: bool
) -> None:
    if not processes:
        monkeypatch.setattr(multiprocessing, "get_context", lambda _method: multiprocessing.dummy)
    report = tmp_path / "report.json"
    checks = ("precision", "halving", "pinned", "two_actors", "texts", "vllm_beside")
    assert run(monkeypatch, "--device", "cpu", "--quick", "--out", str(report), "--only", *checks) == 0
    made = {check["check"]: check for check in json.loads(report.read_text())["checks"]}
    assert {name: made[name]["state"] for name in checks} == {
        "precision": "ok", "halving": "skipped", "pinned": "skipped", "two_actors": "ok", "texts": "ok",
        "vllm_beside": "skipped",
    }  # fmt: skip
    assert made["precision"]["measured"]["bf16"]["images"]["least_cosine"] > 0.999
    assert made["pinned"]["reason"] == "asks for a GPU"
    assert made["vllm_beside"]["reason"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "no GPU" in err

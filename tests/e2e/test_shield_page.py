"""Every command and the Python of docs/shield.md run as they stand, after a session of the small mini-world."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evaluation.miniworld import default_root
from immuno.cli import main
from tests.e2e.small_world import make_small
from tests.pages import commands, run

pytestmark = [pytest.mark.ray, pytest.mark.long]
PAGE = "docs/shield.md"


def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_small(monkeypatch)
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster)
    monkeypatch.chdir(tmp_path)
    session = ["--session", "demo-seed0", "--db", "runs/demo/immuno.db", "--generations", "1"]
    with pytest.raises(SystemExit) as left:
        main(["refine", "start", "configs/miniworld.toml", *session])
    assert not left.value.code
    world = default_root(0) / "feedback"
    shutil.copytree(world / "id", tmp_path / "known")
    shutil.copytree(world / "near" / "whale", tmp_path / "whales")
    (tmp_path / "pictures").mkdir()
    for name, path in zip("abcdef", sorted((world / "far").rglob("*.png")), strict=False):
        shutil.copy(path, tmp_path / "pictures" / f"{name}.png")
    assert len(commands(PAGE)) == 9
    run(PAGE, tmp_path)
    *_, first, second = capsys.readouterr().out.splitlines()
    outcomes = {"accepted", "rejected", "review"}
    assert {first.split()[0], second.split()[0]} <= outcomes

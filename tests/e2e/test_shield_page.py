"""Every command and the Python of docs/shield.md run as they stand, after a session of the small mini-world."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest

from evaluation.miniworld import default_root
from immuno.cli import main
from immuno_core.config.run import parse_config
from tests.e2e.small_world import make_small
from tests.e2e.test_examples import run_examples

pytestmark = [pytest.mark.ray, pytest.mark.long]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "shield.md"
REFINE = ["refine", "start", "CONFIG", "--session", "demo-seed0", "--db", "runs/demo/immuno.db", "--generations", "1"]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    return int(left.value.code or 0)


def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_small(monkeypatch)
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster)
    monkeypatch.chdir(tmp_path)
    config = str(PAGE.parents[1] / "configs" / "miniworld.toml")
    assert run(*[config if one == "CONFIG" else one for one in REFINE]) == 0
    world = default_root(0) / "feedback"
    shutil.copytree(world / "id", tmp_path / "known")
    shutil.copytree(world / "near" / "whale", tmp_path / "whales")
    (tmp_path / "pictures").mkdir()
    for name, path in zip("abcdef", sorted((world / "far").rglob("*.png")), strict=False):
        shutil.copy(path, tmp_path / "pictures" / f"{name}.png")
    text = PAGE.read_text(encoding="utf-8")
    (block,) = re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert len(commands) == 9
    for command in commands:
        assert command[0] == "immuno"
        assert run(*command[1:]) == 0, (command, capsys.readouterr().err)
    capsys.readouterr()
    run_examples("docs/shield.md", tmp_path)
    assert len(capsys.readouterr().out.splitlines()) == 2
    (toml,) = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    data = {"id": {"builtin": "miniworld"}, "fit": {"builtin": "miniworld"}, **tomllib.loads(toml)["data"]}
    raw = {"encoder": {"model": "miniworld"}, "classes": {"names": "dataset"}, "methods": [{"name": "mcm"}]}
    data["ood"] = [{"name": "near", "builtin": "miniworld"}]
    parsed = parse_config({**raw, "data": data}, origin="x", folder=tmp_path)
    assert parsed.data.feedback[0].shield_log == tmp_path / "runs" / "rejected"

"""The shield judges images as the benchmark scored them, in another process, and needs neither Ray nor a database."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import immuno
from immuno.shield.shield import Shield
from immuno_core.errors import SetupError
from tests.immuno.shield.conftest import Made

APART = """
import json, sys
from immuno import Shield
said = Shield.load(sys.argv[1]).judge(sys.argv[2:])
rooms = ("ray", "sqlalchemy", "langchain", "langchain_core", "langgraph", "db", "agents", "pyarrow", "matplotlib")
loaded = sorted(name for name in rooms if name in sys.modules)
print(json.dumps({"scores": [one.score for one in said], "loaded": loaded, "images": [one.image for one in said]}))
"""


@pytest.mark.long
def test_in_another_process_it_says_what_the_benchmark_measured(made: Made) -> None:
    files = [str(path) for path in sorted((made.images / "test").rglob("*.png"))]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", APART, str(made.shield), *files],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    with np.load(made.images / "out" / "scores.npz") as scores:
        key = next(name for name in scores.files if "immuno_vlm" in name and name.endswith("id"))
        expected = scores[key]
    assert found["images"] == files
    assert sorted(found["scores"]) == pytest.approx(sorted(expected), abs=1e-5)
    assert found["loaded"] == []
    (row,) = made.results.rows
    threshold = Shield.load(made.shield).manifest.thresholds.overall.value
    assert threshold == pytest.approx(row.metrics["threshold"], abs=1e-5)


def test_paths_bytes_pictures_and_arrays_are_one(made: Made) -> None:
    path = next((made.images / "test").rglob("*.png"))
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    shield = immuno.Shield.load(made.shield)
    said = shield.judge([str(path), path, path.read_bytes(), picture, np.asarray(picture)])
    assert [one.image for one in said] == [str(path), str(path), "image 3", "image 4", "image 5"]
    assert {one.score for one in said} == {said[0].score}
    assert {one.outcome for one in said} <= {"accepted", "rejected", "review"}
    embedded = shield.embed([path])
    assert shield.judge_embeddings(3 * embedded.features)[0].score == pytest.approx(said[0].score, abs=1e-6)


def test_in_a_batch_only_what_cannot_be_read_fails(made: Made, tmp_path: Path) -> None:
    good = str(next((made.images / "test").rglob("*.png")))
    whole = Path(good).read_bytes()
    (tmp_path / "no image.png").write_text("not an image")
    (tmp_path / "torn\n.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").touch()
    bomb = Image.new("L", (20_000, 20_000))
    bomb.save(tmp_path / "bomb.png")
    bad = [*sorted(str(path) for path in tmp_path.iterdir()), str(tmp_path), "nowhere.png"]
    others = [b"", b"GIF89a", np.zeros((4, 4, 7), np.uint8), np.zeros((0, 5, 3), np.uint8), np.zeros((4, 4)), None, 7]
    said = Shield.load(made.shield).judge([good, *bad, *others, good])  # type: ignore[list-item]
    assert [one.outcome for one in said] == [said[0].outcome, *["failed"] * (len(bad) + len(others)), said[0].outcome]
    assert said[0].score == said[-1].score
    reasons = {Path(one.image).name: one.reason for one in said[1 : 1 + len(bad)]}
    assert reasons["no image.png"] == "not an image"
    assert reasons["empty.png"] == "the file is empty"
    assert "exceeds limit" in reasons["bomb.png"]
    assert reasons["nowhere.png"] == "No such file or directory"
    assert all(one.reason and one.score is None for one in said[1:-1])


def test_another_encoder_is_refused_by_its_digest(
    made: Made, tmp_path: Path, tiny_encoder_dir: Path, tiny_images: Callable[..., Path]
) -> None:
    import shutil

    other = Path(shutil.copytree(tiny_encoder_dir, tmp_path / "other"))
    config = other / "open_clip_config.json"
    content = json.loads(config.read_text())
    content["model_cfg"]["quick_gelu"] = not content["model_cfg"].get("quick_gelu", False)
    config.write_text(json.dumps(content))
    image = next(tiny_images(tmp_path / "x", {"cat": 1}).rglob("*.png"))
    shield = Shield.load(made.shield, model=f"local-dir:{other}")
    with pytest.raises(SetupError, match="not the encoder that this shield was made for"):
        shield.judge([image])
    moved = Path(shutil.copytree(tiny_encoder_dir, tmp_path / "moved"))
    assert Shield.load(made.shield, model=f"local-dir:{moved}").judge([image])[0].score is not None
    with pytest.raises(SetupError, match="no folder at"):
        Shield.load(made.shield, model=f"local-dir:{tmp_path / 'gone'}")


def test_embeddings_that_are_none_are_refused(made: Made) -> None:
    shield = Shield.load(made.shield)
    with pytest.raises(SetupError, match="judges \\(n, 16\\)"):
        shield.judge_embeddings(np.ones((2, 3)))
    with pytest.raises(SetupError, match="NaN"):
        shield.judge_embeddings(np.zeros((1, 16)))
    assert shield.judge_embeddings(np.ones((0, 16))) == []
    assert shield.judge([]) == []


@pytest.mark.parametrize("review", [-0.1, 1.0, float("nan")])
def test_a_band_that_is_no_share_is_refused(made: Made, review: float) -> None:
    with pytest.raises(SetupError, match="review"):
        Shield.load(made.shield, review=review)

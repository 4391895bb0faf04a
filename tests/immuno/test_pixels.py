"""The control `pixels` in a whole benchmark on images: it leaves no file behind, and says what it cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cluster import EncoderSpec, LocalEmbedder
from db import open_store
from immuno.bench import bench
from immuno.workplace import Workplace
from tests.configs import make_config


def test_texts_and_pixels_in_one_run(tmp_path: Path, tiny_encoder_dir: Path, tiny_images: Callable[..., Path]) -> None:
    for seed, name in enumerate(("fit", "id", "near", "sealed")):
        tiny_images(tmp_path / name, {"cat": 4, "dog": 4}, seed=seed)
    (tmp_path / "bank.txt").write_text("fox\nowl\nbear\n")
    config = make_config(
        tmp_path,
        encoder={"model": f"local-dir:{tiny_encoder_dir}"},
        data={"fit": "fit", "id": "id", "feedback": {"near": "near"}, "ood": {"near": "sealed"}},
        antibodies={"file": "bank.txt", "template": "a {}"},
        methods=["calibrated", {"name": "calibrated", "arm": "pixels", "label": "calibrated / pixels"}],
    )
    store = tmp_path / "store"
    with open_store(str(tmp_path / "x.db")) as record:
        place = Workplace(config, lambda: record, LocalEmbedder(EncoderSpec.from_config(config.encoder), store))
        results = bench(place, out=tmp_path / "out")
    drawn = [row for row in results.rows if row.arm == "pixels"]
    assert [(row.method, row.antibodies) for row in drawn] == [("calibrated / pixels", 3)]
    assert [one.title for one in results.priced] == ["texts", "pixels"]
    texts, pixels = (one.cost for one in results.priced)
    assert texts.bytes == sum(map(len, ("a fox", "a owl", "a bear"))) / 3
    assert all(cost is not None and cost > 0 for cost in (texts.seconds, pixels.seconds, pixels.bytes))
    assert texts.tokens is None
    assert len(list(tmp_path.rglob("*.png"))) == 4 * 8

"""A shield of a small classifier on drawn images, exported once, with the benchmark that measured the same score."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster import EncoderSpec, LocalEmbedder
from db import open_store
from immuno.bench import bench
from immuno.results import Results
from immuno.shield.exporting import export
from immuno.workplace import Workplace
from tests.configs import make_config


@dataclass(frozen=True)
class Made:
    """`images` has the folders fit, known, near and sealed; `shield` is the exported folder."""

    images: Path
    shield: Path
    results: Results


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_encoder_dir: Path, tiny_images: Callable[..., Path]) -> Made:
    folder = tmp_path_factory.mktemp("shield")
    for seed, name in enumerate(("fit", "known", "test")):
        tiny_images(folder / name, {"cat": 12, "dog": 12, "owl": 12}, seed=seed)
    for seed, name in enumerate(("near", "sealed")):
        tiny_images(folder / name, {"fox": 8, "bear": 8}, seed=seed + 10)
    (folder / "bank.txt").write_text("fox\nbear\nmaple tree\n")
    config = make_config(
        folder,
        encoder={"model": f"local-dir:{tiny_encoder_dir}"},
        data={
            "fit": "fit",
            "feedback_id": "known",
            "id": "test",
            "feedback": {"near": "near"},
            "ood": {"far": "sealed"},
        },
        antibodies={"file": "bank.txt", "template": "a {}"},
        methods=["immuno_vlm"],
    )
    embedder = LocalEmbedder(EncoderSpec.from_config(config.encoder), folder / "store")
    with open_store(str(folder / "x.db")) as record:
        place = Workplace(config, lambda: record, embedder)
        results = bench(place, out=folder / "out")
        export(place, licence="CC0-1.0").save(folder / "shield")
    return Made(folder, folder / "shield", results)


@pytest.fixture
def shield_dir(made: Made, tmp_path: Path) -> Path:
    """A copy of the shield to change."""
    return Path(shutil.copytree(made.shield, tmp_path / "shield"))

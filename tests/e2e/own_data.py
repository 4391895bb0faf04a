"""A benchmark on embeddings alone: feature files and a table of texts, without images, a model or Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.configs import write_config

CLASSES = ("cat", "dog", "owl")
BANK = {"file": "bank.txt", "template": "a photo of a {}."}
DATA: dict[str, Any] = {
    "overlap": "error",
    "fit": "fit.npz",
    "id": {"features": "id.npz", "expected": 30},
    "ood": {"near": "near.npz", "far": "far.safetensors"},
}
OWN: dict[str, Any] = {
    "seed": 1,
    "encoder": {"kind": "precomputed", "texts": "texts.npz"},
    "classes": {"names": "classes.txt"},
    "antibodies": BANK,
    "data": DATA,
    "methods": ["calibrated", "mcm", "max_logit"],
}


def around(centre: np.ndarray[Any, Any], count: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    return centre + random.normal(size=(count, 16)) * 0.3


def write_own_data(folder: Path) -> Path:
    """Three classes, a bank of one antibody, two outlier sets; returns the configuration."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(0)
    known, antibody = random.normal(size=(3, 16)), random.normal(size=16)
    texts = [*(f"a photo of a {name}." for name in CLASSES), "a photo of a fox."]
    np.savez(folder / "texts.npz", texts=np.array(texts), features=np.vstack([known, antibody]))
    for name, each in (("fit", 8), ("id", 10)):
        rows = np.concatenate([around(centre, each, random) for centre in known])
        np.savez(folder / f"{name}.npz", features=rows, labels=np.repeat(np.arange(3), each))
    np.savez(folder / "near.npz", features=around(antibody, 20, random), ids=[f"fox/{i}.jpg" for i in range(20)])
    save_file({"features": random.normal(size=(25, 16)).astype(np.float32)}, folder / "far.safetensors")
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    (folder / "bank.txt").write_text("fox\n")
    return write_config(folder / "own.toml", **OWN)

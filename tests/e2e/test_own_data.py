"""A benchmark on embeddings alone: feature files and a table of texts, without images, a model or Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from immuno.cli import main

CLASSES = ("cat", "dog", "owl")
CONFIG = """
seed = 1
[encoder]
kind = "precomputed"
texts = "texts.npz"
[classes]
names = "classes.txt"
[antibodies]
file = "bank.txt"
template = "a photo of a {}."
[data]
overlap = "error"
[data.fit]
features = "fit.npz"
[data.id]
features = "id.npz"
expected = 30
[[data.ood]]
name = "near"
features = "near.npz"
[[data.ood]]
name = "far"
features = "far.safetensors"
[[methods]]
name = "calibrated"
[[methods]]
name = "mcm"
[[methods]]
name = "max_logit"
"""


def around(centre: np.ndarray[Any, Any], count: int, random: np.random.Generator) -> np.ndarray[Any, Any]:
    return centre + random.normal(size=(count, 16)) * 0.3


@pytest.fixture
def config(tmp_path: Path) -> Path:
    from safetensors.numpy import save_file

    random = np.random.default_rng(0)
    known, antibody = random.normal(size=(3, 16)), random.normal(size=16)
    texts = [*(f"a photo of a {name}." for name in CLASSES), "a photo of a fox."]
    np.savez(tmp_path / "texts.npz", texts=np.array(texts), features=np.vstack([known, antibody]))
    for name, each in (("fit", 8), ("id", 10)):
        rows = np.concatenate([around(centre, each, random) for centre in known])
        np.savez(tmp_path / f"{name}.npz", features=rows, labels=np.repeat(np.arange(3), each))
    np.savez(tmp_path / "near.npz", features=around(antibody, 20, random), ids=[f"fox/{i}.jpg" for i in range(20)])
    save_file({"features": random.normal(size=(25, 16)).astype(np.float32)}, tmp_path / "far.safetensors")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    (tmp_path / "bank.txt").write_text("fox\n")
    (tmp_path / "own.toml").write_text(CONFIG)
    return tmp_path / "own.toml"


def bench(config: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    folder = config.parent
    with pytest.raises(SystemExit) as stopped:
        main(["bench", str(config), "--out", str(folder / "out"), "--db", str(folder / "immuno.db"), "--json"])
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def test_a_benchmark_runs_on_feature_files(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = bench(config, capsys)
    assert status == 0, err
    results = json.loads(out)
    sizes = {(row["ood"], row["n_id"], row["n_ood"]) for row in results["rows"]}
    assert sizes == {("near", 30, 20), ("far", 30, 25)}
    assert results["encoder"]["model"] == "precomputed"
    by_method = {row["method"]: row for row in results["rows"] if row["ood"] == "near"}
    assert by_method["max_logit"]["id_accuracy"] == 1
    assert by_method["calibrated"]["antibodies"] == 1


def test_overlap_is_refused_or_dropped_as_the_configuration_says(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = config.parent
    with np.load(folder / "fit.npz") as fit, np.load(folder / "near.npz") as near:
        rows = np.concatenate([near["features"][:18], fit["features"][:2]])
    np.savez(folder / "near.npz", features=rows)
    status, _, err = bench(config, capsys)
    assert status == 2
    assert "error: the sealed test overlaps what it must be apart from: '18' of test set 'near' is '0' of" in err
    assert 'overlap = "drop"' in err
    config.write_text(CONFIG.replace('"error"', '"drop"'))
    status, out, err = bench(config, capsys)
    assert status == 0, err
    assert {row["n_ood"] for row in json.loads(out)["rows"] if row["ood"] == "near"} == {18}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"fit.npz"', '"fitt.npz"'), "no feature file at"),
        (("expected = 30", "expected = 31"), "30 images in"),
        (('template = "a photo of a {}."', 'template = "the nice {}"'), "no embedding of 'the nice fox'"),
    ],
)
def test_what_is_wrong_with_the_data_is_said_without_a_traceback(
    config: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], message: str
) -> None:
    config.write_text(CONFIG.replace(*change))
    status, out, err = bench(config, capsys)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err

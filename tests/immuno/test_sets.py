"""The image sets of a run are listed once, whatever asks for them."""

from __future__ import annotations

import errno
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cluster import EncoderSpec, LocalEmbedder
from db.store import open_store
from immuno import workplace
from immuno.bench import bench
from immuno.workplace import Sets, Workplace
from immuno_core.config.run import RunConfig
from immuno_core.errors import SetupError
from tests.cluster.tiny_models import write_images
from tests.configs import make_config

pytestmark = pytest.mark.usefixtures("unpainted")


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    for number, name in enumerate(("fit", "known", "near", "id", "far")):
        write_images(tmp_path / name, {"cat": 4, "dog": 4}, seed=number)
    data = {"fit": "fit", "feedback_id": "known", "feedback": {"near": "near"}, "id": "id", "ood": {"far": "far"}}
    return make_config(tmp_path, data=data)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Counter[str]]:
    """How often each path is asked for with os.scandir and os.stat."""
    counted: dict[str, Counter[str]] = {"scandir": Counter(), "stat": Counter()}

    def counting(name: str) -> Any:
        call = getattr(os, name)

        def counted_call(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            counted[name][str(path)] += 1
            return call(path, *arguments, **options)

        return counted_call

    for name in counted:
        monkeypatch.setattr(os, name, counting(name))
    return counted


def of_images(counted: Counter[str], *folders: Path) -> set[int]:
    return {counted[str(image)] for folder in folders for image in folder.rglob("*.png")}


def test_each_folder_is_listed_and_each_image_looked_at_once(
    config: RunConfig, counts: dict[str, Counter[str]], tmp_path: Path
) -> None:
    opened: list[tuple[str, ...]] = []
    sets = Sets(config)
    assert sets.problems() == []
    assert sets.classes == ("cat", "dog")
    assert [(images.name, images.split) for images in sets.open] == [
        ("id", "fit"),
        ("id", "feedback"),
        ("near", "feedback"),
    ]
    digests = sets.open_digest(), sets.sealed_digest()
    assert opened == []
    sealed = sets.sealed.open("a test", on_open=lambda names, _: opened.append(names))
    assert opened == [("id", "far")]
    assert [images.name for images in (sealed.id, *sealed.ood)] == ["id", "far"]
    assert {counts["scandir"][f"{tmp_path}/{name}/cat"] for name in ("fit", "known", "near", "id", "far")} == {1}
    assert of_images(counts["stat"], tmp_path) == {1}
    # Another run looks again.
    (tmp_path / "near/cat/000.png").write_bytes((tmp_path / "near/cat/001.png").read_bytes() + b" ")
    (tmp_path / "far/cat/000.png").unlink()
    again = Sets(config)
    assert again.open_digest() != digests[0]
    assert again.sealed.digest() != digests[1]


def test_a_benchmark_lists_once_and_looks_at_an_image_twice(
    config: RunConfig, counts: dict[str, Counter[str]], tmp_path: Path, tiny_encoder_dir: Path
) -> None:
    spec = EncoderSpec(f"local-dir:{tiny_encoder_dir}")
    with open_store(str(tmp_path / "x.db")) as store, LocalEmbedder(spec, tmp_path / "store") as embedder:
        place = Workplace(config, lambda: store, embedder)
        first = bench(place, out=tmp_path / "first")
        for counter in counts.values():
            counter.clear()
        assert bench(place, out=tmp_path / "second").run_id != first.run_id
    assert {counts["scandir"][f"{tmp_path}/{name}/cat"] for name in ("fit", "known", "near", "id", "far")} == {1}
    # Listed, and compared with what the store holds; of the sealed images some are drawn in the gallery.
    assert of_images(counts["stat"], *(tmp_path / name for name in ("fit", "known", "near"))) == {2}
    assert of_images(counts["stat"], tmp_path / "id", tmp_path / "far") <= {2, 3}


def test_a_world_that_cannot_be_drawn_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(workplace, "build", full)
    with pytest.raises(SetupError, match=r"the mini-world cannot be drawn into .*: No space left on device"):
        workplace.sets_of(make_config(tmp_path))

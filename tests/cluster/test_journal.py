"""What is written down while images are embedded, and what people are told of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import EncoderSpec, LocalEmbedder
from cluster.journal import COUNTERS, GAUGES, Journal
from cluster.records import ActorDeath, EmbeddingSummary, ShardStats
from immuno_core.progress import MODES, ProgressState, SilentProgress
from immuno_core.records import FailedImage
from immuno_core.text import duration
from tests.cluster.actors.scripts import ROOT

from .tiny_models import image_set, write_images


class Watching(SilentProgress):
    def __init__(self) -> None:
        self.state = ProgressState({})

    def tell(self, state: ProgressState) -> None:
        self.state = state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_images(tmp_path / "images", {"cat": 6})
    (folder / "cat/002.png").write_text("no image")
    return folder


def test_an_embedder_writes_down_what_it_did(tiny_encoder_dir: Path, tmp_path: Path, folder: Path) -> None:
    spec, store, watching = EncoderSpec(f"local-dir:{tiny_encoder_dir}"), tmp_path / "store", Watching()
    first = LocalEmbedder(spec, store, shard_size=2, progress=watching)
    assert first.journal.summary() == EmbeddingSummary()
    first.embed_images(image_set(folder))
    first.embed_images(image_set(folder))  # from the store, and not counted again
    summary = first.journal.summary()
    assert (summary.embedded, summary.from_store) == (5, 0)
    assert summary.quarantined == (FailedImage("animals", str(folder / "cat/002.png"), "not an image"),)
    assert summary.seconds > 0
    assert watching.state.quarantined == 1

    second = LocalEmbedder(spec, store, shard_size=2)
    second.embed_texts(["a cat"])  # took its time, which is not that of images
    second.embed_images(image_set(folder))
    summary = second.journal.summary()
    assert (summary.embedded, summary.from_store, len(summary.quarantined), summary.seconds) == (0, 5, 1, 0)
    for path in sorted(store.glob("*/images/*/*.safetensors"))[:1]:
        path.unlink()
    third = LocalEmbedder(spec, store, shard_size=2)
    third.embed_images(image_set(folder))
    summary = third.journal.summary()
    assert summary.embedded + summary.from_store == 5
    assert summary.embedded in (1, 2)


def test_actors_and_their_ends_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    watching = Watching()
    now = [0.0]
    journal = Journal(watching, clock=lambda: now[0])
    journal.start(100, "embedding images")
    journal.actor_up("a:1")
    journal.actor_up("b:2")
    for _ in range(3):
        now[0] += 1
        journal.shard_done("a:1", ShardStats(images=10, failures=1, seconds=1, halvings=1))
    journal.retried("some images", "the network is slow", seconds=2)
    for pid in (2, 3):
        journal.died(ActorDeath("b", pid, "some images", "its node has died", node_lost=True), node="n1")
    assert watching.state.actors == {"a:1": 10.0}
    assert (watching.state.retries, watching.state.deaths) == (1, 2)
    summary = journal.summary()
    assert (summary.shards, summary.batches_halved, summary.nodes_lost, len(summary.deaths)) == (3, 3, 1, 2)
    assert summary.stats == ShardStats(images=30, failures=3, seconds=3, halvings=3)
    assert "some images failed (the network is slow); tried again in 2.0 s" in caplog.text
    assert "an embedding actor on b (process 2) died over some images (its node has died)" in caplog.text


def test_people_are_told_in_a_few_lines() -> None:
    summary = EmbeddingSummary(
        embedded=12_000,
        from_store=300,
        quarantined=tuple(FailedImage("far", f"/far/{i}\x1b[2J.png", "killed the embedding process") for i in range(7)),
        retries=1,
        deaths=(
            ActorDeath("gpu-7", 4711, "the images from x on", "exit"),
            ActorDeath("", 0, "loading the encoder", "exit"),
        ),
        nodes_lost=1,
        batches_halved=1,
        seconds=120,
        stats=ShardStats(images=12_007, failures=7, wait_seconds=5, model_seconds=30),
    )
    assert summary.lines() == [
        "embedded 12,000 images in 2 min 0 s, 100/s, limited by decoding; 300 were in the store",
        "2 embedding actors died and were replaced, with 1 machine lost",
        "  on gpu-7 (process 4711), over the images from x on: exit",
        "  while starting, over loading the encoder: exit",
        "1 piece of work done again",
        "batches halved 1 time, for want of memory",
        "7 images left out:",
        "  7: killed the embedding process (/far/0\\x1b[2J.png, ...)",
    ]
    assert summary.model_rate == 400
    told = json.loads(json.dumps(summary.as_dict(), allow_nan=False))
    assert told["stages"] == {"decode_seconds": 0, "wait_seconds": 5, "model_seconds": 30}
    assert told["quarantined"][0]["reason"] == "killed the embedding process"
    assert EmbeddingSummary().lines() == []
    assert not EmbeddingSummary(from_store=3).is_worth_telling
    assert EmbeddingSummary(stats=ShardStats(model_seconds=1)).limit == "model"


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.04, "0.0 s"), (59.4, "59.4 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")]
)
def test_durations_are_told_as_people_say_them(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_the_documentation_names_every_metric_and_every_key() -> None:
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    names = {*COUNTERS, *GAUGES, *EmbeddingSummary().as_dict(), *MODES}
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_ray_is_told_what_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, float] = {}

    class Metric:
        def __init__(self, name: str, description: str) -> None:
            self.name = name

        def inc(self, by: float) -> None:
            told[self.name] = told.get(self.name, 0) + by

        def set(self, value: float) -> None:
            told[self.name] = value

    monkeypatch.setattr("ray.util.metrics.Counter", Metric)
    monkeypatch.setattr("ray.util.metrics.Gauge", Metric)
    now = [0.0]
    journal = Journal(clock=lambda: now[0])
    journal.connected()
    journal.start(20, "embedding images")
    journal.actor_up("a:1")
    journal.actor_up("b:2")
    for _ in range(2):
        now[0] += 1
        journal.shard_done("a:1", ShardStats(images=10, failures=1, seconds=1))
    assert told["immuno_images_per_second"] > 0
    for pid, node in ((2, "n1"), (3, "n1"), (4, "n2"), (5, "")):
        journal.died(ActorDeath("b", pid, "some images", "gone", node_lost=bool(node)), node=node)
    journal.closed()
    assert told == {
        "immuno_actors": 0,
        "immuno_images_per_second": 0,
        "immuno_shards_finished": 2,
        "immuno_images_embedded": 18,
        "immuno_images_quarantined": 2,
        "immuno_actor_deaths": 4,
        "immuno_nodes_lost": 2,
    }


def test_what_one_set_lacks_is_not_missing_in_the_next(folder: Path) -> None:
    journal, images = Journal(), image_set(folder)
    failed = [FailedImage("animals", str(folder / "cat/002.png"), "not an image")]
    journal.start(6, "embedding images")
    journal.advance(6, failed=1)
    journal.finished(images, failed, tried=6)
    journal.start(6, "embedding images")
    journal.advance(6)
    journal.finished(replace(images, name="others"), [], tried=6)
    assert journal.summary().embedded == 5 + 6

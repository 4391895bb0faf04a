"""What an embedding actor does, tried without Ray."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cluster import EncoderSpec
from cluster.actors.actor import ActorSettings, EmbeddingActor, plan_decode_threads
from cluster.encoder.encoder import Encoder, load_encoder
from cluster.encoder.spec import OtherEncoderError
from cluster.store.shards import read_shard
from cluster.store.store import EmbeddingStore
from immuno_core.config.run import ClusterConfig
from immuno_core.errors import ImmunoError, SetupError
from tests.cluster.tiny_models import image_set, shards_of, write_images


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(tmp_path / "store")


@pytest.fixture
def settings(tiny_encoder_dir: Path, store: EmbeddingStore) -> ActorSettings:
    return ActorSettings(
        spec=EncoderSpec(f"local-dir:{tiny_encoder_dir}"),
        batch_size=4,
        threads=torch.get_num_threads(),
        gpus=0.0,
        store=str(store.root),
        mark=str(store.leave_mark()),
    )


def test_an_actor_stores_what_the_driver_can_see_and_sends_the_rest(
    settings: ActorSettings, store: EmbeddingStore, tmp_path: Path
) -> None:
    actor, stranger = EmbeddingActor(settings), EmbeddingActor(replace(settings, mark="/no/such/mark"))
    encoder = actor.info()
    (shard,) = shards_of(image_set(write_images(tmp_path / "images", {"cat": 3})), encoder, 4)
    sent = stranger.embed_shard(shard, encoder)
    assert read_shard(store, encoder, shard) is None
    receipt = actor.embed_shard(shard, encoder)
    assert (receipt.key, receipt.embedded) == (shard.key, None)
    assert (receipt.stats.images, receipt.stats.failures) == (3, 0)
    assert receipt.stats.seconds > 0
    stored = read_shard(store, encoder, shard)
    assert stored is not None
    assert sent.embedded is not None
    np.testing.assert_array_equal(sent.embedded.features, stored.features)


@pytest.mark.parametrize(
    ("gpus", "device", "share"), [(0.0, "cpu", 1.0), (0.25, "auto", 0.25), (1.0, "auto", 1.0), (2.0, "auto", 1.0)]
)
def test_an_actor_takes_the_part_of_a_gpu_that_it_was_given(
    settings: ActorSettings, monkeypatch: pytest.MonkeyPatch, gpus: float, device: str, share: float
) -> None:
    asked = []

    def load(spec: EncoderSpec, *, gpu_share: float, **_: object) -> Encoder:
        asked.append((spec.device, gpu_share))
        return load_encoder(replace(spec, device="cpu"), batch_size=1)

    monkeypatch.setattr("cluster.encoder.encoder.load_encoder", load)
    EmbeddingActor(replace(settings, gpus=gpus)).info()
    assert asked == [(device, share)]


def test_shards_in_flight_at_a_time_give_the_rows_of_one_after_the_other(
    settings: ActorSettings, tmp_path: Path
) -> None:
    """Bit for bit: a batch never reaches beyond its shard, so it holds the same images whatever runs beside it."""
    folder = write_images(tmp_path / "images", {"cat": 30, "dog": 30})
    for name in ("cat/003.png", "dog/020.png"):
        (folder / name).write_text("no image")
    far = replace(settings, mark="/no/such/mark", decode_threads=3)
    busy, calm = EmbeddingActor(far), EmbeddingActor(far)
    encoder = calm.info()
    shards = shards_of(image_set(folder), encoder, 7)
    with ThreadPoolExecutor(3) as calls:
        side_by_side = list(calls.map(lambda shard: busy.embed_shard(shard, encoder), [*shards, *reversed(shards)]))
    for shard, *receipts in zip(shards, side_by_side, reversed(side_by_side), strict=False):
        expected = calm.embed_shard(shard, encoder)
        for receipt in receipts:
            assert receipt.key == expected.key
            assert receipt.embedded is not None
            assert expected.embedded is not None
            np.testing.assert_array_equal(receipt.embedded.features, expected.embedded.features)
            assert receipt.embedded.failures == expected.embedded.failures


def test_a_receipt_says_what_the_shard_took(settings: ActorSettings, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", {"cat": 9})
    (folder / "cat" / "003.png").write_text("no image")
    actor = EmbeddingActor(settings)
    (shard,) = shards_of(image_set(folder), actor.info(), 16)
    stats = actor.embed_shard(shard, actor.info()).stats
    assert (stats.images, stats.failures, stats.halvings) == (9, 1, 0)
    assert 0 < stats.model_seconds < stats.seconds
    assert 0 < stats.wait_seconds < stats.seconds
    assert stats.decode_seconds > 0


def test_some_files_of_a_shard_are_embedded_without_storing_them(
    settings: ActorSettings, store: EmbeddingStore, tmp_path: Path
) -> None:
    actor = EmbeddingActor(settings)
    paths = sorted(map(str, write_images(tmp_path / "images", {"cat": 3}).glob("cat/*")))
    assert len(actor.embed_paths(paths[1:], actor.info()).features) == 2
    assert not list(store.root.glob("*/images"))
    with pytest.raises(OtherEncoderError):
        actor.embed_paths(paths, replace(actor.info(), weights_digest="of yesterday"))


def test_an_actor_whose_gpu_failed_ends_itself(
    settings: ActorSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    actor = EmbeddingActor(settings)
    (shard,) = shards_of(image_set(write_images(tmp_path / "images", {"cat": 3})), actor.info(), 4)
    failure: Exception = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    def fail(images: torch.Tensor) -> torch.Tensor:
        raise failure

    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(actor._loaded(), "_encode_image", fail)
    monkeypatch.setattr("os._exit", leave)
    with pytest.raises(SystemExit, match="1"):
        actor.embed_shard(shard, actor.info())
    assert "the GPU failed under process" in caplog.text
    failure = RuntimeError("any other")
    with pytest.raises(ImmunoError, match="the model fails on every image"):
        actor.embed_shard(shard, actor.info())


@pytest.mark.parametrize(
    ("decode_threads", "num_gpus", "nodes", "threads"),
    [
        (None, 0, [{"CPU": 16.0}], 1),
        (None, 1, [{"CPU": 32.0, "GPU": 4.0}], 8),
        (None, 0.5, [{"CPU": 32.0, "GPU": 4.0}], 4),
        (None, 1, [{"CPU": 64.0}, {"CPU": 32.0, "GPU": 4.0}, {"CPU": 96.0, "GPU": 8.0}], 8),
        (None, 1, [{"CPU": 2.0, "GPU": 4.0}], 1),
        (5, 1, [{"CPU": 32.0, "GPU": 4.0}], 5),
    ],
)
def test_a_gpu_gets_its_share_of_the_cores_to_decode_for_it(
    decode_threads: int | None, num_gpus: float, nodes: list[dict[str, float]], threads: int
) -> None:
    assert plan_decode_threads(ClusterConfig(decode_threads=decode_threads), num_gpus, nodes) == threads


def test_images_that_only_the_driver_sees_are_said_to_be_invisible(settings: ActorSettings, tmp_path: Path) -> None:
    actor = EmbeddingActor(settings)
    images = image_set(write_images(tmp_path / "images", {"cat": 3}))
    (shard,) = shards_of(images, actor.info(), 4)
    for sample in images.samples:
        Path(sample.path).unlink()
    with pytest.raises(
        SetupError, match=r"the images are not visible on .*000\.png.*all machines of the cluster share"
    ):
        actor.embed_shard(shard, actor.info())
    (missing,) = shards_of(images, actor.info(), 4)  # now the driver does not see them either
    assert actor.embed_shard(missing, actor.info()).embedded is None


def test_an_actor_with_other_weights_refuses_to_work(settings: ActorSettings) -> None:
    actor = EmbeddingActor(settings)
    with pytest.raises(OtherEncoderError, match="give every machine of the cluster the same files"):
        actor.embed_texts(["a cat"], replace(actor.info(), weights_digest="of yesterday"))


def test_an_actor_without_a_gpu_leaves_the_gpus_of_others_alone(
    settings: ActorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert EmbeddingActor(settings).embed_texts(["a cat"], EmbeddingActor(settings).info()).features.shape == (1, 16)

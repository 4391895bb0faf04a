"""What an embedding actor does, tried without Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cluster import EncoderSpec
from cluster.actor import ActorSettings, EmbeddingActor
from cluster.shards import cut_shards, read_shard
from cluster.spec import OtherEncoderError
from cluster.store import EmbeddingStore
from immuno.errors import SetupError

from .tiny_models import image_set, write_images


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(tmp_path / "store")


@pytest.fixture
def settings(tiny_encoder_dir: Path, store: EmbeddingStore) -> ActorSettings:
    return ActorSettings(
        spec=EncoderSpec(f"local-dir:{tiny_encoder_dir}"),
        batch_size=4,
        threads=torch.get_num_threads(),
        use_gpu=False,
        store=str(store.root),
        mark=str(store.leave_mark()),
    )


def test_an_actor_stores_what_the_driver_can_see_and_sends_the_rest(
    settings: ActorSettings, store: EmbeddingStore, tmp_path: Path
) -> None:
    actor, stranger = EmbeddingActor(settings), EmbeddingActor(replace(settings, mark="/no/such/mark"))
    encoder = actor.info()
    (shard,) = cut_shards(image_set(write_images(tmp_path / "images", {"cat": 3})), encoder, 4)
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


def test_images_that_only_the_driver_sees_are_said_to_be_invisible(settings: ActorSettings, tmp_path: Path) -> None:
    actor = EmbeddingActor(settings)
    images = image_set(write_images(tmp_path / "images", {"cat": 3}))
    (shard,) = cut_shards(images, actor.info(), 4)
    for sample in images.samples:
        Path(sample.path).unlink()
    with pytest.raises(
        SetupError, match=r"the images are not visible on .*000\.png.*all machines of the cluster share"
    ):
        actor.embed_shard(shard, actor.info())
    (missing,) = cut_shards(images, actor.info(), 4)  # now the driver does not see them either
    assert actor.embed_shard(missing, actor.info()).embedded is None


def test_an_actor_with_other_weights_refuses_to_work(settings: ActorSettings) -> None:
    actor = EmbeddingActor(settings)
    with pytest.raises(OtherEncoderError, match="give every machine of the cluster the same files"):
        actor.embed_texts(["a cat"], replace(actor.info(), weights_digest="of yesterday"))


def test_an_actor_without_a_gpu_leaves_the_gpus_of_others_alone(
    settings: ActorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert EmbeddingActor(settings).embed_texts(["a cat"], EmbeddingActor(settings).info()).shape == (1, 16)

"""Images within tars are embedded where they lie, with the same result as the files that they were made of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cluster import EncoderSpec, LocalEmbedder, make_embedder
from cluster.actors.actor import ActorSettings, EmbeddingActor
from cluster.store.store import EmbeddingStore
from evaluation.data.sources import read_images
from immuno_core.config.run import ClusterConfig, EncoderConfig, SourceConfig
from immuno_core.errors import SetupError
from immuno_core.features import LocalRequest
from immuno_core.records import ImageSet
from tests.cluster.tiny_models import shards_of
from tests.evaluation.data.archives import directions, write_tar


@pytest.fixture
def spec(tiny_encoder_dir: Path) -> EncoderSpec:
    return EncoderSpec(f"local-dir:{tiny_encoder_dir}")


@pytest.fixture
def folder(tmp_path: Path, tiny_images: Callable[..., Path]) -> Path:
    return tiny_images(tmp_path / "images", {"cat": 5, "dog": 4})


def pack(folder: Path, tar: Path, replaced: dict[str, bytes] | None = None) -> Path:
    """Put the images of a folder of class folders into a tar, some of them with another content."""
    files = sorted(path for path in folder.rglob("*.png"))
    members = [(path.relative_to(folder).as_posix(), path.read_bytes()) for path in files]
    return write_tar(tar, [(name, (replaced or {}).get(name, content)) for name, content in members])


def listed(path: Path) -> ImageSet:
    return read_images(SourceConfig(path=path), name="animals", role="id", split="fit", seed=0)


def test_members_are_embedded_like_files(spec: EncoderSpec, folder: Path, tmp_path: Path) -> None:
    packed = listed(pack(folder, tmp_path / "x.tar"))
    embedder = LocalEmbedder(spec, shard_size=4)
    from_tar, from_files = embedder.embed_images(packed), embedder.embed_images(listed(folder))
    np.testing.assert_array_equal(from_tar.features, from_files.features)
    assert from_tar.label_names == from_files.label_names
    assert from_tar.ids == tuple(f"x.tar/{one}" for one in from_files.ids)


def test_a_damaged_member_is_skipped_and_named(spec: EncoderSpec, folder: Path, tmp_path: Path) -> None:
    whole = (folder / "cat" / "002.png").read_bytes()
    damaged = {"cat/001.png": b"no image", "cat/002.png": whole[: len(whole) // 2], "dog/000.png": b""}
    found = LocalEmbedder(spec, shard_size=4).embed_images(listed(pack(folder, tmp_path / "x.tar", damaged)))
    assert len(found) == 6
    assert [(one.path.split("::")[1].split("@")[0], one.reason) for one in found.skipped if "002" not in one.path] == [
        ("cat/001.png", "not an image"),
        ("dog/000.png", "the file is empty"),
    ]
    assert "truncated" in next(one.reason for one in found.skipped if "002" in one.path)


def test_a_tar_that_lost_its_end_after_it_was_listed_costs_its_last_images_only(
    spec: EncoderSpec, folder: Path, tmp_path: Path
) -> None:
    tar = pack(folder, tmp_path / "x.tar")
    images = listed(tar)
    tar.write_bytes(tar.read_bytes()[: int(images.samples[7].path.rpartition("@")[2].partition("+")[0]) + 10])
    found = LocalEmbedder(spec, shard_size=4).embed_images(images)
    assert len(found) == 7
    assert {one.reason for one in found.skipped} == {"the tar ends within this member"}


def test_a_tar_that_changes_takes_its_shards_out_of_the_store(spec: EncoderSpec, folder: Path, tmp_path: Path) -> None:
    encoder = LocalEmbedder(spec).encoder
    first, second = pack(folder, tmp_path / "0.tar"), pack(folder, tmp_path / "1.tar")
    images = listed(tmp_path / "{0..1}.tar")
    before = [shard.key for shard in shards_of(images, encoder, 9)]
    assert [shard.key for shard in shards_of(images, encoder, 9)] == before
    os.utime(second, ns=(1, 1))
    after = [shard.key for shard in shards_of(images, encoder, 9)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False]
    first.unlink()
    assert shards_of(images, encoder, 9)[0].absent == set(range(9))


def test_a_tar_that_an_actor_does_not_see_is_said_to_be_invisible(
    tiny_encoder_dir: Path, folder: Path, tmp_path: Path
) -> None:
    store = EmbeddingStore(tmp_path / "store")
    actor = EmbeddingActor(
        ActorSettings(
            spec=EncoderSpec(f"local-dir:{tiny_encoder_dir}"),
            batch_size=4,
            threads=torch.get_num_threads(),
            gpus=0.0,
            store=str(store.root),
            mark=str(store.leave_mark()),
        )
    )
    tar = pack(folder, tmp_path / "x.tar")
    (shard,) = shards_of(listed(tar), actor.info(), 9)
    assert actor.embed_shard(shard, actor.info()).embedded is None
    tar.unlink()
    with pytest.raises(SetupError, match="the images are not visible on"):
        actor.embed_shard(shard, actor.info())


# ---- embeddings made elsewhere, beside an encoder that runs a model


def test_feature_files_are_served_without_asking_the_model_for_images(spec: EncoderSpec, tmp_path: Path) -> None:
    rows = directions(6, dim=16)
    np.savez(tmp_path / "x.npz", features=rows)
    source = SourceConfig(features=tmp_path / "x.npz")
    images = read_images(source, name="near", role="outlier", split="feedback", seed=0)
    embedder = LocalEmbedder(spec)
    found = embedder.embed_images(images)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(found.features, unit, atol=1e-6)
    with pytest.raises(SetupError, match="set 'near' comes as embeddings, without the images"):
        embedder.local_matching(found, LocalRequest(embedder.embed_texts(["a cat"]), 1.0))
    np.savez(tmp_path / "x.npz", features=directions(6, dim=8))
    with pytest.raises(SetupError, match="vectors of 8 dimensions, the encoder's have 16"):
        embedder.embed_images(images)


def test_the_factory_makes_an_embedder_through_ray_for_a_model(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    config = EncoderConfig(model=f"local-dir:{tiny_encoder_dir}")
    with make_embedder(config, ClusterConfig(store=tmp_path / "store")) as embedder:
        assert type(embedder).__name__ == "RayEmbedder"

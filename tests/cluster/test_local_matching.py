"""What GL-MCM asks of patches is answered once per image and request, stored, and lines up with the embedded set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from cluster import EncoderSpec, LocalEmbedder, RayEmbedder
from cluster.actors.actor import ActorSettings, EmbeddingActor
from cluster.encoder.encoder import Encoder, load_encoder
from cluster.encoder.patches import patch_tower
from cluster.encoder.spec import OtherEncoderError
from cluster.store.shards import cut
from evaluation.data.feature_files import list_feature_file
from evaluation.scores.registry import make_score
from evaluation.space import Bank, Space
from immuno_core.config.run import ClusterConfig, EncoderConfig
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, LocalRequest
from immuno_core.records import ImageSet

from .tiny_models import image_set, write_images

CLASSES = ["a cat", "a dog", "a cow"]


@pytest.fixture
def spec(tiny_encoder_dir: Path) -> EncoderSpec:
    return EncoderSpec(f"local-dir:{tiny_encoder_dir}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", {"cat": 5, "dog": 5})


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose patches were looked at, in order."""
    paths: list[str] = []
    really = Encoder.match_patches

    def counted(encoder: Encoder, files: Sequence[str], request: LocalRequest) -> NDArray[np.float64]:
        paths.extend(files)
        return really(encoder, files, request)

    monkeypatch.setattr(Encoder, "match_patches", counted)
    return paths


def request_of(embedder: LocalEmbedder | RayEmbedder, temperature: float = 1.0) -> LocalRequest:
    return LocalRequest(embedder.embed_texts(CLASSES), temperature)


def worked_out(spec: EncoderSpec, images: FeatureSet, request: LocalRequest) -> list[float]:
    """Image by image, in float64 from the patches on."""
    encoder, answers = load_encoder(replace(spec, device="cpu")), []
    preprocess = open_clip.create_model_and_transforms(spec.model)[2]
    tower = patch_tower(encoder._model.visual, label="tiny")
    for path in images.paths:
        with Image.open(path) as image, torch.inference_mode():
            patches = tower(preprocess(image)[None]).double().numpy()[0]
        powers = np.exp(patches @ request.texts.astype(np.float64).T / request.temperature)
        answers.append(float((powers / powers.sum(axis=1, keepdims=True)).max()))
    return answers


def test_answers_are_in_the_order_of_the_set_whatever_the_shards(spec: EncoderSpec, folder: Path) -> None:
    (folder / "cat" / "003.png").write_text("no image")
    embedder = LocalEmbedder(spec, shard_size=4, batch_size=3)
    images, request = embedder.embed_images(image_set(folder)), request_of(embedder, 0.05)
    found = embedder.local_matching(images, request)
    assert found.shape == (len(images),) == (9,)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, worked_out(spec, images, request), atol=1e-5)
    np.testing.assert_allclose(found, LocalEmbedder(spec, shard_size=1).local_matching(images, request), atol=1e-6)
    some = images.take(np.array([7, 0, 3]))
    np.testing.assert_allclose(embedder.local_matching(some, request), found[[7, 0, 3]], atol=1e-6)
    assert embedder.local_matching(images.take(np.array([], dtype=np.int64)), request).shape == (0,)


def test_a_second_run_looks_at_nothing_and_another_request_at_everything(
    spec: EncoderSpec, folder: Path, tmp_path: Path, read: list[str]
) -> None:
    first = LocalEmbedder(spec, tmp_path / "store", shard_size=4)
    images, request = first.embed_images(image_set(folder)), request_of(first)
    found = first.local_matching(images, request)
    assert read == list(images.paths)
    read.clear()
    again = LocalEmbedder(spec, tmp_path / "store", shard_size=4).local_matching(images, request)
    np.testing.assert_array_equal(again, found)
    assert read == []
    colder = first.local_matching(images, request_of(first, 0.5))
    assert np.abs(colder - found).min() > 1e-4
    assert read == list(images.paths)


def test_only_what_was_lost_or_changed_is_looked_at_again(
    spec: EncoderSpec, folder: Path, tmp_path: Path, read: list[str]
) -> None:
    embedder = LocalEmbedder(spec, tmp_path / "store", shard_size=4)
    images, request = embedder.embed_images(image_set(folder)), request_of(embedder)
    found = embedder.local_matching(images, request)
    stored = sorted((tmp_path / "store").glob("*/local/*/*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    assert len(stored) == 3
    read.clear()
    stored[0].write_bytes(stored[0].read_bytes()[:-3])
    whole = stored[1].read_bytes()
    stored[1].write_bytes(whole[:-32] + bytes(32))  # the numbers of four images, lost in a crash
    np.testing.assert_array_equal(embedder.local_matching(images, request), found)
    assert read == list(images.paths[:8])
    read.clear()
    write_images(folder / "new", {"dog": 1}, seed=9)
    (folder / "new" / "dog" / "000.png").rename(images.paths[9])
    changed = embedder.local_matching(images, request)
    assert read == list(images.paths[8:])
    assert changed[:9].tolist() == found[:9].tolist()
    assert changed[9] != found[9]


def test_a_run_that_was_interrupted_resumes_where_it_was(
    spec: EncoderSpec, folder: Path, tmp_path: Path, read: list[str]
) -> None:
    class StopAfterTwo:
        done = 0

        def start(self, total: int, description: str) -> None:
            assert (total, description) == (10, "matching patches of animals")

        def advance(self, count: int) -> None:
            self.done += 1
            if self.done == 2:
                raise KeyboardInterrupt

        def stop(self) -> None:
            self.done = -1

    embedder = LocalEmbedder(spec, tmp_path / "store", shard_size=2)
    images, request, progress = embedder.embed_images(image_set(folder)), request_of(embedder), StopAfterTwo()
    with pytest.raises(KeyboardInterrupt):
        LocalEmbedder(spec, tmp_path / "store", shard_size=2, progress=progress).local_matching(images, request)
    assert progress.done == -1
    assert read == list(images.paths[:4])
    read.clear()
    embedder.local_matching(images, request)
    assert read == list(images.paths[4:])


def test_an_image_that_has_gone_since_is_named(spec: EncoderSpec, folder: Path) -> None:
    embedder = LocalEmbedder(spec)
    images = embedder.embed_images(image_set(folder))
    Path(images.paths[6]).unlink()
    with pytest.raises(
        SetupError, match=r"dog/001.png cannot be read on .* \(No such file or directory\); put it back"
    ):
        embedder.local_matching(images, request_of(embedder))


def test_texts_of_another_encoder_are_refused(spec: EncoderSpec, folder: Path) -> None:
    embedder = LocalEmbedder(spec)
    images = embedder.embed_images(image_set(folder))
    with pytest.raises(SetupError, match="vectors of 3 dimensions"):
        embedder.local_matching(images, LocalRequest(np.eye(3, dtype=np.float32), 1.0))


def test_a_set_of_features_has_no_patches(spec: EncoderSpec, tmp_path: Path) -> None:
    embedder = LocalEmbedder(spec)
    np.savez(tmp_path / "x.npz", features=embedder.embed_texts(["a", "b"]))
    images = embedder.embed_images(ImageSet("x", "fit", "id", list_feature_file(tmp_path / "x.npz"), digest="unused"))
    with pytest.raises(SetupError, match=r"set 'x' comes as embeddings, .*; leave gl_mcm out, or give the images"):
        embedder.local_matching(images, request_of(embedder))


def test_an_actor_stores_what_the_driver_can_see_and_sends_the_rest(
    spec: EncoderSpec, folder: Path, tmp_path: Path
) -> None:
    embedder = LocalEmbedder(spec, tmp_path / "store")
    images, request = embedder.embed_images(image_set(folder)), request_of(embedder)
    settings = ActorSettings(
        spec=spec,
        batch_size=4,
        threads=torch.get_num_threads(),
        gpus=0.0,
        store=str(tmp_path / "store"),
        mark=str(embedder.store.leave_mark()),
    )
    (shard,) = cut(images.paths, embedder.encoder, 256).shards
    sent = EmbeddingActor(replace(settings, mark="/no/such/mark")).match_patches(shard, embedder.encoder, request)
    assert sent is not None
    assert not list((tmp_path / "store").glob("*/local"))
    assert EmbeddingActor(settings).match_patches(shard, embedder.encoder, request) is None
    np.testing.assert_array_equal(embedder.local_matching(images, request), sent)
    with pytest.raises(OtherEncoderError):
        EmbeddingActor(settings).match_patches(shard, replace(embedder.encoder, weights_digest="other"), request)


@pytest.fixture(scope="module")
def distributed(
    ray_cluster: str, tiny_encoder_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RayEmbedder]:
    encoder = EncoderConfig(model=f"local-dir:{tiny_encoder_dir}", batch_size=4)
    store = tmp_path_factory.mktemp("ray") / "store"
    with RayEmbedder(encoder, ClusterConfig(actors=2, num_cpus=0.25, shard_size=4, store=store)) as embedder:
        yield embedder


@pytest.fixture
def many(tmp_path: Path) -> ImageSet:
    folder = write_images(tmp_path / "many", {"cat": 15, "dog": 15}, seed=3)
    (folder / "cat" / "004.png").write_text("no image")
    return image_set(folder)


@pytest.mark.long
@pytest.mark.ray
def test_gl_mcm_from_files_through_ray_actors_to_scores(
    distributed: RayEmbedder, spec: EncoderSpec, many: ImageSet
) -> None:
    images, texts = distributed.embed_images(many), distributed.embed_texts(CLASSES)
    space = Space(tuple(CLASSES), texts, distributed.encoder.logit_scale, None, None, Bank.empty(16))
    score = make_score("gl_mcm", temperature=0.05, lambda_local=0.5)
    request = score.local_request(space)
    assert request is not None
    local = distributed.local_matching(images, request)
    expected = np.array(worked_out(spec, images, request))
    np.testing.assert_allclose(local, expected, atol=1e-5)
    found = score.fit(space).score_set(replace(images, local={request.key: local}))
    mcm = make_score("mcm", temperature=0.05).fit(space).score(images.features)
    np.testing.assert_allclose(found, mcm + 0.5 * expected, atol=1e-5)


@pytest.mark.ray
def test_answers_from_actors_are_stored_and_errors_say_what_is_wrong(distributed: RayEmbedder, many: ImageSet) -> None:
    images, request = distributed.embed_images(many), request_of(distributed, 0.2)
    found = distributed.local_matching(images, request)
    here = LocalEmbedder(distributed.spec, distributed.store.root, shard_size=4)
    np.testing.assert_array_equal(here.local_matching(images, request), found)
    (mark,) = distributed.store.root.glob(".driver-*")
    mark.unlink()  # as if the actors were on a machine that does not share this folder
    try:
        warmer = distributed.local_matching(images, request_of(distributed, 0.3))
        assert warmer.shape == (29,)
        np.testing.assert_array_equal(here.local_matching(images, request_of(distributed, 0.3)), warmer)
    finally:
        mark.touch()
    Path(images.paths[20]).unlink()
    with pytest.raises(SetupError, match=r"cannot be read on .*; put it back, or leave gl_mcm out"):
        distributed.local_matching(images, request)

"""A store behind a URL: a real S3 server (moto), and fsspec's memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from cluster import EncoderSpec, LocalEmbedder, RayEmbedder
from cluster.actors.actor import ActorSettings, EmbeddingActor
from cluster.encoder.spec import fingerprint
from cluster.store.files import Files, RemoteFiles, open_files
from cluster.store.shards import cut, read_shard
from cluster.store.store import EmbeddingStore
from cluster.store.texts import TextCache
from cluster.store.upkeep import check_store, needed, waste
from immuno_core.config.run import ClusterConfig, EncoderConfig
from immuno_core.errors import SetupError
from tests.cluster.tiny_models import image_set, shards_of, write_images


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server of this test's own."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The URL of an empty place in a bucket, with credentials where users have them; copies go to a fresh cache."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "AKIATESTKEY",
        "AWS_SECRET_ACCESS_KEY": "hidden-value",
        "AWS_DEFAULT_REGION": "us-east-1",
        "IMMUNO_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket=(name := f"bucket-{abs(hash(str(tmp_path))):x}"))
    return f"s3://{name}/some/store"


@pytest.fixture
def spec(tiny_encoder_dir: Path) -> EncoderSpec:
    return EncoderSpec(f"local-dir:{tiny_encoder_dir}")


@pytest.fixture(params=["s3", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteFiles:
    if request.param == "s3":
        return RemoteFiles(request.getfixturevalue("bucket"))
    monkeypatch.setenv("IMMUNO_CACHE", str(tmp_path / "cache"))
    return RemoteFiles(f"memory://{tmp_path}")


def test_files_appear_are_listed_and_go(files: RemoteFiles) -> None:
    assert files.read("a/b.json") is None
    assert files.fetch("a/b.json") is None
    assert list(files.entries()) == []
    files.write("a/b.json", b"one")
    files.write("a/c/d", b"")
    files.write("e", b"three")
    assert [(entry.name, entry.size) for entry in files.entries()] == [("a/b.json", 3), ("a/c/d", 0), ("e", 5)]
    assert [entry.name for entry in files.entries("a/c")] == ["a/c/d"]
    assert all(entry.modified > 1e9 for entry in files.entries())
    assert files.read("a/b.json") == b"one"
    copy = files.fetch("a/b.json")
    assert copy is not None
    assert copy.read_bytes() == b"one"
    files.write("a/b.json", b"two")  # drops the copy
    assert (files.fetch("a/b.json") or copy).read_bytes() == b"two"
    files.delete("a/b.json")
    files.delete("a/b.json")
    assert (files.read("a/b.json"), files.fetch("a/b.json")) == (None, None)


def test_a_copy_is_good_as_long_as_it_is_what_is_there(
    files: RemoteFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine writes, and deletes: nothing of it touches this one's copies."""
    monkeypatch.setenv("IMMUNO_CACHE", str(tmp_path / "cache of another machine"))
    other = RemoteFiles(files.place)
    for name in ("a/1", "a/2", "a/3"):
        other.write(name, b"old")
    assert set(files.available("a", ["a/1", "a/2", "a/4"])) == {"a/1", "a/2"}
    other.write("a/1", b"new")
    other.delete("a/2")
    other.write("a/4", b"old")
    assert set(files.available("a", ["a/1", "a/2", "a/4"])) == {"a/1", "a/4"}
    assert [(files.fetch(f"a/{i}") or tmp_path / "none").name for i in (1, 2, 3)] == ["1", "none", "3"]
    assert (files.folder / "a/1").read_bytes() == b"new"
    assert not (files.folder / "a/2").exists()
    other.write("a/1", b"now")  # after it was looked at
    assert (files.fetch("a/1") or tmp_path).read_bytes() == b"now"
    reads = []
    monkeypatch.setattr(RemoteFiles, "read", lambda _, name: reads.append(name))
    assert set(files.available("a", ["a/1", "a/4"])) == {"a/1", "a/4"}
    assert files.fetch("a/1")
    assert files.fetch("a/1")
    assert reads == []


def test_what_another_machine_embeds_again_is_seen(
    bucket: str, spec: EncoderSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard with a file that was refused in passing is written again under its own name."""
    images = image_set(write_images(tmp_path / "images", {"cat": 3}))
    here = LocalEmbedder(spec, bucket)
    features = here.embed_images(images).features
    (name,) = (entry.name for entry in here.store.files.entries() if "/images/" in entry.name)
    assert here.fill(images).embedded == 0
    whole = here.store.files.read(name) or b""
    monkeypatch.setenv("IMMUNO_CACHE", str(tmp_path / "cache of another machine"))
    EmbeddingStore(bucket).files.write(name, whole[:-1])
    (shard,) = shards_of(images, here.encoder, 256)
    assert read_shard(here.store, here.encoder, shard) is None
    EmbeddingStore(bucket).files.write(name, whole)
    stored = read_shard(here.store, here.encoder, shard)
    assert stored is not None
    np.testing.assert_array_equal(stored.features, features)
    EmbeddingStore(bucket).files.delete(name)
    assert here.fill(images).embedded == 3


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("cluster")]


def test_a_second_machine_downloads_and_embeds_nothing(
    bucket: str, spec: EncoderSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_images(tmp_path / "images", {"cat": 6, "dog": 5})
    (folder / "cat" / "001.png").write_text("no image")
    images = image_set(folder)
    first = LocalEmbedder(spec, bucket, shard_size=4)
    features, texts = first.embed_images(images), first.embed_texts(["a cat", "a dog"])

    monkeypatch.setenv("IMMUNO_CACHE", str(tmp_path / "cache of another machine"))
    monkeypatch.setattr(EmbeddingActor, "_loaded", lambda *_: pytest.fail("a model was loaded"))
    second = LocalEmbedder(spec, bucket, shard_size=4)
    again = second.embed_images(images)
    np.testing.assert_array_equal(again.features, features.features)
    assert (again.ids, again.skipped) == (features.ids, features.skipped)
    np.testing.assert_array_equal(second.embed_texts(["a cat", "a dog"]), texts)
    assert second.fill(images).embedded == 0
    found = check_store(second.store)
    assert (found.files, found.problems) == (3 + 1 + 1 + 1 + 1, ())
    assert {one.why for one in waste(second.store, None)} == {"local copy"}
    pieces = cut([sample.path for sample in images.samples], second.encoder, 4)
    assert list(waste(second.store, needed(second.store, second.encoder, fingerprint(spec), [(pieces, 4)]))) == []


def test_a_damaged_copy_is_downloaded_again_and_a_damaged_object_embedded_again(
    bucket: str, spec: EncoderSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = image_set(write_images(tmp_path / "images", {"cat": 8}))
    before = LocalEmbedder(spec, bucket, shard_size=4).embed_images(images)
    embedder = LocalEmbedder(spec, bucket, shard_size=4)
    embedder.embed_images(images)
    copies = sorted(embedder.store.root.glob("*/images/*/*"))
    assert len(copies) == 2
    copies[0].write_bytes(copies[0].read_bytes()[:-1])
    assert embedder.fill(images).embedded == 0
    assert not ours(caplog)
    name = copies[1].relative_to(embedder.store.root).as_posix()
    content = embedder.store.files.read(name) or b""
    embedder.store.files.write(name, content[:-1])
    assert [problem.name for problem in check_store(embedder.store).problems] == [name]
    after = LocalEmbedder(spec, bucket, shard_size=4).embed_images(images)
    np.testing.assert_array_equal(after.features, before.features)
    assert [message.split(" (")[0] for message in ours(caplog)] == [f"damaged in the embedding store: {bucket}/{name}"]
    assert check_store(embedder.store).problems == ()


def test_an_actor_writes_to_the_bucket_by_itself(bucket: str, spec: EncoderSpec, tmp_path: Path) -> None:
    store = EmbeddingStore(bucket, dtype="float16")
    mark = store.leave_mark()
    actor = EmbeddingActor(
        ActorSettings(
            spec=spec, batch_size=4, threads=1, gpus=0.0, store=store.place, mark=mark, store_dtype=store.dtype
        )
    )
    (shard,) = shards_of(image_set(write_images(tmp_path / "images", {"cat": 3})), actor.info(), 4)
    assert actor.embed_shard(shard, actor.info()).embedded is None
    stored = read_shard(store, actor.info(), shard)
    assert stored is not None
    assert stored.features.shape == (3, 16)
    store.remove_mark(mark)
    assert [entry.name.split("/")[1] for entry in store.files.entries()] == ["images-float16", "probes"]


def test_texts_are_shared_through_the_bucket(bucket: str, spec: EncoderSpec) -> None:
    embedder = LocalEmbedder(spec, bucket)
    for i in range(3):
        embedder.embed_texts([f"text {i}"])
    assert TextCache(EmbeddingStore(bucket), embedder.encoder).missing(["text 1", "other", "text 2"]) == ["other"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://no-such-bucket/store", r"the embedding store s3://no-such-bucket/store: .*see that the bucket exists"),
        ("s3://key:secret@bucket/store", "give the bare URL"),
        ("s3://bucket/store?key=secret", "give the bare URL"),
        ("nfs4://host/store", "the embedding store nfs4://host/store: Protocol not known: nfs4"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_secrets(bucket: str, url: str, message: str) -> None:
    with pytest.raises(SetupError, match=message) as raised:
        EmbeddingStore(url).files.write("x", b"")
    assert "secret" not in str(raised.value)
    assert "hidden-value" not in str(raised.value)


def test_a_missing_driver_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(SetupError, match=r's3://bucket/x needs another package: pip install "immuno-vlm\[s3\]"'):
        EmbeddingStore("s3://bucket/x").read_encoder("ab")


def test_memory_is_refused_where_actors_would_not_see_it(spec: EncoderSpec) -> None:
    with pytest.raises(SetupError, match="within one process, and the actors are others"):
        RayEmbedder(EncoderConfig(model=spec.model), ClusterConfig(store="memory://x"))


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    files = open_files(f"file://{tmp_path}/store")
    assert type(files) is Files
    assert files.folder == tmp_path / "store"

"""The store believes nothing half-written, and a shard's key changes with its own files only."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.records import EmbeddedImages
from cluster.store.shards import (
    Shard,
    cut,
    is_final,
    read_local,
    read_shard,
    shard_name,
    write_local,
    write_shard,
)
from cluster.store.store import EmbeddingStore, StoredArray, default_store_root
from cluster.store.texts import TextCache, texts_of
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray, LocalRequest
from immuno_core.records import EncoderInfo, FailedImage
from tests.cluster.tiny_models import image_set, shards_of, write_images

ENCODER = EncoderInfo(
    model="m",
    pretrained=None,
    dim=8,
    logit_scale=100.0,
    image_size=32,
    precision="fp32",
    weights_digest="w",
    preprocess_digest="p",
)


def unit_rows(count: int, seed: int = 0) -> FloatArray:
    rows = np.random.default_rng(seed).normal(size=(count, ENCODER.dim))
    unit: FloatArray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", {"cat": 7})


# --- shards


def test_shards_are_consecutive_and_of_one_size(folder: Path) -> None:
    images = image_set(folder)
    shards = shards_of(images, ENCODER, 3)
    assert [len(shard.paths) for shard in shards] == [3, 3, 1]
    assert [path for shard in shards for path in shard.paths] == [sample.path for sample in images.samples]
    assert shards_of(images, ENCODER, 3) == shards


def test_a_changed_file_changes_its_own_shard_only(folder: Path) -> None:
    images = image_set(folder)
    before = [shard.key for shard in shards_of(images, ENCODER, 3)]
    os.utime(folder / "cat" / "004.png", ns=(1, 1))
    touched = [shard.key for shard in shards_of(images, ENCODER, 3)]
    assert [old == new for old, new in zip(before, touched, strict=True)] == [True, False, True]
    (folder / "cat" / "000.png").unlink()
    removed = shards_of(images, ENCODER, 3)
    assert [old == new.key for old, new in zip(touched, removed, strict=True)] == [False, True, True]
    assert removed[0].absent == {0}


def test_another_encoder_has_other_keys(folder: Path) -> None:
    images = image_set(folder)
    other = replace(ENCODER, precision="fp16")
    assert not {s.key for s in shards_of(images, ENCODER, 3)} & {s.key for s in shards_of(images, other, 3)}


def test_files_of_one_name_size_and_time_in_two_folders_are_two_files(tmp_path: Path) -> None:
    keys = set()
    for name in ("a", "b"):
        path = tmp_path / name / "0.png"
        path.parent.mkdir()
        path.write_bytes(name.encode())
        os.utime(path, ns=(0, 0))
        keys.add(shards_of(image_set(tmp_path / name), ENCODER, 3)[0].key)
    assert len(keys) == 2


def failed(shard: Shard, reasons: dict[int, str]) -> dict[int, FailedImage]:
    return {row: FailedImage("", shard.paths[row], reason) for row, reason in reasons.items()}


def test_a_shard_comes_back_as_it_was_written(store: EmbeddingStore, folder: Path) -> None:
    shard = shards_of(image_set(folder), ENCODER, 7)[0]
    failures = failed(shard, {1: "not an image", 5: "no \udcff"})
    assert read_shard(store, ENCODER, shard) is None
    write_shard(store, ENCODER, shard, EmbeddedImages(unit_rows(5), failures, frozenset({5})))
    path = store.root / ENCODER.digest[:16] / "images" / shard.key[:2] / f"{shard.key}.safetensors"
    assert [found for found in store.root.rglob("*") if found.is_file()] == [path]
    embedded = read_shard(store, ENCODER, shard)
    assert embedded is not None
    assert (embedded.failures, embedded.transient) == (failures, {5})
    np.testing.assert_array_equal(embedded.features, unit_rows(5))


def test_a_shard_of_unreadable_images_is_finished_too(store: EmbeddingStore, folder: Path) -> None:
    shard = shards_of(image_set(folder), ENCODER, 2)[0]
    failures = failed(shard, dict.fromkeys(range(len(shard.paths)), "not an image"))
    write_shard(store, ENCODER, shard, EmbeddedImages(unit_rows(0), failures))
    embedded = read_shard(store, ENCODER, shard)
    assert embedded is not None
    assert embedded.features.shape == (0, 8)
    assert is_final(shard, embedded)


def test_a_refused_file_keeps_its_shard_open_and_an_absent_one_does_not(folder: Path) -> None:
    (folder / "cat" / "001.png").unlink()
    images = image_set(folder)
    listed = replace(images, samples=(*images.samples, replace(images.samples[0], path=str(folder / "cat/001.png"))))
    (shard,) = shards_of(listed, ENCODER, 10)
    failures = failed(shard, {2: "Permission denied", 6: "No such file or directory"})
    assert is_final(shard, EmbeddedImages(unit_rows(5), failures, frozenset({6})))
    assert not is_final(shard, EmbeddedImages(unit_rows(5), failures, frozenset({2, 6})))


@given(cut=st.integers(min_value=0, max_value=400))
def test_a_truncated_shard_counts_as_absent(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    store = EmbeddingStore(tmp_path_factory.mktemp("cut"))
    name = store.name("images", ENCODER, "ab")
    store.write_rows(name, unit_rows(4), {})
    path = store.root / name
    whole = path.read_bytes()
    path.write_bytes(whole[: min(cut, len(whole) - 1)])
    assert store.read_rows(name, ENCODER.dim) is None


def test_one_changed_bit_is_noticed_and_told(
    store: EmbeddingStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (shard,) = shards_of(image_set(folder), ENCODER, 7)
    write_shard(store, ENCODER, shard, EmbeddedImages(unit_rows(7), {}))
    path = store.root / shard_name(store, ENCODER, shard.key)
    content = bytearray(path.read_bytes())
    content[-9] ^= 1  # a bit of the last but two number: still a unit vector
    path.write_bytes(content)
    assert read_shard(store, ENCODER, shard) is None
    assert caplog.messages == [
        f"damaged in the embedding store: {store.place}/{shard_name(store, ENCODER, shard.key)} "
        "(its checksum does not agree); it is computed again"
    ]
    write_shard(store, ENCODER, shard, EmbeddedImages(unit_rows(7), {}))
    assert read_shard(store, ENCODER, shard) is not None


def test_what_a_file_says_of_itself_is_verified_too(store: EmbeddingStore, folder: Path) -> None:
    (shard,) = shards_of(image_set(folder), ENCODER, 7)
    failures = failed(shard, {2: "not an image"})
    write_shard(store, ENCODER, shard, EmbeddedImages(unit_rows(6), failures))
    path = store.root / shard_name(store, ENCODER, shard.key)
    path.write_bytes(path.read_bytes().replace(b"not an image", b"not an imago"))
    assert read_shard(store, ENCODER, shard) is None


def test_half_precision_has_files_of_its_own_and_is_read_as_unit_rows(tmp_path: Path, folder: Path) -> None:
    whole, half = EmbeddingStore(tmp_path / "s"), EmbeddingStore(tmp_path / "s", dtype="float16")
    (shard,) = shards_of(image_set(folder), ENCODER, 7)
    written = write_shard(half, ENCODER, shard, EmbeddedImages(unit_rows(7), {}))
    assert read_shard(whole, ENCODER, shard) is None
    write_shard(whole, ENCODER, shard, EmbeddedImages(unit_rows(7), {}))
    read = read_shard(half, ENCODER, shard)
    assert read is not None
    assert read.features.dtype == np.float32
    np.testing.assert_array_equal(read.features, written.features)
    np.testing.assert_allclose(np.linalg.norm(read.features, axis=1), 1, atol=2e-7)
    assert 0 < np.abs(read.features - unit_rows(7)).max() < 5e-4
    cosines = np.einsum("ij,ij->i", read.features.astype(np.float64), unit_rows(7))
    assert np.all(cosines > 1 - 6e-5)
    sizes = [(tmp_path / "s" / shard_name(one, ENCODER, shard.key)).stat().st_size for one in (whole, half)]
    assert sizes[0] - sizes[1] == 7 * ENCODER.dim * 2
    full = read_shard(whole, ENCODER, shard)
    assert full is not None
    np.testing.assert_array_equal(full.features, unit_rows(7))


def test_by_content_an_image_may_be_moved_and_its_time_may_change(folder: Path, tmp_path: Path) -> None:
    before = shards_of(image_set(folder), ENCODER, 3, identity="content")
    os.utime(folder / "cat" / "004.png", ns=(1, 1))
    moved = folder.rename(tmp_path / "elsewhere")
    after = shards_of(image_set(moved), ENCODER, 3, identity="content")
    assert [shard.key for shard in after] == [shard.key for shard in before]
    assert after[0].paths != before[0].paths
    assert not {shard.key for shard in shards_of(image_set(moved), ENCODER, 3)} & {shard.key for shard in before}
    first, second = moved / "cat" / "001.png", moved / "cat" / "002.png"
    first.write_bytes(second.read_bytes())
    changed = shards_of(image_set(moved), ENCODER, 3, identity="content")
    assert [old.key == new.key for old, new in zip(after, changed, strict=True)] == [False, True, True]
    second.unlink()
    (absent, *_) = cut([str(first), str(second)], ENCODER, 3, identity="content").shards
    assert absent.absent == {1}


def test_a_dataset_is_known_by_its_files_whatever_the_shards(folder: Path) -> None:
    paths = [sample.path for sample in image_set(folder).samples]
    digest = cut(paths, ENCODER, 3).dataset
    assert cut(paths, replace(ENCODER, precision="fp16"), 5).dataset == digest
    assert cut(paths[::-1], ENCODER, 3).dataset != digest


@pytest.mark.parametrize(
    "rows",
    [
        unit_rows(3).astype(np.float64),
        unit_rows(3)[:, :4],
        unit_rows(3) * 2,
        np.zeros((3, 8), dtype=np.float32),
        np.full((3, 8), np.nan, dtype=np.float32),
        unit_rows(3)[0],
    ],
    ids=["float64", "other width", "not unit", "zeros", "not numbers", "one row"],
)
def test_rows_that_no_encoder_gave_count_as_absent(store: EmbeddingStore, rows: FloatArray) -> None:
    name = store.name("images", ENCODER, "ab")
    store.write_rows(name, rows, {})
    assert store.read_rows(name, ENCODER.dim) is None


def test_a_shard_of_another_length_or_key_counts_as_absent(store: EmbeddingStore, folder: Path) -> None:
    first, second = shards_of(image_set(folder), ENCODER, 4)
    write_shard(store, ENCODER, first, EmbeddedImages(unit_rows(3), {}))
    assert read_shard(store, ENCODER, first) is None
    write_shard(store, ENCODER, first, EmbeddedImages(unit_rows(4), {}))
    path = store.root / shard_name(store, ENCODER, second.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    (store.root / shard_name(store, ENCODER, first.key)).rename(path)
    assert read_shard(store, ENCODER, second) is None


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = EmbeddingStore(tmp_path / "file" / "store")
    with pytest.raises(SetupError, match=f"cannot write to the embedding store {store.root}: Not a directory"):
        store.write_rows(store.name("images", ENCODER, "ab"), unit_rows(1), {})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_a_full_disk_leaves_what_is_there(store: EmbeddingStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = shards_of(image_set(folder), ENCODER, 4)
    write_shard(store, ENCODER, shards[0], EmbeddedImages(unit_rows(4), {}))
    before = sorted(store.root.rglob("*"))

    open_path = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r": open_path(Path("/dev/full"), "wb") if mode == "xb" else open_path(path, mode),
    )
    with pytest.raises(SetupError, match=f"{store.root}: No space left on device"):
        write_shard(store, ENCODER, shards[1], EmbeddedImages(unit_rows(3), {}))
    assert read_shard(store, ENCODER, shards[0]) is not None
    assert [path for path in sorted(store.root.rglob("*")) if path.is_file()] == [p for p in before if p.is_file()]


# --- texts


def test_each_text_is_stored_once_and_found_by_the_next_program(store: EmbeddingStore) -> None:
    texts = ["a cat", "a dog", "half a character \ud83d", ""]
    first = TextCache(store, ENCODER)
    assert first.missing([*texts, "a cat"]) == texts
    first.add(texts, unit_rows(4))
    second = TextCache(store, ENCODER)
    assert second.missing(["a cow", *texts, "a cow"]) == ["a cow"]
    second.add(["a cow"], unit_rows(1, seed=1))
    third = TextCache(store, ENCODER)
    assert third.missing(["a cow", *texts]) == []
    np.testing.assert_array_equal(third.rows(["", "a cow"]), np.stack([unit_rows(4)[3], unit_rows(1, seed=1)[0]]))
    assert first.missing(["a cow"]) == []  # found although it was written after this cache had looked


def test_a_broken_text_file_costs_its_own_texts_only(store: EmbeddingStore) -> None:
    cache = TextCache(store, ENCODER)
    cache.add(["a cat"], unit_rows(1))
    before = set(store.root.rglob("*.safetensors"))
    cache.add(["a dog", "a cow"], unit_rows(2))
    (broken,) = set(store.root.rglob("*.safetensors")) - before
    broken.write_bytes(broken.read_bytes()[:-1])
    assert TextCache(store, ENCODER).missing(["a cat", "a dog", "a cow"]) == ["a dog", "a cow"]


def test_many_small_files_of_texts_become_one(store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = unit_rows(70)
    writer = TextCache(store, ENCODER)
    for i in range(70):
        writer.add([f"text {i}"], rows[i : i + 1])
    listed = list(store.files.entries())
    assert len(listed) == 70
    reader = TextCache(store, ENCODER)
    assert reader.missing([f"text {i}" for i in range(70)]) == []
    assert len(list(store.files.entries())) == 1
    np.testing.assert_array_equal(reader.rows(["text 3", "text 69"]), rows[[3, 69]])
    assert TextCache(store, ENCODER).missing(["text 0", "text 69", "text 70"]) == ["text 70"]

    # Another program that had listed the small files before they went looks again.
    entries, late = store.files.entries, [listed]
    monkeypatch.setattr(store.files, "entries", lambda under="": late.pop() if late else entries(under))
    assert TextCache(store, ENCODER).missing([f"text {i}" for i in range(70)]) == []


def test_which_texts_were_cut_is_stored_with_them(store: EmbeddingStore) -> None:
    TextCache(store, ENCODER).add(["short", "long"], unit_rows(2), cut=[1])
    for i in range(70):
        TextCache(store, ENCODER).add([f"text {i}"], unit_rows(1), cut=[0] if i == 3 else [])
    for _ in range(2):  # file by file, and then put together
        reader = TextCache(store, ENCODER)
        assert reader.missing(["short", "long", "text 3", "text 4"]) == []
        assert reader.cut(["short", "long", "text 4", "text 3", "long"]) == ("long", "text 3")


def test_texts_of_a_version_that_did_not_say_are_embedded_anew(store: EmbeddingStore) -> None:
    metadata = {"encoder": ENCODER.digest, "texts": json.dumps(["a cat"])}
    store.write_rows(store.name("texts", ENCODER, "0" * 64), unit_rows(1), metadata)
    assert TextCache(store, ENCODER).missing(["a cat"]) == ["a cat"]


def test_small_files_stay_where_the_store_may_not_be_written(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = TextCache(store, ENCODER)
    for i in range(70):
        writer.add([f"text {i}"], unit_rows(1))

    def refuse(name: str, content: bytes) -> None:
        raise SetupError("read-only")

    monkeypatch.setattr(store.files, "write", refuse)
    assert TextCache(store, ENCODER).missing(["text 0", "text 69"]) == []
    assert len(list(store.files.entries())) == 70


# --- what is on record


def test_an_encoder_is_on_record_under_its_fingerprint(store: EmbeddingStore) -> None:
    assert store.read_encoder("ab" * 32) is None
    store.write_encoder("ab" * 32, ENCODER)
    assert store.read_encoder("ab" * 32) == ENCODER
    (file,) = (store.root / "encoders").iterdir()
    file.write_text('{"model": "m"}')
    assert store.read_encoder("ab" * 32) is None
    store.forget_encoder("ab" * 32)
    assert not file.exists()


def test_the_store_lies_in_the_cache_folder_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMMUNO_CACHE", "/data/cache")
    assert default_store_root() == Path("/data/cache/embeddings")
    monkeypatch.delenv("IMMUNO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/me/.xdg")
    assert default_store_root() == Path("/home/me/.xdg/immuno/embeddings")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_store_root() == Path("/home/me/.cache/immuno/embeddings")


def fill_texts(store: EmbeddingStore, *sizes: int) -> list[str]:
    """Add files of so many texts each; return all their names."""
    writer = TextCache(store, ENCODER)
    for i, size in enumerate(sizes):
        writer.add([f"text {i} {j}" for j in range(size)], unit_rows(size))
    return [entry.name for entry in store.files.entries()]


def test_small_files_stay_where_the_joined_one_cannot_be_read_back(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = fill_texts(store, *[1] * 64)
    write = store.files.write
    monkeypatch.setattr(store.files, "write", lambda name, content: write(name, content[:-1]))
    assert TextCache(store, ENCODER).missing(["text 0 0", "text 63 0"]) == []
    assert set(names) <= {entry.name for entry in store.files.entries()}
    monkeypatch.undo()
    assert TextCache(store, ENCODER).missing(["text 0 0", "text 63 0"]) == []


def test_files_are_joined_when_they_are_many_and_small(store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.store.texts._LARGE", 2)
    names = fill_texts(store, *[1] * 63, 2)
    TextCache(store, ENCODER).missing(["another"])
    assert len(list(store.files.entries())) == 64
    names = fill_texts(store, *[1] * 64, 2)
    TextCache(store, ENCODER).missing(["another"])
    left = {entry.name for entry in store.files.entries()}
    assert len(left) < 64
    assert left & set(names)  # the large ones


@pytest.mark.parametrize("changed", ["key", "encoder"])
def test_a_file_that_says_it_is_another_s_is_not_taken(store: EmbeddingStore, folder: Path, changed: str) -> None:
    (shard,) = shards_of(image_set(folder), ENCODER, 7)
    said = {"key": shard.key, "encoder": ENCODER.digest, "images": "7", "failures": "[]"}
    name = shard_name(store, ENCODER, shard.key)
    store.write_rows(name, unit_rows(7), said)
    assert read_shard(store, ENCODER, shard) is not None
    store.write_rows(name, unit_rows(7), said | {changed: "another"})
    assert read_shard(store, ENCODER, shard) is None


def test_values_that_are_not_one_for_each_image_are_not_taken(store: EmbeddingStore, folder: Path) -> None:
    (shard,) = shards_of(image_set(folder), ENCODER, 7)
    request = LocalRequest(unit_rows(2), 1.0)
    for values, taken in ((np.ones(7), True), (np.ones(6), False)):
        write_local(store, ENCODER, shard, request, values)
        assert (read_local(store, ENCODER, shard, request) is not None) == taken


def test_a_file_with_more_texts_than_rows_is_not_taken(store: EmbeddingStore) -> None:
    said = {"encoder": ENCODER.digest, "cut": "[]"}
    store.write_rows("x", unit_rows(2), said | {"texts": '["a", "b"]'})
    assert texts_of(stored_rows(store), ENCODER) == (["a", "b"], [])
    store.write_rows("x", unit_rows(2), said | {"texts": '["a", "b", "c"]'})
    assert texts_of(stored_rows(store), ENCODER) == ([], [])


def stored_rows(store: EmbeddingStore) -> StoredArray:
    found = store.read_rows("x", ENCODER.dim)
    assert found is not None
    return found


def test_of_a_text_that_two_embedded_the_first_row_stays(store: EmbeddingStore) -> None:
    cache, (first, second) = TextCache(store, ENCODER), np.split(unit_rows(2), 2)
    cache.add(["a"], first)
    cache.add(["a"], second)
    np.testing.assert_array_equal(cache.rows(["a"]), first)


def test_a_store_is_seen_by_who_finds_the_mark_in_it(store: EmbeddingStore, tmp_path: Path) -> None:
    mark = store.leave_mark()
    assert EmbeddingStore(store.root).sees(mark)
    store.remove_mark(mark)
    assert not store.sees(mark)


def test_a_file_written_anew_within_the_second_has_another_key(folder: Path) -> None:
    image = folder / "cat/000.png"
    keys = []
    for nanoseconds in (1, 2):
        os.utime(image, ns=(10**18 + nanoseconds, 10**18 + nanoseconds))
        keys.append([shard.key for shard in shards_of(image_set(folder), ENCODER, 3)])
    assert keys[0][0] != keys[1][0]
    assert keys[0][1:] == keys[1][1:]

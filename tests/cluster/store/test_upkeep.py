"""Upkeep finds what is damaged, missing, foreign or needed no more, and deletes nothing else."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import EncoderSpec, LocalEmbedder
from cluster.encoder.spec import fingerprint
from cluster.store.manifest import Manifest, manifest_name, read_manifest
from cluster.store.shards import cut, shard_name
from cluster.store.store import EmbeddingStore
from cluster.store.upkeep import Checked, Waste, check_shards, check_store, delete, needed, waste
from immuno_core.errors import SetupError
from immuno_core.records import ImageSet
from tests.cluster.tiny_models import image_set, write_images

SIZE = 4


@pytest.fixture
def embedder(tiny_encoder_dir: Path, tmp_path: Path) -> LocalEmbedder:
    return LocalEmbedder(EncoderSpec(f"local-dir:{tiny_encoder_dir}"), tmp_path / "store", shard_size=SIZE)


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    folder = write_images(tmp_path / "images", {"cat": 5, "dog": 5})
    (folder / "dog" / "003.png").write_text("no image")
    return image_set(folder)


@pytest.fixture
def manifest(embedder: LocalEmbedder, images: ImageSet) -> Manifest:
    embedder.embed_texts(["a cat"])
    return embedder.fill(images).manifest


def shards_of(embedder: LocalEmbedder, images: ImageSet) -> list[Path]:
    pieces = cut([sample.path for sample in images.samples], embedder.encoder, SIZE)
    return [embedder.store.root / shard_name(embedder.store, embedder.encoder, shard.key) for shard in pieces.shards]


def keep(embedder: LocalEmbedder, *sets: ImageSet) -> set[str]:
    pieces = [(cut([one.path for one in images.samples], embedder.encoder, SIZE), SIZE) for images in sets]
    return needed(embedder.store, embedder.encoder, fingerprint(embedder.spec), pieces)


def names(found: list[Waste]) -> list[tuple[str, str]]:
    return [(one.name, one.why) for one in found]


def test_the_manifest_says_what_a_set_is(embedder: LocalEmbedder, images: ImageSet, manifest: Manifest) -> None:
    pieces = cut([sample.path for sample in images.samples], embedder.encoder, SIZE)
    assert (manifest.name, manifest.dataset, manifest.dtype) == ("animals", pieces.dataset, "float32")
    assert (manifest.images, manifest.rows, manifest.bytes) == (10, 9, 9 * 16 * 4)
    assert [(one.key, one.images, one.rows) for one in manifest.shards] == [
        (shard.key, len(shard.paths), len(shard.paths) - (i == 2)) for i, shard in enumerate(pieces.shards)
    ]
    assert [(Path(one.path).name, one.reason) for one in manifest.quarantined] == [("003.png", "not an image")]
    name = manifest_name(embedder.store, embedder.encoder, pieces.dataset, SIZE)
    stored = read_manifest(embedder.store, name)
    assert stored is not None
    assert replace(stored, created="", versions=None) == manifest
    assert stored.created
    assert {"immuno-vlm", "torch", "open_clip_torch"} <= set(stored.versions or {})
    before = (embedder.store.root / name).stat().st_ino
    embedder.fill(images)
    assert (embedder.store.root / name).stat().st_ino == before  # it said the same


def test_embedding_writes_the_manifest_too(embedder: LocalEmbedder, images: ImageSet) -> None:
    embedder.embed_images(images)
    (file,) = embedder.store.root.glob("*/sets/*.json")
    assert json.loads(file.read_text())["name"] == "animals"
    file.write_text(file.read_text()[:-5])
    assert read_manifest(embedder.store, file.relative_to(embedder.store.root).as_posix()) is None
    assert embedder.fill(images).embedded == 0
    assert json.loads(file.read_text())["rows"] == 9


def test_a_whole_store_has_no_problems(embedder: LocalEmbedder, images: ImageSet, manifest: Manifest) -> None:
    found = check_store(embedder.store)
    assert (found.files, found.problems) == (3 + 1 + 1 + 1 + 1, ())  # shards, texts, manifest, probes, the record
    pieces = cut([sample.path for sample in images.samples], embedder.encoder, SIZE)
    assert check_shards(embedder.store, embedder.encoder, pieces) == Checked(3, manifest.bytes, ())
    assert list(waste(embedder.store, None)) == []
    assert list(waste(embedder.store, keep(embedder, images))) == []


def test_each_kind_of_problem_is_told_by_its_file(
    embedder: LocalEmbedder, images: ImageSet, manifest: Manifest
) -> None:
    root = embedder.store.root
    first, second, third = shards_of(embedder, images)
    first.write_bytes(first.read_bytes()[:-20])
    second.write_bytes(third.read_bytes())
    third.unlink()
    (root / "notes.txt").write_text("mine")
    (record,) = (root / "encoders").iterdir()
    record.write_text("{}")
    found = {problem.name: problem for problem in check_store(embedder.store).problems}
    assert {name: problem.state for name, problem in found.items()} == {
        first.relative_to(root).as_posix(): "damaged",
        second.relative_to(root).as_posix(): "foreign",
        third.relative_to(root).as_posix(): "missing",
        "notes.txt": "foreign",
        record.relative_to(root).as_posix(): "damaged",
    }
    assert "not whole" in found[first.relative_to(root).as_posix()].reason
    pieces = cut([sample.path for sample in images.samples], embedder.encoder, SIZE)
    states = [problem.state for problem in check_shards(embedder.store, embedder.encoder, pieces).problems]
    assert states == ["damaged", "foreign", "missing"]


def test_a_file_in_the_folder_of_another_encoder_is_foreign(embedder: LocalEmbedder, manifest: Manifest) -> None:
    root = embedder.store.root
    (text,) = root.glob("*/texts/*/*")
    stray = root / ("a" * 16) / text.relative_to(root).relative_to(embedder.encoder.digest[:16])
    stray.parent.mkdir(parents=True)
    stray.write_bytes(text.read_bytes())
    (problem,) = check_store(embedder.store).problems
    assert (problem.name, problem.state) == (stray.relative_to(root).as_posix(), "foreign")
    assert problem.reason == "another encoder's"


def test_only_what_no_set_needs_is_waste(
    embedder: LocalEmbedder, images: ImageSet, manifest: Manifest, tmp_path: Path
) -> None:
    root = embedder.store.root
    other = image_set(write_images(tmp_path / "other", {"cow": 4}, seed=3))
    half = LocalEmbedder(embedder.spec, root, shard_size=SIZE, store_dtype="float16")
    half.fill(images)
    before = {entry.name for entry in embedder.store.files.entries()}
    embedder.fill(other)
    added = {entry.name for entry in embedder.store.files.entries()} - before
    in_half = {name for name in before if "-float16/" in name}
    assert (len(added), len(in_half)) == (2, 4)
    found = list(waste(embedder.store, keep(embedder, images)))
    assert {one.name for one in found} == added | in_half
    assert {one.why for one in found} == {"not needed"}
    assert {one.name for one in waste(half.store, keep(half, images))} == before - in_half - {
        name for name in before if "/texts/" in name or "/probes/" in name or name.startswith("encoders/")
    } | added
    delete(embedder.store, found)
    assert {entry.name for entry in embedder.store.files.entries()} == before - in_half
    assert check_store(embedder.store).problems == ()
    assert embedder.fill(images).embedded == 0


def test_what_dead_programs_left_is_waste_and_what_living_ones_write_is_not(
    embedder: LocalEmbedder, manifest: Manifest
) -> None:
    store, root = embedder.store, embedder.store.root
    old, new, mine = f".x.json.{'a' * 32}.tmp", f".x.json.{'b' * 32}.tmp", ".somebody.tmp"
    for name in (old, new, mine):
        (root / name).write_bytes(b"half")
    os.utime(root / old, (0, 0))
    os.utime(root / mine, (0, 0))
    (text,) = root.glob("*/texts/*/*")
    text.write_bytes(text.read_bytes()[:-1])
    dead = {"host": socket.gethostname(), "process": 2**22 + 1, "since": 0}
    (root / ".driver-dead").write_text(json.dumps(dead))
    (root / ".driver-far-away-and-long-ago").write_text(json.dumps({**dead, "host": "elsewhere"}))
    found = list(waste(store, None))
    assert sorted(names(found)) == [
        (".driver-dead", "unfinished"),
        (".driver-far-away-and-long-ago", "unfinished"),
        (old, "unfinished"),
        (text.relative_to(root).as_posix(), "damaged"),
    ]
    mark = store.leave_mark()
    assert len(list(waste(store, None))) == 4
    with pytest.raises(SetupError, match=f"process {os.getpid()} on this machine is filling the embedding store"):
        delete(store, found)
    store.remove_mark(mark)
    delete(store, found)
    assert list(waste(store, None)) == []
    assert (root / new).exists()
    assert (root / mine).exists()


def test_files_that_no_store_wrote_are_nobody_s_to_delete(
    embedder: LocalEmbedder, images: ImageSet, manifest: Manifest
) -> None:
    root = embedder.store.root
    for name in ("thesis.tex", "encoders/notes.txt", f"{'a' * 16}/images/ab/holiday.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("mine")
    assert list(waste(embedder.store, keep(embedder, images))) == []
    assert len(check_store(embedder.store).problems) == 3


def test_a_store_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path / "none")
    assert check_store(store) == Checked(0, 0, ())
    assert list(waste(store, None)) == []

"""What a disk may do to a store: be full, be read-only, be shared by two programs that fill it at once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cluster import EncoderSpec, LocalEmbedder
from cluster.store.upkeep import check_store
from immuno_core.errors import SetupError
from immuno_core.records import ImageSet
from tests.cluster.actors.scripts import start_script
from tests.cluster.tiny_models import image_set, write_images


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 kB of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = _run("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder))
    if mounted.returncode:
        pytest.skip(f"may not mount a file system here: {mounted.stderr.strip()}")
    yield folder
    _run("umount", "--lazy", str(folder))


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


@pytest.fixture
def spec(tiny_encoder_dir: Path) -> EncoderSpec:
    return EncoderSpec(f"local-dir:{tiny_encoder_dir}")


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    return image_set(write_images(tmp_path / "images", {"cat": 20, "dog": 20}))


def test_on_a_full_disk_finished_shards_stay_and_a_rerun_goes_on(
    disk: Path, spec: EncoderSpec, images: ImageSet
) -> None:
    store = disk / "store"
    LocalEmbedder(spec, store).embed_texts(["a cat"])  # the encoder is on record
    ballast = disk / "ballast"
    free = int(_run("stat", "-f", "-c", "%a", str(disk)).stdout) * 4096
    ballast.write_bytes(bytes(free - 8 * 4096))
    with pytest.raises(SetupError, match=r"No space left on device; free some space.*the same command goes on"):
        LocalEmbedder(spec, store, batch_size=2, shard_size=2).embed_images(images)
    finished = {path: path.stat().st_ino for path in store.glob("*/images/*/*.safetensors")}
    assert 0 < len(finished) < 20
    assert not list(store.rglob("*.tmp"))
    ballast.unlink()

    rerun = LocalEmbedder(spec, store, batch_size=2, shard_size=2)
    features = rerun.embed_images(images)
    assert {path: path.stat().st_ino for path in finished} == finished
    assert check_store(rerun.store).problems == ()
    undisturbed = LocalEmbedder(spec, batch_size=2, shard_size=2).embed_images(images)
    np.testing.assert_array_equal(features.features, undisturbed.features)


def test_a_read_only_store_is_read_and_what_is_missing_is_said(disk: Path, spec: EncoderSpec, images: ImageSet) -> None:
    store = disk / "store"
    first = LocalEmbedder(spec, store, shard_size=8)
    features, texts = first.embed_images(images).features.copy(), first.embed_texts(["a cat"])
    assert _run("mount", "-o", "remount,ro", str(disk)).returncode == 0
    reader = LocalEmbedder(spec, store, shard_size=8)
    np.testing.assert_array_equal(reader.embed_images(images).features, features)
    np.testing.assert_array_equal(reader.embed_texts(["a cat"]), texts)
    assert reader.fill(images).embedded == 0
    with pytest.raises(SetupError, match=f"cannot write to the embedding store {store}: Read-only file system; give"):
        reader.embed_texts(["a dog"])


@pytest.mark.long
def test_two_programs_fill_one_store_at_once(spec: EncoderSpec, images: ImageSet, tmp_path: Path) -> None:
    store = tmp_path / "store"
    other = start_script(
        """
        import sys
        from pathlib import Path
        from cluster import EncoderSpec, LocalEmbedder
        from tests.cluster.tiny_models import image_set

        model, store, folder = sys.argv[1:]
        embedder = LocalEmbedder(EncoderSpec(model), Path(store), batch_size=2, shard_size=2)
        print(embedder.encoder.dim, flush=True)
        input()
        print(float(embedder.embed_images(image_set(Path(folder))).features.sum()))
        """,
        spec.model,
        str(store),
        str(tmp_path / "images"),
        stdin=subprocess.PIPE,
    )
    with other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "16\n"
        here = LocalEmbedder(spec, store, batch_size=2, shard_size=2)
        other.stdin.write("\n")
        other.stdin.flush()
        features = here.embed_images(images).features
        out, err = other.communicate(timeout=120)
    assert out == f"{float(features.sum())}\n", err
    found = check_store(here.store)
    assert found.problems == ()
    assert sum("/images/" in entry.name for entry in here.store.files.entries()) == 20
    assert not [entry for entry in here.store.files.entries() if entry.name.endswith(".tmp")]

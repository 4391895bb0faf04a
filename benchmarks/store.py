"""The embedding store: verified reading against plain reading, memory, and texts that lie in many small files.

    python benchmarks/store.py [--images N] [--dim D] [--text-files F]

No model is loaded: the rows are random unit vectors. Baselines, in the same run: the same shards read by safetensors
into memory, without looking at a checksum; and the texts read file by file, as a session leaves them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy

from cluster import EncoderSpec, LocalEmbedder
from cluster.encoder.spec import fingerprint
from cluster.records import EmbeddedImages
from cluster.store.shards import cut, shard_name, write_shard
from cluster.store.store import EmbeddingStore, StoreDtype
from cluster.store.texts import TextCache
from immuno_core.features import FloatArray
from immuno_core.records import EncoderInfo, ImageSet, Sample

SPEC = EncoderSpec("miniworld")
SHARD = 256
TEXTS_OF_A_GENERATION = 12


def unit_rows(count: int, dim: int, rng: np.random.Generator) -> FloatArray:
    """Random directions, (count, dim)."""
    rows = rng.standard_normal((count, dim), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def a_set(folder: Path, count: int) -> ImageSet:
    """A set of `count` images, by name all in one tar; they are never opened."""
    tar = folder / "images.tar"
    tar.write_bytes(b"no image is read")
    samples = tuple(Sample(f"{i}.png", f"{tar}::{i}.png@0+1", "thing") for i in range(count))
    return ImageSet("images", "fit", "id", samples, digest="")


def fill(store: EmbeddingStore, encoder: EncoderInfo, images: ImageSet) -> list[Path]:
    """Store random rows for a set, and return its files."""
    rng = np.random.default_rng(0)
    store.write_encoder(fingerprint(SPEC), encoder)
    paths = []
    for shard in cut([sample.path for sample in images.samples], encoder, SHARD).shards:
        write_shard(store, encoder, shard, EmbeddedImages(unit_rows(len(shard.paths), encoder.dim, rng), {}))
        paths.append(store.root / shard_name(store, encoder, shard.key))
    return paths


def timed(call: Callable[[], object], repetitions: int = 3) -> float:
    """Seconds of the fastest of a few calls."""
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def peak_of(call: Callable[[], object]) -> float:
    """MiB that the call had allocated at most."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return peak


def images(folder: Path, encoder: EncoderInfo, count: int, dtype: StoreDtype) -> tuple[float, float, float]:
    """Seconds of our reading and of the plain one, and the peak of ours in MiB without the list of images."""
    store = EmbeddingStore(folder / f"{count}-{dtype}", dtype=dtype)
    listed = a_set(folder, count)
    paths = fill(store, encoder, listed)

    def ours() -> FloatArray:
        return LocalEmbedder(SPEC, store.root, shard_size=SHARD, store_dtype=dtype).embed_images(listed).features

    def plain() -> FloatArray:
        found: FloatArray = np.concatenate([safetensors.numpy.load_file(path)["features"] for path in paths])
        return found.astype(np.float32, copy=False)

    if dtype == "float32":
        np.testing.assert_array_equal(ours(), plain())
    return timed(ours), timed(plain), peak_of(ours)


def texts(folder: Path, encoder: EncoderInfo, files: int) -> tuple[float, float]:
    """Seconds until a program knows the texts of many generations: the first time, and the next."""
    store = EmbeddingStore(folder / "texts")
    rows = unit_rows(TEXTS_OF_A_GENERATION, encoder.dim, np.random.default_rng(0))
    writer = TextCache(store, encoder)
    for i in range(files):
        writer.add([f"text {j} of generation {i}" for j in range(TEXTS_OF_A_GENERATION)], rows)
    first = timed(lambda: TextCache(store, encoder).missing(["another"]), repetitions=1)
    return first, timed(lambda: TextCache(store, encoder).missing(["another"]))


def main() -> None:
    """Print seconds, ratios, and peaks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--text-files", type=int, default=10_000)
    given = parser.parse_args()
    encoder = EncoderInfo("random", None, given.dim, 100.0, 224, "fp32", "weights", "preprocessing")
    with tempfile.TemporaryDirectory(prefix="immuno-store-") as name:
        folder = Path(name)
        for dtype in ("float32", "float16"):
            small = images(folder, encoder, given.images // 10, dtype)
            ours, plain, peak = images(folder, encoder, given.images, dtype)
            size = given.images * given.dim * np.dtype(np.float32).itemsize / 2**20
            print(f"{given.images} images of {given.dim} dimensions stored as {dtype}, {size:.0f} MiB as float32")
            print(f"  verified, mapped {ours:8.2f} s, peak of its arrays {peak:.1f} MiB", end=" ")
            print(f"({small[2]:.1f} MiB for a tenth of the images)")
            print(f"  plain, in memory {plain:8.2f} s, ratio {ours / plain:.2f}")
        first, again = texts(folder, encoder, given.text_files)
        print(f"{given.text_files} files of {TEXTS_OF_A_GENERATION} texts")
        print(f"  first start      {first:8.2f} s (reads the small files and puts them together)")
        print(f"  next starts      {again:8.2f} s, ratio {first / again:.1f} times faster")


if __name__ == "__main__":
    main()

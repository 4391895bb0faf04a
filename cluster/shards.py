"""Shards: an image set cut into pieces of work, each with a key that says whether it is already done.

A key covers the encoder and every file's path, size and modification time: a file that changes takes its own shard out
of the store and no other. For a tar's member the file is the tar, and the path says where in it the image is. Paths
count whole, because two folders may hold different images of one name, size and time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.images import EmbeddedImages, ImageFailure
from cluster.store import EmbeddingStore
from evaluation.locations import containing_file
from immuno.records import EncoderInfo, ImageSet, text_digest


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive images of a set: the unit of work, of storage and of resumption."""

    key: str
    paths: tuple[str, ...]
    absent: frozenset[int]
    """Rows whose file was not there when the shard was cut; the key changes when it appears."""


def cut_shards(images: ImageSet, encoder: EncoderInfo, shard_size: int) -> tuple[Shard, ...]:
    """Cut a set into shards of `shard_size` images, in the order of its samples; the last may be smaller."""
    return cut_paths([sample.path for sample in images.samples], encoder, shard_size)


def cut_paths(files: Sequence[str], encoder: EncoderInfo, shard_size: int) -> tuple[Shard, ...]:
    """Cut a list of image files into shards of `shard_size`, in their order; the last may be smaller."""
    paths = [str(Path(file).absolute()) for file in files]
    return tuple(_shard(paths[i : i + shard_size], encoder) for i in range(0, len(paths), shard_size))


def _shard(paths: list[str], encoder: EncoderInfo) -> Shard:
    parts, absent = ["images", encoder.digest], set()
    for row, path in enumerate(paths):
        try:
            state = Path(containing_file(path)).stat()
        except OSError:
            absent.add(row)
            parts += [path, "absent", ""]
        else:
            parts += [path, str(state.st_size), str(state.st_mtime_ns)]
    return Shard(text_digest(*parts), tuple(paths), frozenset(absent))


def write_shard(store: EmbeddingStore, encoder: EncoderInfo, shard: Shard, embedded: EmbeddedImages) -> None:
    """Store a shard's embeddings and failures. Raises SetupError where the store refuses them."""
    metadata = {"key": shard.key, "encoder": encoder.digest, "failures": json.dumps(embedded.failures)}
    store.write_rows(store.path("images", encoder, shard.key), embedded.features, metadata)


def read_shard(store: EmbeddingStore, encoder: EncoderInfo, shard: Shard) -> EmbeddedImages | None:
    """Return what the store holds of a shard, None where that is nothing, or not whole, or not this shard's."""
    stored = store.read_rows(store.path("images", encoder, shard.key), encoder.dim)
    if stored is None or stored.metadata.get("key") != shard.key or stored.metadata.get("encoder") != encoder.digest:
        return None
    try:
        failures = tuple(ImageFailure(*fields) for fields in json.loads(stored.metadata["failures"]))
    except (KeyError, ValueError, TypeError):
        return None
    failed = {failure.row for failure in failures}
    if len(failed) != len(failures) or not failed <= set(range(len(shard.paths))):
        return None
    if len(stored.features) + len(failed) != len(shard.paths):
        return None
    return EmbeddedImages(stored.features, failures)


def is_final(shard: Shard, embedded: EmbeddedImages) -> bool:
    """Whether embedding the shard again could change nothing: no file was refused that is there to be read."""
    return all(failure.row in shard.absent for failure in embedded.failures if failure.transient)

"""Shards: an image set cut into pieces of work, each with a key that says whether it is already done.

A key covers the encoder and what every file is. By default that is its path, size and modification time: a file that
changes takes its own shard out of the store and no other. For a tar's member the file is the tar, and the path says
where in it the image is. Paths count whole, because two folders may hold different images of one name, size and time.
With `identity="content"` it is a digest of the image's bytes, which must be read for it.

What was asked of the patches of a shard's images is stored, too, one number per image, by a key that covers the shard
and the request (texts and temperature); the patches themselves never are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cluster.records import EmbeddedImages
from cluster.store.store import EmbeddingStore, as_read, encoder_folder
from immuno_core.features import LocalRequest
from immuno_core.images import containing_file, containing_files, made_image, open_image
from immuno_core.paths import plain_path
from immuno_core.records import EncoderInfo, FailedImage, text_digest
from immuno_core.text import read_json

FileIdentity = Literal["mtime", "content"]
_State = tuple[str, str, str]
"""What an image file is, in three fields."""
_FORMAT: Final = "images 2"
"""Changes with the form of the files: those of another are never looked at."""
_READERS: Final = 16
_BLOCK: Final = 2**20


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive images of a set: the unit of work, of storage and of resumption."""

    key: str
    paths: tuple[str, ...]
    absent: frozenset[int]
    """Rows whose file was not there when the shard was cut; the key changes when it appears."""
    files: str = ""
    """Digest of what its files are: the part of the key that is the same for every encoder."""

    def of(self, encoder: EncoderInfo) -> Shard:
        """Return the same images for another encoder."""
        return replace(self, key=text_digest(_FORMAT, encoder.digest, self.files))


class Cut(NamedTuple):
    """An image set in shards."""

    shards: tuple[Shard, ...]
    dataset: str
    """Digest of the list of files, whatever the size of a shard and the encoder."""


class ShardRecord(NamedTuple):
    """What a manifest says of a shard."""

    key: str
    images: int
    rows: int
    """Images that have an embedding."""
    bytes: int
    """Of its rows, as they are stored."""
    checksum: str


def cut(files: Sequence[str], encoder: EncoderInfo, shard_size: int, *, identity: FileIdentity = "mtime") -> Cut:
    """Cut a list of image files into shards of `shard_size`, in their order, and say which list it is.

    The last shard may be smaller.
    """
    dataset, shards = hashlib.sha256(), []
    for start in range(0, len(files), shard_size):
        paths = tuple(_absolute(file) for file in files[start : start + shard_size])
        states = _contents(paths) if identity == "content" else _states(paths)
        # Three fields for each image, each ended by a character that no path holds: nothing can be read in two ways.
        fields = (state or (path, "absent", "") for path, state in zip(paths, states, strict=True))
        listed = "".join(f"{a}\0{b}\0{c}\0" for a, b, c in fields).encode("utf-8", "surrogatepass")
        dataset.update(listed)
        absent = frozenset(row for row, state in enumerate(states) if state is None)
        shards.append(Shard("", paths, absent, hashlib.sha256(listed).hexdigest()).of(encoder))
    return Cut(tuple(shards), dataset.hexdigest())


def shard_folder(store: EmbeddingStore, encoder: EncoderInfo) -> str:
    """Return the folder of an encoder's shards."""
    return f"{encoder_folder(encoder)}/{store.kind('images')}"


def shard_name(store: EmbeddingStore, encoder: EncoderInfo, key: str) -> str:
    """Return the name of a shard's file."""
    return store.name(store.kind("images"), encoder, key)


def write_shard(store: EmbeddingStore, encoder: EncoderInfo, shard: Shard, embedded: EmbeddedImages) -> EmbeddedImages:
    """Store a shard's embeddings and failures, and return them as they will be read: perhaps in half precision.

    Raises SetupError where the store refuses them.
    """
    failures = [(row, failure.reason, row in embedded.transient) for row, failure in embedded.failures.items()]
    metadata = {
        "key": shard.key,
        "encoder": encoder.digest,
        "images": str(len(shard.paths)),
        "failures": json.dumps(failures),
    }
    rows = embedded.features.astype(store.dtype, copy=False)
    checksum = store.write_rows(shard_name(store, encoder, shard.key), rows, metadata)
    return embedded._replace(features=as_read(rows), checksum=checksum)


def read_shard(store: EmbeddingStore, encoder: EncoderInfo, shard: Shard) -> EmbeddedImages | None:
    """Return what the store holds of a shard, None where that is nothing, or damaged, or not this shard's."""
    stored = store.read_rows(shard_name(store, encoder, shard.key), encoder.dim, dtype=store.dtype)
    if stored is None or stored.metadata.get("key") != shard.key or stored.metadata.get("encoder") != encoder.digest:
        return None
    try:
        listed = [(row, reason, may_pass) for row, reason, may_pass in read_json(stored.metadata["failures"])]
        # The paths are the shard's: identical content may have been embedded elsewhere.
        failures = {row: FailedImage("", shard.paths[row], reason) for row, reason, _ in listed}
    except (KeyError, ValueError, TypeError, IndexError):
        return None
    if len(failures) != len(listed) or not failures.keys() <= set(range(len(shard.paths))):
        return None
    if len(stored.array) + len(failures) != len(shard.paths):
        return None
    transient = frozenset(row for row, _, may_pass in listed if may_pass)
    return EmbeddedImages(stored.array, failures, transient, stored.checksum)


def shard_record(store: EmbeddingStore, shard: Shard, stored: EmbeddedImages) -> ShardRecord:
    """Return what a manifest says of a shard that was read from the store, or written there."""
    rows, dim = stored.features.shape
    size = rows * dim * np.dtype(store.dtype).itemsize
    return ShardRecord(shard.key, len(shard.paths), rows, size, stored.checksum)


def is_final(shard: Shard, embedded: EmbeddedImages) -> bool:
    """Whether embedding the shard again could change nothing: no file was refused that is there to be read."""
    return embedded.transient <= shard.absent


def _absolute(file: str) -> str:
    if file.startswith("/") and "/../" not in file:
        return file
    if (made := made_image(file)) is not None:
        return str(made._replace(of=(_absolute(made.of[0]), _absolute(made.of[1]))))
    holder = containing_file(file)
    return f"{plain_path(Path(holder).absolute())}{file[len(holder) :]}"


def _states(paths: Sequence[str]) -> list[_State | None]:
    """Path, size and time of each image's file; None where it is absent."""
    states: list[_State | None] = []
    seen: tuple[Sequence[str], tuple[str, str] | None] = ((), None)
    for path in paths:
        holders = containing_files(path)
        if holders != seen[0]:  # the members of one tar follow one another
            seen = (holders, _size_and_time(holders))
        states.append(None if seen[1] is None else (path, *seen[1]))
    return states


def _size_and_time(paths: Sequence[str]) -> tuple[str, str] | None:
    try:
        states = [os.stat(path) for path in paths]  # noqa: PTH116 - a Path per image doubles the time for a million
    except OSError:
        return None
    return "+".join(str(one.st_size) for one in states), "+".join(str(one.st_mtime_ns) for one in states)


def _contents(paths: Sequence[str]) -> list[_State | None]:
    """A digest of each image's bytes; None where they cannot be read."""
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(_content, paths))


def _content(path: str) -> _State | None:
    # A pipe or a device would block for ever.
    if not os.path.isfile(containing_file(path)):  # noqa: PTH113 - as above
        return None
    try:
        with open_image(path) as stream:
            digest = hashlib.blake2b(digest_size=32)
            while block := stream.read(_BLOCK):
                digest.update(block)
            return ("content", digest.hexdigest(), "")
    except (OSError, ValueError):
        return None


def write_local(
    store: EmbeddingStore, encoder: EncoderInfo, shard: Shard, request: LocalRequest, values: NDArray[np.float64]
) -> None:
    """Store the answer (n,) for a shard of n images. Raises SetupError where the store refuses it."""
    key = _key(shard, request)
    store.write_values(_name(store, encoder, key), values, {"key": key, "encoder": encoder.digest})


def read_local(
    store: EmbeddingStore, encoder: EncoderInfo, shard: Shard, request: LocalRequest
) -> NDArray[np.float64] | None:
    """Return the stored answer (n,) for a shard; None where there is none, or not a whole one."""
    key = _key(shard, request)
    stored = store.read_values(_name(store, encoder, key))
    if stored is None or stored.metadata != {"key": key, "encoder": encoder.digest}:
        return None
    return stored.array if len(stored.array) == len(shard.paths) else None


def _key(shard: Shard, request: LocalRequest) -> str:
    return text_digest("local", shard.key, request.key)


def _name(store: EmbeddingStore, encoder: EncoderInfo, key: str) -> str:
    return store.name("local", encoder, key)

"""Verified files: one array in safetensors, with a checksum over all that it says, so that no damage goes unnoticed.

The checksum is XXH3 (128 bits: against damage, not against forgery) over the array's name, type and shape, the
metadata, and the array's bytes. It stands in the metadata too, under `checksum`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import safetensors.numpy
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

_CHECKSUM: Final = "checksum"


class DamagedError(Exception):
    """A file is not what was written. The message says in a few words what is wrong with it."""


class Verified(NamedTuple):
    """What a verified file holds."""

    array: NDArray[Any]
    metadata: dict[str, str]
    """Without the checksum."""
    checksum: str


class Header(NamedTuple):
    """What a verified file says of itself; nothing of it is verified."""

    shape: tuple[int, ...]
    metadata: dict[str, str]
    checksum: str


def pack(name: str, array: NDArray[Any], metadata: Mapping[str, str]) -> bytes:
    """Return the content of a file that holds the array under that name."""
    array = np.ascontiguousarray(array)
    checksum = _digest(name, array, metadata)
    return safetensors.numpy.save({name: array}, {**metadata, _CHECKSUM: checksum})


def unpack(path: Path, name: str) -> Verified:
    """Read a file and check it. Raises DamagedError for one that is not whole or not as written; OSError if refused."""
    try:
        with safe_open(path, framework="numpy") as file:
            array: NDArray[Any] = file.get_tensor(name)
            metadata = dict(file.metadata() or {})
    except SafetensorError as error:
        raise DamagedError(f"not whole: {error}") from None
    checksum = metadata.pop(_CHECKSUM, "")
    if _digest(name, array, metadata) != checksum:
        raise DamagedError("its checksum does not agree")
    return Verified(array, metadata, checksum)


def read_header(path: Path, name: str) -> Header:
    """Read what a file says of itself, without its array. Raises DamagedError and OSError as `unpack` does."""
    try:
        with safe_open(path, framework="numpy") as file:
            shape = tuple(file.get_slice(name).get_shape())
            metadata = dict(file.metadata() or {})
    except SafetensorError as error:
        raise DamagedError(f"not whole: {error}") from None
    checksum = metadata.pop(_CHECKSUM, "")
    return Header(shape, metadata, checksum)


def _digest(name: str, array: NDArray[Any], metadata: Mapping[str, str]) -> str:
    said = json.dumps([name, str(array.dtype), array.shape, sorted(metadata.items())])
    digest = xxhash.xxh3_128(said.encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()

"""The embedding store: a place in which nothing once computed is lost, and nothing damaged is believed.

    STORE/encoders/FINGERPRINT.json                what an encoder is, so that it need not be loaded to know it
    STORE/ENCODER/sets/DATASET.json                a set: its shards, quarantined images (`cluster.store.manifest`)
    STORE/ENCODER/images/ab/abcd....safetensors    a shard of images (`cluster.store.shards`)
    STORE/ENCODER/local/ab/abcd....safetensors     what was asked of the patches of a shard
    STORE/ENCODER/texts/ab/abcd....safetensors     the texts of one call, or of many (`cluster.store.texts`)
    STORE/ENCODER/probes/ab/abcd....safetensors    what tells whether it is still the same (`cluster.store.probes`)

ENCODER is the first 16 digits of the encoder's digest. Images stored in half precision are in `images-float16`, their
sets in `sets-float16`. Several programs, on several machines, can share a store: see `cluster.store.files` for where it
may lie, docs/store.md for the whole.

A file is one array in safetensors. Its checksum, XXH3 (128 bits: against damage, not against forgery), is over the
array's name, type and shape, the metadata, and the array's bytes; it stands in the metadata too, under `checksum`.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import safetensors.numpy
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from cluster.store.files import open_files
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray
from immuno_core.paths import cache_root
from immuno_core.records import EncoderInfo
from immuno_core.text import read_json

_CHECKSUM: Final = "checksum"


class DamagedError(Exception):
    """A file is not what was written. The message says in a few words what is wrong with it."""


class StoredArray(NamedTuple):
    """What a verified file holds."""

    array: NDArray[Any]
    metadata: dict[str, str]
    """Without the checksum."""
    checksum: str


def pack(name: str, array: NDArray[Any], metadata: Mapping[str, str]) -> tuple[bytes, str]:
    """Return the content of a file that holds the array under that name, and its checksum."""
    array = np.ascontiguousarray(array)
    checksum = _digest(name, array, metadata)
    return safetensors.numpy.save({name: array}, {**metadata, _CHECKSUM: checksum}), checksum


def unpack(path: Path, name: str) -> StoredArray:
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
    return StoredArray(array, metadata, checksum)


def _digest(name: str, array: NDArray[Any], metadata: Mapping[str, str]) -> str:
    said = json.dumps([name, str(array.dtype), array.shape, sorted(metadata.items())])
    digest = xxhash.xxh3_128(said.encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


StoreDtype = Literal["float32", "float16"]
FEATURES: Final = "features"
VALUES: Final = "values"
MARK: Final = ".driver-"
_NORM_TOLERANCE: Final = {"float32": 1e-3, "float16": 4e-3}
"""How far the squared norm of a stored row may be from 1."""
_log = logging.getLogger(__name__)


def default_store_root() -> Path:
    """Return `embeddings` within the cache folder (immuno_core.paths)."""
    return cache_root() / "embeddings"


class EmbeddingStore:
    """A store at a folder or a URL, which need not exist yet. Everything it raises is a SetupError that names it."""

    def __init__(self, place: str | Path, *, dtype: StoreDtype = "float32") -> None:
        """`dtype` is that of the images' rows; texts are always float32."""
        self.files = open_files(place)
        self.dtype = dtype

    @property
    def place(self) -> str:
        """The folder or the URL."""
        return self.files.place

    @property
    def root(self) -> Path:
        """The folder of a local store; of a remote one, where copies of its files are kept."""
        return self.files.folder

    @property
    def is_remote(self) -> bool:
        """Whether every machine that can reach the store does so by its URL."""
        return "://" in self.place

    def kind(self, kind: Literal["images", "sets"]) -> str:
        """Return the folder of images or sets within an encoder's: it tells how the rows are stored."""
        return kind if self.dtype == "float32" else f"{kind}-{self.dtype}"

    def name(self, kind: str, encoder: EncoderInfo, key: str) -> str:
        """Return the name of the file of a key; `kind` is local, texts, probes, or one that `kind` returns."""
        return f"{encoder_folder(encoder)}/{kind}/{key[:2]}/{key}.safetensors"

    def read_rows(self, name: str, dim: int, *, dtype: StoreDtype = "float32") -> StoredArray | None:
        """Read a file of rows; None where it is absent or does not hold (n, dim) unit rows of that dtype, undamaged.

        Damage is logged. Rows come as float32; those stored in half precision are normalised again.
        """
        found = self._read(name, FEATURES, lambda array: _check_rows(array, dim, dtype))
        return None if found is None else found._replace(array=as_read(found.array))

    def write_rows(self, name: str, features: NDArray[Any], metadata: Mapping[str, str]) -> str:
        """Write a file of (n, d) unit rows, float32 or float16, whole or not at all; return its checksum."""
        content, checksum = pack(FEATURES, features, metadata)
        self.files.write(name, content)
        return checksum

    def read_values(self, name: str) -> StoredArray | None:
        """Read a file of positive numbers; None where it is absent or does not hold those, undamaged."""
        return self._read(name, VALUES, _check_values)

    def write_values(self, name: str, values: NDArray[np.float64], metadata: Mapping[str, str]) -> None:
        """Write positive numbers (n,), whole or not at all."""
        self.files.write(name, pack(VALUES, values, metadata)[0])

    def read_encoder(self, fingerprint: str) -> EncoderInfo | None:
        """Return what is on record for a fingerprint (`cluster.encoder.spec.fingerprint`), None if nothing is."""
        try:
            content = self.files.read(encoder_record(fingerprint))
            return None if content is None else EncoderInfo(**read_json(content))
        except (ValueError, TypeError):
            return None

    def write_encoder(self, fingerprint: str, encoder: EncoderInfo) -> None:
        """Put an encoder on record."""
        self.files.write(encoder_record(fingerprint), json.dumps(asdict(encoder), indent=1).encode())

    def forget_encoder(self, fingerprint: str) -> None:
        """Take an encoder off the record. Its embeddings stay."""
        self.files.delete(encoder_record(fingerprint))

    def leave_mark(self) -> str:
        """Create a small file that says who fills this store; the caller removes it with `remove_mark`.

        By it another process can tell that it `sees` this very store, and upkeep that somebody is at work.
        """
        name = f"{MARK}{uuid.uuid4().hex}"
        said = {"host": socket.gethostname(), "process": os.getpid(), "since": time.time()}
        self.files.write(name, json.dumps(said).encode())
        return name if self.is_remote else str(self.root / name)

    def remove_mark(self, mark: str) -> None:
        """Remove what `leave_mark` left."""
        self.files.delete(mark.rpartition("/")[2])

    def sees(self, mark: str) -> bool:
        """Whether this process reaches the store in which the mark was left, and may write there by itself."""
        return self.is_remote or Path(mark).exists()

    def _read(self, name: str, tensor: str, check: Any) -> StoredArray | None:
        """Read and check a file; where a local copy of a remote one is damaged, the remote one. Damage is logged."""
        problem = ""
        for again in (False, True):
            path = self.files.fetch(name, again=again)
            if path is None:
                break
            try:
                found = unpack(path, tensor)
                check(found.array)
                return found
            except FileNotFoundError:
                break
            except DamagedError as error:
                problem = str(error)
            except OSError as error:
                raise SetupError(f"cannot read {path}: {error.strerror or error}; put its permissions right") from None
        if problem:
            _log.warning("damaged in the embedding store: %s/%s (%s); it is computed again", self.place, name, problem)
        return None


def encoder_folder(encoder: EncoderInfo) -> str:
    """Return the folder of what an encoder has embedded."""
    return encoder.digest[:16]


def encoder_record(fingerprint: str) -> str:
    """Return the name of the file that says what an encoder is."""
    return f"encoders/{fingerprint[:32]}.json"


def as_read(rows: NDArray[Any]) -> FloatArray:
    """Return stored rows (n, d) as float32 unit rows: float32 as it is, float16 normalised again."""
    if rows.dtype == np.float32:
        return rows
    wide: FloatArray = rows.astype(np.float32)
    wide /= np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, None]
    return wide


def _check_rows(array: NDArray[Any], dim: int, dtype: StoreDtype) -> None:
    if array.dtype != dtype or array.ndim != 2 or array.shape[1] != dim:
        raise DamagedError(f"it holds {array.dtype} of shape {array.shape}, not rows of {dim} {dtype}")
    wide = array.astype(np.float32, copy=False)
    if not np.all(np.abs(np.einsum("ij,ij->i", wide, wide) - 1) < _NORM_TOLERANCE[dtype]):
        raise DamagedError("its rows are not unit vectors")


def _check_values(array: NDArray[Any]) -> None:
    if array.dtype != np.float64 or array.ndim != 1 or not (np.isfinite(array) & (array > 0)).all():
        raise DamagedError("it does not hold positive numbers")

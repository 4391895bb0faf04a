"""The embedding store: a folder in which nothing once computed is lost, and nothing half-written is believed.

    STORE/encoders/FINGERPRINT.json                     what an encoder is, so that it need not be loaded to know it
    STORE/ENCODER/images/ab/abcd....safetensors         a shard of images (`cluster.shards`)
    STORE/ENCODER/local/ab/abcd....safetensors          what was asked of the patches of a shard (`cluster.local`)
    STORE/ENCODER/texts/ab/abcd....safetensors          the texts of one call (`cluster.texts`)

ENCODER is the first 16 digits of the encoder's digest. Every file is written beside its place and then renamed into
it, so several programs, on several machines, can share a store.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from evaluation.features import FloatArray
from immuno.errors import SetupError
from immuno.paths import cache_root
from immuno.records import EncoderInfo


class StoredRows(NamedTuple):
    """What one file of the store holds."""

    features: FloatArray
    """(n, d) float32, unit rows."""
    metadata: dict[str, str]


class StoredValues(NamedTuple):
    """What one file of numbers holds."""

    values: NDArray[np.float64]
    """(n,), positive."""
    metadata: dict[str, str]


def default_store_root() -> Path:
    """Return `embeddings` within the cache folder (immuno.paths)."""
    return cache_root() / "embeddings"


class EmbeddingStore:
    """A store at one folder, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()

    def path(self, kind: str, encoder: EncoderInfo, key: str) -> Path:
        """Return where the file of a key lies; `kind` is images, local or texts."""
        return self.folder(kind, encoder) / key[:2] / f"{key}.safetensors"

    def folder(self, kind: str, encoder: EncoderInfo) -> Path:
        """Return the folder of an encoder's images, local or texts."""
        return self.root / encoder.digest[:16] / kind

    def read_rows(self, path: Path, dim: int) -> StoredRows | None:
        """Read a file of the store; None where it is absent, truncated, or does not hold (n, dim) unit rows."""
        found = _read(path, "features")
        if found is None:
            return None
        features, metadata = found
        if features.dtype != np.float32 or features.ndim != 2 or features.shape[1] != dim:
            return None
        # Blocks lost in a crash read as zeros, so the length of the rows is looked at, not only their number.
        rows: FloatArray = features.astype(np.float32, copy=False)
        if not np.all(np.abs(np.einsum("ij,ij->i", rows, rows) - 1) < 1e-3):
            return None
        return StoredRows(rows, metadata)

    def write_rows(self, path: Path, features: FloatArray, metadata: Mapping[str, str]) -> None:
        """Write a file of the store, whole or not at all. Raises SetupError where the folder refuses it."""
        self._write(path, safetensors.numpy.save({"features": np.ascontiguousarray(features)}, dict(metadata)))

    def read_values(self, path: Path) -> StoredValues | None:
        """Read a file of positive numbers; None where it is absent, truncated, or does not hold those."""
        found = _read(path, "values")
        if found is None:
            return None
        values, metadata = found
        if values.dtype != np.float64 or values.ndim != 1:
            return None
        numbers = values.astype(np.float64, copy=False)
        # Blocks lost in a crash read as zeros.
        if not (np.isfinite(numbers) & (numbers > 0)).all():
            return None
        return StoredValues(numbers, metadata)

    def write_values(self, path: Path, values: NDArray[np.float64], metadata: Mapping[str, str]) -> None:
        """Write positive numbers (n,), whole or not at all. Raises SetupError where the folder refuses them."""
        self._write(path, safetensors.numpy.save({"values": np.ascontiguousarray(values)}, dict(metadata)))

    def read_encoder(self, fingerprint: str) -> EncoderInfo | None:
        """Return what is on record for an encoder's fingerprint (`cluster.spec.fingerprint`), None if nothing is."""
        try:
            return EncoderInfo(**json.loads(self._encoder_path(fingerprint).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write_encoder(self, fingerprint: str, encoder: EncoderInfo) -> None:
        """Put an encoder on record. Raises SetupError where the folder refuses it."""
        self._write(self._encoder_path(fingerprint), json.dumps(asdict(encoder), indent=1).encode())

    def forget_encoder(self, fingerprint: str) -> None:
        """Take an encoder off the record. Its embeddings stay."""
        self._encoder_path(fingerprint).unlink(missing_ok=True)

    def leave_mark(self) -> Path:
        """Create an empty file by which another process can tell that it sees this very folder; the caller removes it.

        Raises SetupError where the folder refuses it.
        """
        mark = self.root / f".driver-{uuid.uuid4().hex}"
        self._write(mark, b"")
        return mark

    def _encoder_path(self, fingerprint: str) -> Path:
        return self.root / "encoders" / f"{fingerprint[:32]}.json"

    def _write(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(content)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise SetupError(
                f"cannot write to the embedding store {self.root}: {error.strerror or error}; free some space or name "
                "another folder as [cluster] store (what is already stored stays)"
            ) from None


def _read(path: Path, name: str) -> tuple[NDArray[np.generic], dict[str, str]] | None:
    """The array of that name in a file, with the file's metadata; None where it cannot be read."""
    try:
        with safe_open(path, framework="numpy") as file:
            array: NDArray[np.generic] = file.get_tensor(name)
            return array, file.metadata() or {}
    except (OSError, SafetensorError):
        return None

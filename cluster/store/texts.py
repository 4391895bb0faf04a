"""The texts an encoder has embedded, each of them once: a generation adds few texts to many.

A text is what the encoder is given, with its template filled in. Every batch of new texts adds one file, which lists
them; all files are read when a text is first asked for. Reading thousands of small files is slow (and more so from an
object store), so whoever finds many of them puts them together in one, and deletes them after that one is there.
Files are only ever added or replaced in this way, so programs can share the folder.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Final

import numpy as np

from cluster.store.store import EmbeddingStore, StoredArray, encoder_folder
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray
from immuno_core.records import EncoderInfo, text_digest

_MANY_FILES: Final = 64
"""Small files are put together when there are as many of them."""
_LARGE: Final = 4096
"""A file with as many texts is left as it is."""


class TextCache:
    """The stored texts of one encoder, and their embeddings (float32, however images are stored)."""

    def __init__(self, store: EmbeddingStore, encoder: EncoderInfo) -> None:
        self._store = store
        self._encoder = encoder
        self._seen: set[str] = set()
        self._rows: dict[str, FloatArray] = {}

    def missing(self, texts: Sequence[str]) -> list[str]:
        """Return the texts that are not stored, each once, in the order of their first appearance."""
        if any(text not in self._rows for text in texts):
            self._read_new_files()
        return [text for text in dict.fromkeys(texts) if text not in self._rows]

    def rows(self, texts: Sequence[str]) -> FloatArray:
        """Return the (len(texts), d) float32 unit rows of stored texts. Raises KeyError for one that is `missing`."""
        rows = [self._rows[text] for text in texts]
        return np.stack(rows) if rows else np.empty((0, self._encoder.dim), dtype=np.float32)

    def add(self, texts: Sequence[str], features: FloatArray) -> None:
        """Store texts with their (len(texts), d) unit rows. Raises SetupError where the store refuses them."""
        self._seen.add(self._write(texts, features))
        self._remember(texts, features)

    def _write(self, texts: Sequence[str], features: FloatArray) -> str:
        name = self._store.name("texts", self._encoder, text_digest("texts 2", self._encoder.digest, *texts))
        # ASCII escapes, since a text from a model may hold characters that UTF-8 cannot.
        self._store.write_rows(name, features, {"encoder": self._encoder.digest, "texts": json.dumps(list(texts))})
        return name

    def _read_new_files(self) -> None:
        vanished = True
        while vanished:  # another program has put files together: what they held is in a new one
            small, vanished = {}, False
            for entry in list(self._store.files.entries(f"{encoder_folder(self._encoder)}/texts")):
                if entry.name in self._seen or not entry.name.endswith(".safetensors"):
                    continue
                stored = self._store.read_rows(entry.name, self._encoder.dim)
                if stored is None and self._store.files.fetch(entry.name) is None:
                    vanished = True
                    continue
                self._seen.add(entry.name)
                texts = texts_of(stored, self._encoder) if stored is not None else []
                if stored is not None and texts:
                    self._remember(texts, stored.array)
                    if len(texts) < _LARGE:
                        small[entry.name] = texts
        if len(small) >= _MANY_FILES:
            self._put_together(small)

    def _put_together(self, small: dict[str, list[str]]) -> None:
        """Replace small files by one; a store that cannot be written stays as it is."""
        texts = list(dict.fromkeys(text for held in small.values() for text in held))
        with contextlib.suppress(SetupError):
            name = self._write(texts, self.rows(texts))
            self._seen.add(name)
            if self._store.read_rows(name, self._encoder.dim) is not None:
                for old in small.keys() - {name}:
                    self._store.files.delete(old)

    def _remember(self, texts: Sequence[str], features: FloatArray) -> None:
        for text, row in zip(texts, features, strict=True):
            self._rows.setdefault(text, row)


def texts_of(stored: StoredArray, encoder: EncoderInfo) -> list[str]:
    """Return the texts whose rows a file holds, in their order; none where it is not this encoder's."""
    if stored.metadata.get("encoder") != encoder.digest:
        return []
    try:
        texts = json.loads(stored.metadata["texts"])
    except (KeyError, ValueError):
        return []
    return texts if isinstance(texts, list) and len(texts) == len(stored.array) else []

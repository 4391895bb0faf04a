"""The texts an encoder has embedded, each of them once: a generation adds few texts to many.

A text is what the encoder is given, with its template filled in. Every batch of new texts adds one file, which lists
them; all files are read when a text is first asked for. Reading thousands of small files is slow (and more so from an
object store), so whoever finds many of them puts them together in one, and deletes them after that one is there.
Files are only ever added or replaced in this way, so programs can share the folder.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Sequence
from typing import Final

import numpy as np

from cluster.store.store import EmbeddingStore, StoredArray, encoder_folder
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray
from immuno_core.records import EncoderInfo, text_digest
from immuno_core.text import read_json

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
        self._cut: set[str] = set()

    def missing(self, texts: Sequence[str]) -> list[str]:
        """Return the texts that are not stored, each once, in the order of their first appearance."""
        if any(text not in self._rows for text in texts):
            self._read_new_files()
        return [text for text in dict.fromkeys(texts) if text not in self._rows]

    def rows(self, texts: Sequence[str]) -> FloatArray:
        """Return the (len(texts), d) float32 unit rows of stored texts. Raises KeyError for one that is `missing`."""
        rows = [self._rows[text] for text in texts]
        return np.stack(rows) if rows else np.empty((0, self._encoder.dim), dtype=np.float32)

    def cut(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Return those of the stored texts that are longer than what the encoder reads, each once, in their order."""
        return tuple(text for text in dict.fromkeys(texts) if text in self._cut)

    def add(self, texts: Sequence[str], features: FloatArray, cut: Collection[int] = ()) -> None:
        """Store texts with their (len(texts), d) unit rows, and the places of those that were cut.

        Raises SetupError where the store refuses them.
        """
        self._seen.add(self._write(texts, features, cut))
        self._remember(texts, features, cut)

    def _write(self, texts: Sequence[str], features: FloatArray, cut: Collection[int]) -> str:
        name = self._store.name("texts", self._encoder, text_digest("texts 3", self._encoder.digest, *texts))
        # ASCII escapes, since a text from a model may hold characters that UTF-8 cannot.
        said = {"texts": json.dumps(list(texts)), "cut": json.dumps(sorted(cut))}
        self._store.write_rows(name, features, {"encoder": self._encoder.digest, **said})
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
                texts, cut = texts_of(stored, self._encoder) if stored is not None else ([], [])
                if stored is not None and texts:
                    self._remember(texts, stored.array, cut)
                    if len(texts) < _LARGE:
                        small[entry.name] = texts
        if len(small) >= _MANY_FILES:
            self._put_together(small)

    def _put_together(self, small: dict[str, list[str]]) -> None:
        """Replace small files by one; a store that cannot be written stays as it is."""
        texts = list(dict.fromkeys(text for held in small.values() for text in held))
        with contextlib.suppress(SetupError):
            cut = [i for i, text in enumerate(texts) if text in self._cut]
            name = self._write(texts, self.rows(texts), cut)
            self._seen.add(name)
            if self._store.read_rows(name, self._encoder.dim) is not None:
                for old in small.keys() - {name}:
                    self._store.files.delete(old)

    def _remember(self, texts: Sequence[str], features: FloatArray, cut: Collection[int]) -> None:
        self._cut.update(texts[i] for i in cut)
        for text, row in zip(texts, features, strict=True):
            self._rows.setdefault(text, row)


def texts_of(stored: StoredArray, encoder: EncoderInfo) -> tuple[list[str], list[int]]:
    """Return the texts whose rows a file holds, in their order, and the places of those that were cut.

    None where it is not this encoder's, and of a version that did not say which texts were cut.
    """
    if stored.metadata.get("encoder") != encoder.digest:
        return [], []
    try:
        texts, cut = (read_json(stored.metadata[key]) for key in ("texts", "cut"))
    except (KeyError, ValueError):
        return [], []
    whole = isinstance(texts, list) and len(texts) == len(stored.array)
    return (texts, cut) if whole and isinstance(cut, list) and all(i in range(len(texts)) for i in cut) else ([], [])

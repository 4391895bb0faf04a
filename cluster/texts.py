"""The texts an encoder has embedded, each of them once: a generation adds few texts to many.

Every batch of new texts adds one file, which lists them; all files are read when a text is first asked for. Files are
only ever added, so programs can share the folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cluster.store import EmbeddingStore
from evaluation.features import FloatArray
from immuno.records import EncoderInfo, text_digest


class TextCache:
    """The stored texts of one encoder, and their embeddings."""

    def __init__(self, store: EmbeddingStore, encoder: EncoderInfo) -> None:
        self._store = store
        self._encoder = encoder
        self._seen: set[Path] = set()
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
        path = self._store.path("texts", self._encoder, text_digest("texts", self._encoder.digest, *texts))
        # ASCII escapes, since a text from a model may hold characters that UTF-8 cannot.
        self._store.write_rows(path, features, {"encoder": self._encoder.digest, "texts": json.dumps(texts)})
        self._remember(texts, features)
        self._seen.add(path)

    def _read_new_files(self) -> None:
        found = set(self._store.folder("texts", self._encoder).glob("*/*.safetensors"))
        for path in sorted(found - self._seen):
            self._seen.add(path)
            stored = self._store.read_rows(path, self._encoder.dim)
            if stored is None or stored.metadata.get("encoder") != self._encoder.digest:
                continue
            try:
                texts = json.loads(stored.metadata["texts"])
            except (KeyError, ValueError):
                continue
            if isinstance(texts, list) and len(texts) == len(stored.features):
                self._remember(texts, stored.features)

    def _remember(self, texts: Sequence[str], features: FloatArray) -> None:
        for text, row in zip(texts, features, strict=True):
            self._rows.setdefault(text, row)

"""Embedded images, and the small protocols through which the rest of the system gets embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from immuno.errors import SetupError
from immuno.records import EncoderInfo, ImageSet, SkippedImage, Split

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """The embeddings of one image set.

    `features` (n, d) float32 with unit rows; `ids` and `label_names` have n entries, in the order of the rows.
    Images that could not be read are missing from the rows and listed in `skipped`.
    """

    name: str
    split: Split
    features: FloatArray
    ids: tuple[str, ...]
    label_names: tuple[str, ...]
    paths: tuple[str, ...]
    skipped: tuple[SkippedImage, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def labels(self, classes: Sequence[str]) -> IntArray:
        """Return (n,) indices into `classes`. Raises SetupError for a label that is not a class."""
        index = {name: k for k, name in enumerate(classes)}
        unknown = sorted(set(self.label_names) - set(index))
        if unknown:
            raise SetupError(
                f"set '{self.name}' has images of {len(unknown)} label(s) that are not in the class list "
                f"(first: '{unknown[0]}'); name its folders as in the class list, or correct the list"
            )
        return np.array([index[name] for name in self.label_names], dtype=np.int64)

    def take(self, rows: IntArray) -> FeatureSet:
        """Return the given rows as a set of their own (same name and split; nothing skipped)."""
        return FeatureSet(
            name=self.name,
            split=self.split,
            features=self.features[rows],
            ids=tuple(self.ids[i] for i in rows),
            label_names=tuple(self.label_names[i] for i in rows),
            paths=tuple(self.paths[i] for i in rows),
        )


class TextEmbedder(Protocol):
    """Embeds texts. This is all that the agents' room sees of an encoder."""

    @property
    def encoder(self) -> EncoderInfo:
        """What fixes the embeddings."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Return (len(texts), d) float32 unit rows. Order is kept; equal texts give equal rows."""
        ...


class Embedder(TextEmbedder, Protocol):
    """Embeds texts and images."""

    def embed_images(self, images: ImageSet) -> FeatureSet:
        """Return a set's embeddings, rows in the order of its samples; unreadable images are skipped and listed."""
        ...

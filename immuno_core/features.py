"""Embedded images, and the small protocols through which the rest of the system gets embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from immuno_core.errors import SetupError
from immuno_core.records import EncoderInfo, FailedImage, ImageSet, Split, text_digest

FloatArray = NDArray[np.float32]
Floats = NDArray[np.float64]
"""What is measured, as against embeddings."""
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """The embeddings of one image set.

    `features` (n, d) float32 with unit rows; `ids` and `label_names` have n entries, in the order of the rows. From an
    embedder `features` is read-only and mapped from a file: rows that are not looked at take no memory, so whoever
    takes large sets in blocks (immuno_core.arrays) needs memory for one block.
    Images that could not be read are missing from the rows and listed in `skipped`.
    """

    name: str
    split: Split
    features: FloatArray
    ids: tuple[str, ...]
    label_names: tuple[str, ...]
    paths: tuple[str, ...]
    skipped: tuple[FailedImage, ...] = ()
    local: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """What was computed from patch embeddings: (n,) by LocalRequest.key. Patches themselves are kept nowhere."""

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
            local={key: values[rows] for key, values in self.local.items()},
        )


@dataclass(frozen=True, slots=True, eq=False)
class LocalRequest:
    """What a score wants of each image's patches: max over patches i and classes k of softmax_k(c(x_i, t_k) / T).

    `texts` (K, d) float32 unit rows; `temperature` T > 0. That is the local term of GL-MCM (arXiv 2304.04521).
    """

    texts: FloatArray
    temperature: float

    @property
    def key(self) -> str:
        """What names the answer: a digest of the texts and the temperature."""
        return text_digest(hashlib.sha256(self.texts.tobytes()).hexdigest(), repr(float(self.temperature)))


class TextEmbedder(Protocol):
    """Embeds texts. This is all that the agents' room sees of an encoder."""

    @property
    def encoder(self) -> EncoderInfo:
        """What fixes the embeddings."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Return (len(texts), d) float32 unit rows. Order is kept; equal texts give equal rows."""
        ...

    def cut_texts(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Return those of the texts that are longer than what the encoder reads: it sees their beginnings only."""
        ...


def embed_whole(embedder: TextEmbedder, texts: Sequence[str], *, what: str) -> FloatArray:
    """Return `embed_texts`. Raises SetupError for texts that the encoder does not read to their ends.

    Two of them that begin alike would be one; `what` they are is part of the error, which names the first.
    """
    rows = embedder.embed_texts(texts)
    if cut := embedder.cut_texts(texts):
        raise SetupError(
            f"{len(cut)} of the {len(set(texts))} {what} have more tokens than '{embedder.encoder.model}' reads, their "
            f"template included (first: {cut[0]!r:.300}); shorten them, or the template"
        )
    return rows


class Embedder(TextEmbedder, Protocol):
    """Embeds texts and images."""

    def embed_images(self, images: ImageSet) -> FeatureSet:
        """Return a set's embeddings, rows in the order of its samples; unreadable images are skipped and listed."""
        ...

    def local_matching(self, images: FeatureSet, request: LocalRequest) -> NDArray[np.float64]:
        """Return the request's answer (n,) for the images of an embedded set.

        Raises SetupError for an encoder that has no patch embeddings in the space of its texts.
        """
        ...

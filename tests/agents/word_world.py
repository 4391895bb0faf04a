"""A world whose images and texts are sums of word vectors: the loop runs on it in seconds, without a model or Ray."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from agents.feedback import feedback_of
from evaluation.space import Bank, Feedback, Space
from immuno_core.features import FeatureSet, FloatArray
from immuno_core.records import EncoderInfo, Split, text_digest

DIM = 96
CLASSES = ("fish", "car", "house", "tree")
LOOK_ALIKES = {"fish": "shark", "car": "truck", "house": "barn", "tree": "cactus"}
PLACES = ("desert", "kitchen", "snow")
USUAL = ("grass", "stone", "wall", "cloud", "leaf", "sand")
"""What known images also show: as much beside the class as outliers do, so that closeness alone cannot tell them."""
_SILENT = {"a", "an", "the", "photo", "of", "in", "on", "at", "something"}


@cache
def word_vector(word: str) -> FloatArray:
    rng = np.random.default_rng(int(text_digest(word)[:12], 16))
    vector = rng.normal(size=DIM)
    unit: FloatArray = (vector / np.linalg.norm(vector)).astype(np.float32)
    unit.flags.writeable = False
    return unit


def embed(words: Sequence[str], noise: FloatArray | None = None) -> FloatArray:
    total = sum((word_vector(word) for word in words), np.zeros(DIM, np.float32)) + 0.5 * word_vector("photo")
    total = total if noise is None else total + noise
    return (total / np.linalg.norm(total)).astype(np.float32)


class WordEmbedder:
    """Embeds a text as the sum of its words."""

    def __init__(self) -> None:
        self.texts_embedded = 0

    @property
    def encoder(self) -> EncoderInfo:
        return EncoderInfo("words", None, DIM, 25.0, 0, "fp32", "w" * 64, "p" * 64)

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        self.texts_embedded += len(texts)
        rows = [embed([w for w in re.findall(r"\w+", text.lower()) if w not in _SILENT]) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, DIM), np.float32)

    def cut_texts(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Those of more than 20 words."""
        return tuple(text for text in texts if len(text.split()) > 20)


def _images(name: str, split: Split, contents: Sequence[tuple[str, tuple[str, ...]]], seed: int) -> FeatureSet:
    rng = np.random.default_rng(seed)
    rows = [embed(words, rng.normal(scale=0.09, size=DIM).astype(np.float32)) for _, words in contents]
    ids = tuple(f"{i:04d}.png" for i in range(len(rows)))
    return FeatureSet(name, split, np.stack(rows), ids, tuple(label for label, _ in contents), ids)


def known(split: Split, count: int, seed: int) -> FeatureSet:
    return _images("id", split, [(c, (c, USUAL[i % len(USUAL)])) for c in CLASSES for i in range(count)], seed)


def near(split: Split, count: int, seed: int) -> FeatureSet:
    return _images("near", split, [(c, (c, LOOK_ALIKES[c])) for c in CLASSES for _ in range(count)], seed)


def contextual(split: Split, count: int, seed: int) -> FeatureSet:
    return _images("contextual", split, [(c, (c, p)) for c in CLASSES for p in PLACES for _ in range(count)], seed)


@cache
def space() -> Space:
    """What a session measures on."""
    fit, images = known("fit", 60, 1), known("feedback", 40, 2)
    outliers = {"near": near("feedback", 25, 3), "contextual": contextual("feedback", 10, 4)}
    return Space(
        classes=CLASSES,
        texts=WordEmbedder().embed_texts([f"a photo of a {c}." for c in CLASSES]),
        logit_scale=25.0,
        fit=fit,
        fit_labels=fit.labels(CLASSES),
        bank=Bank.empty(DIM),
        feedback=Feedback(images, images.labels(CLASSES), outliers),
    )


def with_outliers(**outliers: FeatureSet) -> Space:
    """The same with these outliers."""
    return replace(space(), feedback=replace(feedback_of(space()), outliers=outliers))

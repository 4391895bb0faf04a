"""What the model is shown of the mistakes: mis-accepted feedback images, told in words.

Per image: the class that accepted it, its score, and the words of a vocabulary nearest to it in the image-text space. A
word counts as near by how much nearer it is to this image than to known images on average: raw cosines favour the same
few words for every image. File names and outlier categories are never shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.boundary import Boundary
from agents.briefing import ClassBriefing, SampleBriefing, WordHit
from agents.feedback import FeedbackData
from agents.memory import Memory
from agents.vocabulary import Vocabulary
from evaluation.bank import Bank
from evaluation.features import FloatArray, TextEmbedder

_SAMPLES_SHOWN = 6
_OTHERS_SHOWN = 300


@dataclass(frozen=True, slots=True)
class MisAccepted:
    """The outliers that one class wrongly accepts: (set name, row) pairs, highest score first."""

    class_name: str
    samples: tuple[tuple[str, int], ...]


def mis_accepted_by_class(data: FeedbackData, boundary: Boundary) -> dict[str, MisAccepted]:
    """Group the mis-accepted outliers by the class that accepts them."""
    grouped: dict[str, list[tuple[float, str, int]]] = {name: [] for name in data.classes}
    for set_name, images in data.outliers.items():
        rows = boundary.mis_accepted(set_name)
        if len(rows):
            predicted = boundary.fitted.predict(images.features[rows])
            for row, k in zip(rows, predicted, strict=True):
                grouped[data.classes[k]].append((boundary.outlier_scores[set_name][row], set_name, int(row)))
    return {
        name: MisAccepted(name, tuple((s, row) for _, s, row in sorted(found, key=lambda f: (-f[0], f[1], f[2]))))
        for name, found in grouped.items()
    }


class Inspector:
    """Tells mis-accepted images in words. Embeds the vocabulary once."""

    def __init__(self, data: FeedbackData, embedder: TextEmbedder, vocabulary: Vocabulary) -> None:
        self._data = data
        class_names = {name.casefold() for name in data.classes}
        self._words: dict[str, tuple[str, ...]] = {
            "noun": tuple(word for word in vocabulary.nouns if word.casefold() not in class_names),
            "place": vocabulary.places,
            "attribute": vocabulary.attributes,
        }
        templates = {"noun": "a photo of a {}.", "place": "a photo {}.", "attribute": "a photo of something {}."}
        self._vectors: dict[str, FloatArray] = {
            kind: embedder.embed_texts([templates[kind].format(word) for word in words])
            for kind, words in self._words.items()
        }
        self._usual = {kind: data.fit.features.mean(axis=0) @ vectors.T for kind, vectors in self._vectors.items()}

    def brief(self, found: MisAccepted, boundary: Boundary, memory: Memory, *, wanted: int) -> ClassBriefing:
        """Return what the model is shown when it is asked for antibodies of one class."""
        name = found.class_name
        return ClassBriefing(
            class_name=name,
            accepted_outliers=len(found.samples),
            samples=[self._sample(set_name, row, boundary, memory.bank) for set_name, row in _spread(found.samples)],
            bank=_texts_to_avoid(memory.bank, name),
            rejected=list(memory.rejected.get(name, ())),
            helped=list(memory.helped.get(name, ())),
            harmed=list(memory.harmed.get(name, ())),
            places=self._places(found.samples),
            guideline=memory.guideline,
            focus=memory.focus,
            wanted=wanted,
        )

    def _sample(self, set_name: str, row: int, boundary: Boundary, bank: Bank) -> SampleBriefing:
        vector = self._data.outliers[set_name].features[row]
        hits = [
            hit
            for kind, most in (("noun", 5), ("place", 2), ("attribute", 2))
            for hit in self._nearest(vector, kind, most)
        ]
        return SampleBriefing(
            score=round(float(boundary.outlier_scores[set_name][row]), 4),
            nearest_words=hits,
            nearest_antibody=bank.texts[int(np.argmax(bank.vectors @ vector))] if len(bank.texts) else None,
        )

    def _nearest(self, vector: NDArray[np.float32], kind: str, most: int) -> list[WordHit]:
        similarity = self._vectors[kind] @ vector
        best = np.argsort(-(similarity - self._usual[kind]), kind="stable")[:most]
        return [WordHit(word=self._words[kind][i], kind=kind, similarity=round(float(similarity[i]), 3)) for i in best]

    def _places(self, samples: Sequence[tuple[str, int]], most: int = 8) -> list[str]:
        """The places most often among the two nearest of the mis-accepted images."""
        votes: Counter[str] = Counter()
        for set_name, row in samples:
            vector = self._data.outliers[set_name].features[row]
            votes.update(hit.word for hit in self._nearest(vector, "place", 2))
        return [word for word, _ in sorted(votes.items(), key=lambda vote: (-vote[1], vote[0]))[:most]]


def _texts_to_avoid(bank: Bank, class_name: str) -> list[str]:
    """The texts that guard a class, and the newest look-alikes of the other classes: they are good for every class."""
    of_class = [text for text, guards in zip(bank.texts, bank.guards, strict=True) if guards == class_name]
    others = [
        text
        for text, kind, guards in zip(bank.texts, bank.kinds, bank.guards, strict=True)
        if kind == "look_alike" and guards != class_name
    ]
    return of_class + others[-_OTHERS_SHOWN:]


def _spread(samples: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return a bounded number of samples spread evenly over the ranking, so that not only the worst few are shown."""
    if len(samples) <= _SAMPLES_SHOWN:
        return list(samples)
    picks = np.linspace(0, len(samples) - 1, _SAMPLES_SHOWN).round().astype(int)
    return [samples[i] for i in picks]

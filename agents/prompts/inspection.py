"""What the model is shown of the mistakes: mis-accepted feedback images, told in words, and as small pictures.

Per image: the class that accepted it, its score, and the words of a vocabulary nearest to it in the image-text space. A
word counts as near by how much nearer it is to this image than to known images on average: raw cosines favour the same
few words for every image. Over all images of a class: the things that would reject most (agents.prompts.promise). Of a
closed vocabulary the words to choose from are offered: such things, and words far from every class. File names and
outlier categories are never shown. Only images of the first half of the feedback are: what the second half confirms
must not have been looked at. A picture, for models that see, is drawn anew, small and without metadata.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.feedback import Boundary, Half, feedback_of, fit_of
from agents.memory import Memory
from agents.prompts.briefing import ClassBriefing, SampleBriefing, WordHit, ranked_words
from agents.prompts.promise import Promise, Sample
from agents.replies import Wanted
from evaluation.antibodies.captions import Captions
from evaluation.antibodies.vocabulary import Vocabulary
from evaluation.space import Bank, Space
from immuno_core.config.methods import MethodConfig
from immuno_core.features import FloatArray, IntArray, TextEmbedder
from immuno_core.images import open_on_white
from immuno_core.text import text_key

SIDE = 160
"""Pixels of the longer side."""
MOST_BYTES = 48_000
"""Of one picture, before base64: a JPEG of this side and quality seldom has a third of it."""
_QUALITY = 80


def thumbnail(path: str) -> str | None:
    """Return the image at `path` (immuno_core.images) as a data URL of a JPEG; None where there is no picture."""
    picture = open_on_white(path, SIDE)
    if picture is None:
        return None
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    content = buffer.getvalue()
    if len(content) > MOST_BYTES:
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}"


_SAMPLES_SHOWN = 6
_THINGS_SHOWN = 16
_PLACES_SHOWN = 8
_OTHERS_SHOWN = 300


def mis_accepted_by_class(space: Space, boundary: Boundary, half: Half) -> dict[str, tuple[Sample, ...]]:
    """Return the mis-accepted outliers of a half by the class that accepts them, each class's highest score first."""
    grouped: dict[str, list[tuple[float, str, int]]] = {name: [] for name in space.classes}
    for set_name, images in feedback_of(space).outliers.items():
        rows = boundary.mis_accepted(set_name, half)
        if len(rows):
            predicted = boundary.fitted.predict(images.features[rows])
            for row, k in zip(rows, predicted, strict=True):
                grouped[space.classes[k]].append((boundary.outlier_scores[set_name][row], set_name, int(row)))
    ranked = {name: sorted(scored, key=lambda sample: (-sample[0], *sample[1:])) for name, scored in grouped.items()}
    return {name: tuple((set_name, row) for _, set_name, row in scored) for name, scored in ranked.items()}


class ShownMistakes(NamedTuple):
    """What the model is shown of one class: the briefing, and pictures that its samples refer to (data URLs)."""

    briefing: ClassBriefing
    images: tuple[str, ...]


class Inspector:
    """Tells mis-accepted images in words. Embeds the vocabulary once."""

    def __init__(
        self, space: Space, embedder: TextEmbedder, vocabulary: Vocabulary, template: str, score: MethodConfig
    ) -> None:
        """`template` is that of captions, `score` what the loop measures with."""
        self._outliers = feedback_of(space).outliers
        class_names = {name.casefold() for name in space.classes}
        self._words: dict[str, tuple[str, ...]] = {
            "noun": tuple(word for word in vocabulary.nouns if word.casefold() not in class_names),
            "place": vocabulary.places,
            "attribute": vocabulary.attributes,
        }
        self._closed = bool(vocabulary.table)
        self._captions = Captions(template, table=vocabulary.table)
        texts = {
            "noun": [self._captions.caption("look_alike", word) for word in self._words["noun"]],
            "place": [f"a photo {place}." for place in vocabulary.places],
            "attribute": [f"a photo of something {attribute}." for attribute in vocabulary.attributes],
        }
        self._vectors: dict[str, FloatArray] = {kind: embedder.embed_texts(some) for kind, some in texts.items()}
        self._promise = Promise(space, self._words["noun"], self._vectors["noun"], score)
        usual = fit_of(space)[0].features.mean(axis=0)
        self._usual = {kind: usual @ vectors.T for kind, vectors in self._vectors.items()}

    def brief_all(
        self,
        wanted: Mapping[str, Wanted],
        mistakes: Mapping[str, Sequence[Sample]],
        boundary: Boundary,
        memory: Memory,
        *,
        pictures: int,
    ) -> dict[str, ShownMistakes]:
        """Return what the model is shown when it is asked for antibodies of classes with these mis-accepted outliers.

        At most `pictures` of a class's go along as images. A thing stands first for one class only: look-alikes act on
        all of them.
        """
        ranked = self._promise.ranked(boundary, mistakes, wanted)
        given = {text_key(text) for text in memory.bank.worded.texts}
        briefed = {}
        for name, asked in wanted.items():
            tried = given | {text_key(text) for text, _ in memory.turned_down(name)}
            things = self._fresh(ranked[name], tried, max(_THINGS_SHOWN, asked.look_alikes))
            far = self._fresh(self._promise.far, tried | {*map(self._key, things)}, asked.total) if self._closed else []
            given |= {*map(self._key, (*things[: asked.look_alikes], *far))}
            briefed[name] = self._brief(name, mistakes[name], boundary, memory, asked, pictures, things, far)
        return briefed

    def _key(self, noun: str) -> str:
        return text_key(self._captions.caption("look_alike", noun))

    def _fresh(self, ranked: IntArray, tried: Collection[str], most: int) -> list[str]:
        """The first so many nouns of a ranking that were not tried."""
        found: list[str] = []
        for i in ranked:
            if len(found) == most:
                break
            if self._key(noun := self._words["noun"][i]) not in tried:
                found.append(noun)
        return found

    def _brief(
        self,
        name: str,
        mistakes: Sequence[Sample],
        boundary: Boundary,
        memory: Memory,
        wanted: Wanted,
        pictures: int,
        things: Sequence[str],
        far: Sequence[str],
    ) -> ShownMistakes:
        shown = _spread(mistakes)
        images: list[str] = []
        samples = []
        for set_name, row in shown:
            picture = thumbnail(self._outliers[set_name].paths[row]) if len(images) < pictures else None
            if picture is not None:
                images.append(picture)
            samples.append(self._sample(set_name, row, boundary, image=None if picture is None else len(images)))
        briefing = ClassBriefing(
            class_name=name,
            accepted_outliers=len(mistakes),
            threshold=boundary.threshold,
            samples=samples,
            bank=_texts_to_avoid(memory.bank.unmatured, name),
            rejected=list(memory.turned_down(name)),
            helped=list(memory.helped.get(name, ())),
            harmed=list(memory.harmed.get(name, ())),
            things=things or self._most_near(mistakes, "noun", of_each=5, most=_THINGS_SHOWN),
            offered=(*things, *far) if self._closed else (),
            places=self._most_near(mistakes, "place", of_each=2, most=_PLACES_SHOWN),
            guideline=memory.guideline,
            wanted=wanted,
        )
        return ShownMistakes(briefing, tuple(images))

    def _sample(self, set_name: str, row: int, boundary: Boundary, *, image: int | None) -> SampleBriefing:
        vector = self._outliers[set_name].features[row]
        hits = [
            hit
            for kind, most in (("noun", 5), ("place", 2), ("attribute", 2))
            for hit in self._nearest(vector, kind, most)
        ]
        closest = boundary.fitted.closest(vector)
        return SampleBriefing(
            score=round(float(boundary.outlier_scores[set_name][row]), 4),
            nearest_words=hits,
            nearest_antibody=None if closest is None else boundary.fitted.bank.texts[closest.antibody],
            missing=None if closest is None else max(0.0, -closest.exceedance),
            image=image,
        )

    def _nearest(self, vector: NDArray[np.float32], kind: str, most: int) -> list[WordHit]:
        similarity = self._vectors[kind] @ vector
        best = np.argsort(-(similarity - self._usual[kind]), kind="stable")[:most]
        return [WordHit(word=self._words[kind][i], kind=kind, similarity=round(float(similarity[i]), 3)) for i in best]

    def _most_near(self, samples: Sequence[Sample], kind: str, *, of_each: int, most: int) -> list[str]:
        """The words most often among the nearest of all the mis-accepted images."""
        vectors = (self._outliers[set_name].features[row] for set_name, row in samples)
        return ranked_words(self._nearest(vector, kind, of_each) for vector in vectors)[:most]


def _texts_to_avoid(bank: Bank, class_name: str) -> list[str]:
    """The texts that guard a class, and the newest look-alikes of the other classes: they are good for every class."""
    of_class = [text for text, guards in zip(bank.texts, bank.guards, strict=True) if guards == class_name]
    others = [
        text
        for text, kind, guards in zip(bank.texts, bank.kinds, bank.guards, strict=True)
        if kind == "look_alike" and guards != class_name
    ]
    return of_class + others[-_OTHERS_SHOWN:]


def _spread(samples: Sequence[Sample]) -> list[Sample]:
    """Return a bounded number of samples spread evenly over the ranking, so that not only the worst few are shown."""
    if len(samples) <= _SAMPLES_SHOWN:
        return list(samples)
    picks = np.linspace(0, len(samples) - 1, _SAMPLES_SHOWN).round().astype(int)
    return [samples[i] for i in picks]

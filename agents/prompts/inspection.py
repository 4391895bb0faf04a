"""What the model is shown of the mistakes: mis-accepted feedback images, told in words, and as small pictures.

Per image: the words of a vocabulary nearest to it in the image-text space, and the known class that came second. A
word counts as near by how much nearer it is to this image than to known images on average: raw cosines favour the same
few words for every image. Over all images of a class: the things that would reject most (agents.prompts.promise). Of a
closed vocabulary the words to choose from are offered: such things, and words far from every class. File names and
outlier categories are never shown. Only images of the first half of the feedback are: what the second half confirms
must not have been looked at. A picture, for models that see, is drawn anew, small and without metadata.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.feedback import Boundary, Half, feedback_of, fit_of
from agents.memory import Memory
from agents.policies import RequestKind
from agents.prompts.briefing import ClassBriefing, SampleBriefing, ranked_words
from agents.prompts.promise import Promise, Sample
from agents.prompts.remembered import own_briefing
from agents.replies import Wanted
from evaluation.antibodies.captions import Captions, spoken
from evaluation.antibodies.maturation import unmatured_text
from evaluation.antibodies.vocabulary import Vocabulary
from evaluation.space import Space
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
_KNOWN_SHOWN = 30
_OF_A_SAMPLE = (("noun", 4), ("place", 2), ("attribute", 1))
"""Words told of one image."""


def mis_accepted_by_class(space: Space, boundary: Boundary, half: Half) -> dict[str, tuple[Sample, ...]]:
    """Return the mis-accepted outliers of a half by the class that accepts them, each class's highest score first."""
    grouped: dict[str, list[tuple[float, str, int]]] = {name: [] for name in space.classes}
    for set_name in feedback_of(space).outliers:
        rows = boundary.mis_accepted(set_name, half)
        if len(rows):
            predicted = boundary.judged.outliers[set_name].nearest[rows]
            for row, k in zip(rows, predicted, strict=True):
                grouped[space.classes[k]].append((boundary.outlier_scores[set_name][row], set_name, int(row)))
    ranked = {name: sorted(scored, key=lambda sample: (-sample[0], *sample[1:])) for name, scored in grouped.items()}
    return {name: tuple((set_name, row) for _, set_name, row in scored) for name, scored in ranked.items()}


class ShownMistakes(NamedTuple):
    """What the model is shown of one class: the briefing, and pictures that its samples refer to (data URLs)."""

    briefing: ClassBriefing
    images: tuple[str, ...]

    @property
    def kind(self) -> RequestKind:
        """What it is shown with."""
        return "class" if self.briefing.class_name else "group" if self.briefing.group else "far"


class OfNoClass(NamedTuple):
    """What a request is about that is not for one class: a group of classes, or none in particular; and the outliers
    that it is shown."""

    group: tuple[str, ...]
    mistakes: Sequence[Sample]


class Inspector:
    """Tells mis-accepted images in words. Embeds the vocabulary once."""

    def __init__(
        self, space: Space, embedder: TextEmbedder, vocabulary: Vocabulary, template: str, score: MethodConfig
    ) -> None:
        """`template` is that of captions, `score` what the loop measures with."""
        self._classes, self._texts, self._template = space.classes, space.texts, template
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
        others: Mapping[str, OfNoClass],
        pictures: int,
    ) -> dict[str, ShownMistakes]:
        """Return what the model is shown when it is asked for antibodies of classes with these mis-accepted outliers,
        and of `others`; `wanted` has all of them.

        At most `pictures` of the outliers of each go along as images. A thing stands first for one class only:
        look-alikes act on all of them.
        """
        ranked = self._promise.ranked(boundary, mistakes, [name for name in wanted if name not in others])
        for subject, one in others.items():
            ranked |= self._promise.ranked(boundary, {subject: one.mistakes}, [subject])
        given = {text_key(text) for text in memory.bank.worded.texts}
        briefed = {}
        for name, asked in wanted.items():
            tried = given | {text_key(text) for text, _ in memory.turned_down(name)}
            things = self._fresh(ranked[name], tried, max(_THINGS_SHOWN, asked.look_alikes))
            far = self._fresh(self._promise.far, tried | {*map(self._key, things)}, asked.total) if self._closed else []
            given |= {*map(self._key, (*things[: asked.look_alikes], *far))}
            other = others.get(name)
            samples = mistakes[name] if other is None else other.mistakes
            about = self._about(name, memory) if other is None else {"group": tuple(map(spoken, other.group))}
            about["known"] = self._known_near((name,) if other is None else other.group)
            briefed[name] = self._brief(samples, boundary, asked, pictures, things, far, about)
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

    def _about(self, name: str, memory: Memory) -> dict[str, Any]:
        return {"class_name": spoken(name) or name, **own_briefing(memory, name, self._template)}

    def _brief(
        self,
        mistakes: Sequence[Sample],
        boundary: Boundary,
        wanted: Wanted,
        pictures: int,
        things: Sequence[str],
        far: Sequence[str],
        about: Mapping[str, Any],
    ) -> ShownMistakes:
        shown = _spread(mistakes)
        images: list[str] = []
        samples = []
        for set_name, row in shown:
            picture = thumbnail(self._outliers[set_name].paths[row]) if len(images) < pictures else None
            if picture is not None:
                images.append(picture)
            samples.append(self._sample(set_name, row, boundary, image=None if picture is None else len(images)))
        places = self._most_near(mistakes, "place", of_each=2, most=_PLACES_SHOWN) if wanted.places else ()
        near = things or self._most_near(mistakes, "noun", of_each=5, most=_THINGS_SHOWN)
        briefing = ClassBriefing(
            accepted_outliers=len(mistakes),
            samples=tuple(samples),
            near_things=tuple(near),
            offered=(*things, *far) if self._closed else (),
            near_places=tuple(places),
            wanted=wanted,
            **about,
        )
        return ShownMistakes(briefing, tuple(images))

    def confused(self, mistakes: Mapping[str, Sequence[Sample]], size: int) -> list[tuple[str, ...]]:
        """Return groups of at most `size` classes that wrongly accept the same outliers, the most confused first.

        Each begins with the class about which it is; the classes that came second for its outliers, or for which it
        came second, follow, then those with the nearest names.
        """
        pairs: Counter[tuple[int, int]] = Counter()
        index = {name: k for k, name in enumerate(self._classes)}
        for name, samples in mistakes.items():
            for set_name, row in samples:
                second = self._runner_up(self._outliers[set_name].features[row], index[name])
                pairs.update([(index[name], second), (second, index[name])])
        most = Counter(k for (k, _), count in pairs.items() for _ in range(count))
        groups = []
        for k, _ in sorted(most.items(), key=lambda item: (-item[1], item[0])):
            near = self._near_classes([k])
            others = sorted(near, key=lambda j: (-pairs[k, j], near.index(j)))
            groups.append(tuple(self._classes[j] for j in (k, *others[: size - 1])))
        return groups

    def _known_near(self, names: Sequence[str]) -> tuple[str, ...]:
        """The known classes nearest to these."""
        near = self._near_classes([self._classes.index(name) for name in names])
        return tuple(spoken(self._classes[k]) for k in near[:_KNOWN_SHOWN])

    def _near_classes(self, rows: Sequence[int]) -> list[int]:
        """The other classes, those with the nearest names first; nearest to whichever of `rows`, or to all."""
        similarity = (self._texts[rows] @ self._texts.T).max(axis=0) if rows else self._texts @ self._texts.mean(axis=0)
        return [int(k) for k in np.argsort(-similarity, kind="stable") if k not in rows]

    def _runner_up(self, vector: NDArray[np.float32], accepted: int) -> int:
        order = np.argsort(-(self._texts @ vector), kind="stable")
        return int(next((k for k in order if k != accepted), accepted))

    def _sample(self, set_name: str, row: int, boundary: Boundary, *, image: int | None) -> SampleBriefing:
        vector = self._outliers[set_name].features[row]
        near = {kind: tuple(self._nearest(vector, kind, most)) for kind, most in _OF_A_SAMPLE}
        closest = boundary.fitted.closest(vector)
        accepted = int(boundary.fitted.predict(vector[None])[0])
        antibody = None if closest is None else boundary.fitted.bank.antibodies[closest.antibody]
        captions = Captions(self._template, "" if antibody is None else antibody.guards)
        return SampleBriefing(
            things=near["noun"],
            places=near["place"],
            looks=near["attribute"],
            runner_up=spoken(self._classes[self._runner_up(vector, accepted)]),
            antibody="" if antibody is None else captions.phrase(antibody.kind, unmatured_text(antibody.text)),
            missing=None if closest is None else max(0.0, -closest.exceedance),
            image=image,
        )

    def _nearest(self, vector: NDArray[np.float32], kind: str, most: int) -> list[str]:
        similarity = self._vectors[kind] @ vector
        best = np.argsort(-(similarity - self._usual[kind]), kind="stable")[:most]
        return [self._words[kind][i] for i in best]

    def _most_near(self, samples: Sequence[Sample], kind: str, *, of_each: int, most: int) -> list[str]:
        """The words most often among the nearest of all the mis-accepted images."""
        vectors = (self._outliers[set_name].features[row] for set_name, row in samples)
        return ranked_words(self._nearest(vector, kind, of_each) for vector in vectors)[:most]


def _spread(samples: Sequence[Sample]) -> list[Sample]:
    """Return a bounded number of samples spread evenly over the ranking, so that not only the worst few are shown."""
    if len(samples) <= _SAMPLES_SHOWN:
        return list(samples)
    picks = np.linspace(0, len(samples) - 1, _SAMPLES_SHOWN).round().astype(int)
    return [samples[i] for i in picks]

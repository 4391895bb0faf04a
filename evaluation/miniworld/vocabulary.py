"""The words of the mini-world: what can be shown, where, in which colours, and how a caption says it.

Nothing is drawn here. Every other module of the package takes its names from this one and its vocabulary.toml, so a
category, a colour or a context exists exactly once. Captions are used only to train the model; the world itself is
folders of images.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")
_DATA: Final[dict[str, Any]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def _tuples(table: Mapping[str, Sequence[T]]) -> dict[str, tuple[T, ...]]:
    return {name: tuple(values) for name, values in table.items()}


LOOK_ALIKES: Final[dict[str, tuple[str, str]]] = {
    name: (known["look_alikes"][0], known["look_alikes"][1]) for name, known in _DATA["classes"].items()
}
"""Each known class with two things that look like it: one for the sets `near`, one for the sealed `near_unseen`."""
PLAUSIBLE_CONTEXTS: Final = {name: tuple[str, ...](known["contexts"]) for name, known in _DATA["classes"].items()}
"""Where each known class can be. Anywhere else it is a contextual anomaly."""
KNOWN_CLASSES: Final[tuple[str, ...]] = tuple(LOOK_ALIKES)
FILLERS: Final[tuple[str, ...]] = ("cactus", "tent", "snowman", "key", "star", "heart", "ladder", "chair")
"""Things that look like no known class."""
CATEGORIES: Final[tuple[str, ...]] = (
    KNOWN_CLASSES + tuple(name for pair in LOOK_ALIKES.values() for name in pair) + FILLERS
)
SYNONYMS: Final[dict[str, tuple[str, ...]]] = _tuples(_DATA["nouns"])
COLOURS: Final[dict[str, tuple[int, ...]]] = _tuples(_DATA["colours"])
"""Colour names with their RGB values, 0 to 255."""
TEXTURES: Final[tuple[str, ...]] = ("plain", "striped", "dotted", "checkered")
TEXTURE_PROBABILITIES: Final[tuple[float, ...]] = (0.55, 0.15, 0.15, 0.15)
CONTEXTS: Final[dict[str, tuple[str, ...]]] = _tuples(_DATA["contexts"])
"""The places a thing can be in, with the phrases a caption uses for each."""
UNSEEN_CONTEXTS: Final[tuple[str, ...]] = ("lava", "desert")
"""Contexts kept for the sealed set `contextual_unseen`; plausible for no known class."""
SEEN_CONTEXTS: Final[tuple[str, ...]] = tuple(name for name in CONTEXTS if name not in UNSEEN_CONTEXTS)
CAPTION_TEMPLATES: Final[dict[str, float]] = _DATA["templates"]
# How often a caption mentions what the picture shows. All well below 1, or the model would need every word to match.
_TEXTURE_MENTIONED: Final = 0.5
_COLOUR_MENTIONED: Final = 0.45
_CONTEXT_MENTIONED: Final = 0.55
# People prompt CLIP with "a photo of a {}." for every class, "apple" included. Both habits are in the captions, so that
# a full stop or a wrong article does not push a prompt away from its class.
_FULL_STOP: Final = 0.4
_WRONG_ARTICLE: Final = 0.3
# "the sun", "the moon": things there is one of.
_DEFINITE: Final = {"sun": 0.4, "moon": 0.4}


class Scene(NamedTuple):
    """What one picture shows: a category in a context, with the colour and texture of its main part."""

    category: str
    context: str
    colour: str
    texture: str


def pick(choices: Sequence[T], rng: np.random.Generator, probabilities: Sequence[float] | None = None) -> T:
    """One of `choices`; unlike `rng.choice` it returns the element itself and not a numpy scalar."""
    return choices[int(rng.choice(len(choices), p=probabilities))]


def nouns(category: str) -> tuple[str, ...]:
    """The nouns by which captions call a category; the first one is its main name."""
    return SYNONYMS.get(category, (category,))


def impossible_contexts(known_class: str, among: Sequence[str] = SEEN_CONTEXTS) -> tuple[str, ...]:
    """The contexts of `among` in which a known class cannot be."""
    return tuple(context for context in among if context not in PLAUSIBLE_CONTEXTS[known_class])


def sample_scene(category: str, context: str, rng: np.random.Generator) -> Scene:
    """A scene with a colour and a texture drawn at random: they say nothing about the category."""
    return Scene(category, context, pick(tuple(COLOURS), rng), pick(TEXTURES, rng, TEXTURE_PROBABILITIES))


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """A caption of a scene, which mentions texture, colour and context only sometimes."""
    words = pick(nouns(scene.category), rng)
    if scene.texture != "plain" and rng.random() < _TEXTURE_MENTIONED:
        words = f"{scene.texture} {words}"
    if rng.random() < _COLOUR_MENTIONED:
        words = f"{scene.colour} {words}"
    article = "the" if rng.random() < _DEFINITE.get(scene.category, 0.0) else _article(words, rng)
    words = f"{article} {words}"
    if rng.random() < _CONTEXT_MENTIONED:
        words = f"{words} {pick(CONTEXTS[scene.context], rng)}"
    template = pick(tuple(CAPTION_TEMPLATES), rng, tuple(CAPTION_TEMPLATES.values()))
    return template.format(words) + _ending(rng)


def object_prompt(category: str, rng: np.random.Generator) -> str:
    """A prompt that names the category and nothing else."""
    noun = pick(nouns(category), rng)
    return pick(tuple(CAPTION_TEMPLATES), rng).format(f"{_article(noun, rng)} {noun}") + _ending(rng)


def vocabulary_words() -> tuple[str, ...]:
    """Every word a caption can contain, sorted."""
    phrases = [noun for category in CATEGORIES for noun in nouns(category)]
    phrases += [phrase for context_phrases in CONTEXTS.values() for phrase in context_phrases]
    phrases += [template.replace("{}", "") for template in CAPTION_TEMPLATES]
    phrases += [*COLOURS, *TEXTURES, "a an the"]
    return tuple(sorted({word for phrase in phrases for word in phrase.split()}))


def _article(words: str, rng: np.random.Generator) -> str:
    wrong = rng.random() < _WRONG_ARTICLE
    return "an" if words[0] in "aeiou" and not wrong else "a"


def _ending(rng: np.random.Generator) -> str:
    return "." if rng.random() < _FULL_STOP else ""

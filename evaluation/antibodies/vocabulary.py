"""Word lists: common nouns, places and attributes of everyday English, shipped as plain text files; and WordNet's.

The shipped one was written from general knowledge, category by category, without regard to any benchmark: which of its
words name outliers of a data set is not known to it. The loop measures words against images; the lexicon model combines
them.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from immuno_core.errors import SetupError
from immuno_core.files import read_text
from immuno_core.text import clean_text

WORDS = Path(__file__).parent / "words"
LONGEST_WORD = 60


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words in the order of their files, each entry lower case and said once in its tuple."""

    nouns: tuple[str, ...]
    """Concrete things: "shark", "fire truck"."""
    places: tuple[str, ...]
    """Settings, as phrases that can follow a noun: "in the desert", "at night"."""
    attributes: tuple[str, ...]
    """What can precede a noun: "striped", "wooden", "toy"."""


def load_vocabulary(path: Path | None = None) -> Vocabulary:
    """Return the shipped vocabulary, or that of a folder with nouns.txt, places.txt and attributes.txt.

    One entry per line; empty lines and lines that begin with # are skipped. Raises SetupError naming file and line.
    """
    folder = WORDS if path is None else path
    return Vocabulary(*(read_words(folder / f"{name}.txt") for name in ("nouns", "places", "attributes")))


class NounsAndAdjectives(NamedTuple):
    """Words of two kinds, each said once in its tuple."""

    nouns: tuple[str, ...]
    adjectives: tuple[str, ...]


def wordnet() -> NounsAndAdjectives:
    """Return all nouns and adjectives of WordNet that are single words, some 57,000 and 21,000, lower case.

    They come with the package spacy-lookups-data. Raises SetupError where it is not installed.
    """
    try:
        packed = (resources.files("spacy_lookups_data") / "data" / "en_lemma_index.json.gz").read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        raise SetupError(
            'the word list "wordnet" comes with a package that is not installed; pip install "immuno-vlm[words]", or '
            "name a file in antibodies.words"
        ) from None
    index = json.loads(gzip.decompress(packed))
    return NounsAndAdjectives(*(tuple(sorted({clean_text(word) for word in index[part]})) for part in ("noun", "adj")))


def read_words(path: Path) -> tuple[str, ...]:
    """Return the entries of one word list, in order. Raises SetupError naming file and line."""
    content = read_text(path, "word list", hint="a vocabulary is a folder of nouns.txt, places.txt and attributes.txt")
    words: dict[str, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if word != clean_text(word).lower() or len(word) > LONGEST_WORD:
            raise SetupError(
                f"{path} line {number}: write one entry per line, in lower case, without control characters "
                f"or double spaces, at most {LONGEST_WORD} characters"
            )
        if word in words:
            raise SetupError(f"{path} line {number}: '{word}' is already on line {words[word]}; remove one of them")
        words[word] = number
    if not words:
        raise SetupError(f"{path} holds no words; write one per line")
    return tuple(words)

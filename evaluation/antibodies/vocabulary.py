"""Word lists: common nouns, places and attributes of everyday English, shipped as plain text files; and WordNet's.

A table of texts that were embedded elsewhere is a vocabulary too, a closed one: what it does not hold cannot be said.

The shipped one was written from general knowledge, category by category, without regard to any benchmark: which of its
words name outliers of a data set is not known to it. The loop measures words against images; the lexicon model combines
them.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from immuno_core.errors import SetupError
from immuno_core.files import read_text
from immuno_core.text import clean_text, text_key

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
    table: Mapping[str, str] = field(default_factory=dict)
    """Of a closed one, all texts that can be embedded, by text_key; empty where any text can."""


def load_vocabulary(path: Path | None = None) -> Vocabulary:
    """Return the shipped vocabulary, or that of a folder with nouns.txt, places.txt and attributes.txt.

    One entry per line; empty lines and lines that begin with # are skipped. Raises SetupError naming file and line.
    """
    folder = WORDS if path is None else path
    nouns, places, attributes = (read_words(folder / f"{name}.txt") for name in ("nouns", "places", "attributes"))
    return Vocabulary(nouns, places, attributes)


def closed_vocabulary(texts: Sequence[str], template: str, class_texts: Iterable[str]) -> Vocabulary:
    """Return the vocabulary of a table: the words that its texts hold in the template, texts of classes left out.

    Raises SetupError where there are none, with the templates that the texts seem to have.
    """
    before, _, after = template.partition("{}")
    known, table = {text_key(text) for text in class_texts}, {text_key(text): text for text in texts}
    words = tuple(
        text[len(before) : len(text) - len(after)]
        for key, text in table.items()
        if key not in known
        and len(text) > len(before) + len(after)
        and text.startswith(before)
        and text.endswith(after)
    )
    if not words:
        raise SetupError(
            f"the table of texts has no word but known classes in {template!r}, and nothing else can be embedded; its "
            f"texts look like {seen_templates(texts)}: set antibodies.template"
        )
    return Vocabulary(words, (), (), table)


def seen_templates(texts: Iterable[str]) -> str:
    """Say which templates the texts seem to have been made with, the one of most texts first."""
    counts = Counter(_templates(sorted({*texts})))
    return " and ".join(f"{template!r} ({number:,} texts)" for template, number in counts.most_common(_TEMPLATES_NAMED))


_TEMPLATES_NAMED: Final = 3
_TEMPLATE_SHARE: Final = 0.1
"""Of the texts that must begin alike for it to be a template's beginning."""


def _templates(texts: Sequence[str]) -> Iterator[str]:
    """Yield the template of each text: the longest beginning, in whole words, that a tenth of them have, and their
    common ending."""
    split = [text.split(" ") for text in texts]
    beginnings = Counter(" ".join(words[:n]) for words in split for n in range(1, len(words)))
    least = max(2, _TEMPLATE_SHARE * len(texts))
    groups: dict[str, list[str]] = {}
    for words in split:
        common = [n for n in range(1, len(words)) if beginnings[" ".join(words[:n])] >= least]
        groups.setdefault(" ".join([*words[: max(common, default=0)], "{}"]), []).append(words[-1])
    for template, last in groups.items():
        dot = "." if all(word.endswith(".") for word in last) else ""
        yield from [template + dot] * len(last)


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

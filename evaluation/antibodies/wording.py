"""What an antibody's text says, for negative selection: does it name a known class and nothing but that?

Heuristics on English words; every list stands in wording.toml, to be read and argued with. Where they are unsure they
let a text pass: it is measured like any other, and the calibrated score silences whatever fires on known images.

A text is cut into words: Unicode NFKC, case folded, punctuation and articles dropped, and words that only say that it
is a picture ("a photo of ...", "... on a white background"). Two words count as the same where one is a plural of the
other by the simple rules (-s, -es, -ies, -ves) or by the list of irregular ones; two names also where only spaces or
hyphens differ ("sail boat", "sailboat").
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from evaluation.antibodies.vocabulary import load_vocabulary


def _listed(text: str) -> frozenset[str]:
    return frozenset(" ".join(item.split()) for item in text.split(","))


_ARTICLES = _listed("a, an, the")
_PICTURE_BEFORE = re.compile(
    r"^(?:(?:this|that|here|there|it) (?:is|are) )?"
    r"(?:(?:\w+ )?(?:photo|photograph|picture|image|shot|snapshot|view|close up|closeup) of )?"
    r"(?:(?:group|pair|couple|bunch|lot|lots|number|kind|type|sort|example) of )?"
)
_PICTURE_AFTER = re.compile(r" (?:on|against|with|in front of) (?:\w+ )?background$")
_LISTS: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
NEUTRAL = _listed(_LISTS["neutral"])
"""Attributes that leave a thing what it is."""
PRIVATIVE = _listed(_LISTS["privative"])
"""Words that can turn what follows into something else: a toy car is no car."""
NOT_A_KIND = _listed(_LISTS["not_a_kind"])
"""Names that end with the name of what they are not."""
WHERE = _listed(_LISTS["where"])
"""Words that begin a phrase of place or state."""
BREAKS = _listed(_LISTS["breaks"])
PLACEHOLDERS = _listed(_LISTS["placeholders"])
ADVICE = _listed(_LISTS["advice"])
SPEAKING = _listed(_LISTS["speaking"])
_NAMED_KINDS = _listed(_LISTS["named_kinds"])
_IRREGULAR: dict[str, str] = _LISTS["irregular"]


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text as the module describes; empty where it has none."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("'", "").replace("’", "")
    plain = " ".join(word for word in re.findall(r"[^\W_]+", folded) if word not in _ARTICLES)
    return tuple(_PICTURE_AFTER.sub("", _PICTURE_BEFORE.sub("", plain)).split())


def singulars(word: str) -> frozenset[str]:
    """Return what a word may be the plural of, and the word itself."""
    forms = {word, _IRREGULAR.get(word, word)}
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        forms.add(word[:-1])
        if word.endswith("ies"):
            forms.add(word[:-3] + "y")
        if word.endswith("ves"):
            forms.update((word[:-3] + "f", word[:-3] + "fe"))
        if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
            forms.add(word[:-2])
    return frozenset(form for form in forms if len(form) > 1 or form == word)


class ClassNames:
    """The names of the known classes and their synonyms, to be found in texts."""

    def __init__(self, classes: Sequence[str], synonyms: Mapping[str, Sequence[str]]) -> None:
        self._class_of: dict[str, str] = {}
        self._words: set[str] = set()
        for known in classes:
            for name in (known, *synonyms.get(known, ())):
                parts = words(name)
                self._words.update(parts)
                for form in _forms(parts):
                    self._class_of.setdefault(form, known)

    def has_word(self, word: str) -> bool:
        """Return whether a word, in any case, stands in one of the names."""
        return word.casefold() in self._words

    def named_only(self, text: Sequence[str]) -> str | None:
        """Return the class that a text (its words) names with nothing but neutral attributes around it, else None."""
        core = list(text)
        # Attributes after the name ("car, old and rusty") are cut off; those before it may be part of it.
        while core:
            for start in range(len(core)):
                if (known := self.named(core[start:])) is not None and not self._idiom(core, start):
                    return known
                if core[start] not in NEUTRAL:
                    break
            if core[-1] not in NEUTRAL:
                return None
            core.pop()
        return None

    def kind_of(self, text: Sequence[str]) -> str | None:
        """Return the class that a text names a kind of: it ends with the class's name, as its head noun; else None.

        "race car" is a kind of car. Not so "toy car" (PRIVATIVE), "sea lion" (NOT_A_KIND), "statue of a cat" (its head
        noun is the statue), nor "goldfish", which is one word.
        """
        for start in range(1, len(text)):
            known = self.named(text[start:])
            if known is not None:
                breaks = not BREAKS.union(PRIVATIVE).isdisjoint(text[:start])
                return None if breaks or self._idiom(text, start) else known
        return None

    @staticmethod
    def _idiom(text: Sequence[str], start: int) -> bool:
        """Whether a name that begins there is the end of another's: "light house" is no house."""
        return start > 0 and any(f"{text[start - 1]} {form}" in NOT_A_KIND for form in _forms(text[start:]))

    def named(self, text: Sequence[str]) -> str | None:
        """Return the class whose name a text (its words) is, singular or plural, with nothing beside it; else None."""
        return next((self._class_of[form] for form in _forms(text) if form in self._class_of), None)


def _forms(name: Sequence[str]) -> Iterator[str]:
    """Yield a name without spaces, as it stands and with its last word in the singular."""
    if name:
        start = "".join(name[:-1])
        yield start + name[-1]
        yield from (start + form for form in sorted(singulars(name[-1])) if form != name[-1])


@cache
def _common() -> frozenset[str]:
    """Common words in small letters, as far as lists are shipped, and the adjectives in the names of common things."""
    shipped = load_vocabulary()
    said = (word for phrase in (*shipped.nouns, *shipped.places, *shipped.attributes) for word in phrase.split())
    return NEUTRAL.union(PRIVATIVE, WHERE, BREAKS, PLACEHOLDERS, _NAMED_KINDS, said)


def is_thing(word: str) -> bool:
    """Return whether a word is one of the things that come with immuno: "orange" is one, "green" is none."""
    return word in _things()


@cache
def _things() -> frozenset[str]:
    return frozenset(load_vocabulary().nouns)


def proper_noun(text: str, names: ClassNames, *, capitals: bool = True) -> str | None:
    """Return the first proper noun of a text, else None.

    It takes for one any word but the first of a sentence that begins with a capital and goes on in small letters,
    unless it stands in the name of a known class ("German shepherd"), is a common word, or one of those in the names of
    common things ("Ferris wheel"). So "an Eiffel tower" has one, "Eiffel tower", "an X-ray" and "a TV" have none. All
    that a text names ("a photo of a Pangolin.") is none either where the writer gives everything capitals.
    """
    if capitals and len(words(text)) == 1:
        return None
    previous = "."
    for word in text.split():
        bare = word.strip("\"'()[],;:.!?“”‘’")
        begins = previous.endswith((".", "!", "?"))
        capital = bare[:1].isupper() and bare[1:2].islower()
        common = bare.casefold() in _common() or previous.casefold() in _NAMED_KINDS
        if capital and not begins and not common and not names.has_word(bare):
            return bare
        previous = word
    return None

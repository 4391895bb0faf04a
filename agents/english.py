"""The little English grammar that phrases need: articles, and which words take none."""

from __future__ import annotations

import unicodedata
from functools import cache

from agents.vocabulary import WORDS, read_words

_SINGULAR_IN_S = frozenset({"atlas", "bus", "canvas", "christmas", "gas", "lens", "rhinoceros", "thermos"})
"""Singular although they end in an s that is neither of -us, -is nor -ss."""

_COUNTED = frozenset({"cassette tape", "drinking straw"})
"""Things although their last word is stuff."""

_SILENT_H = ("hour", "honest", "honor", "honour", "heir")
_SPOKEN_YOU = ("eu", "ewe", "ubiq", "ufo", "ukulele", "unic", "unif", "union", "uniq", "unit", "univ", "uran", "urin")
_SPOKEN_YOU_TOO = ("usb", "use", "usu", "uten", "utop", "one", "once", "ouija")
_SPOKEN_VOWEL = frozenset({"x-ray", "mri", "suv", "rv", "8", "11", "18"})


def with_article(noun: str) -> str:
    """Return the noun phrase with the indefinite article that it takes: "an owl", "a unicorn", "jeans", "snow".

    >>> with_article("striped jeans"), with_article("glass of water"), with_article("hourglass")
    ('striped jeans', 'a glass of water', 'an hourglass')
    """
    named = noun.casefold().split(" of ", 1)[0]
    words = named.split()
    if not words or (named not in _COUNTED and _takes_none(words[-1])):
        return noun
    return f"{'an' if _vowel_sound(words[0]) else 'a'} {noun}"


@cache
def _uncounted() -> frozenset[str]:
    return frozenset(read_words(WORDS / "uncounted.txt"))


def _takes_none(head: str) -> bool:
    plural = len(head) > 3 and head.endswith("s") and not head.endswith(("ss", "us", "is"))
    return head in _uncounted() or (plural and head not in _SINGULAR_IN_S)


def _vowel_sound(word: str) -> bool:
    plain = unicodedata.normalize("NFKD", word)
    if plain in _SPOKEN_VOWEL or plain.startswith(_SILENT_H):
        return True
    return plain[0] in "aeiou" and not plain.startswith((*_SPOKEN_YOU, *_SPOKEN_YOU_TOO))

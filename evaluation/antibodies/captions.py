"""How what a chat model names becomes captions: "shark" is "a photo of a shark.", for each thing and each place.

A chat model names things and places. The prompt around them is the session's template, as for every other word that is
embedded; the class in front of a place, the preposition where a place has none, and the articles are put there by code:
a small model that writes whole captions gets one in ten right.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from evaluation.antibodies.vocabulary import WORDS, read_words
from evaluation.antibodies.wording import WHERE
from immuno_core.records import AntibodyKind, TextKind
from immuno_core.text import clean_text, fill_template, text_key, without_markup

_SINGULAR_IN_S = frozenset({"atlas", "bus", "canvas", "christmas", "gas", "lens", "rhinoceros", "thermos"})
"""Singular although they end in an s that is neither of -us, -is nor -ss."""
_COUNTED = frozenset({"cassette tape", "drinking straw"})
"""Things although their last word is stuff."""
_SILENT_H = ("hour", "honest", "honor", "honour", "heir")
_SPOKEN_YOU = ("eu", "ewe", "ubiq", "ufo", "ukulele", "unic", "unif", "union", "uniq", "unit", "univ", "uran", "urin")
_SPOKEN_YOU_TOO = ("usb", "use", "usu", "uten", "utop", "one", "once", "ouija")
_SPOKEN_VOWEL = frozenset({"x-ray", "mri", "suv", "rv", "8", "11", "18"})


def with_article(noun: str) -> str:
    """Return the noun phrase with the indefinite article that it takes: "an owl", "a unicorn", "jeans", "the moon".

    >>> with_article("striped jeans"), with_article("glass of water"), with_article("hourglass")
    ('striped jeans', 'a glass of water', 'an hourglass')
    """
    named = noun.casefold().split(" of ", 1)[0]
    words = named.split()
    if not words or words[0] in _DETERMINERS or (named not in _COUNTED and _takes_none(words[-1])):
        return noun
    return f"{'an' if _vowel_sound(words[0]) else 'a'} {noun}"


_DETERMINERS = frozenset({"a", "an", "the", "some", "two", "three", "several", "many"})


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


def spoken(class_name: str) -> str:
    """Return a class's name as it is said in a text: "ice_bear" is "ice bear"."""
    return clean_text(without_markup(class_name.replace("_", " ")))


_TEMPLATE_ARTICLE = re.compile(r"\ban? (?=\{\})", re.IGNORECASE)
_PICTURE = re.compile(
    r"^(?:(?:this|that|here|there|it) (?:is|are) )?(?:(?:an?|the) )?(?:\w+ )?"
    r"(?:photo|photograph|picture|image|close-?up) of ",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^an?(?: |$)", re.IGNORECASE)
_AROUND = " \t.!?,;:\"'"


@dataclass(frozen=True, slots=True)
class Captions:
    """Puts things, and a class in places, into a template, "a photo of a {}."; and takes them out again.

    Where the template has an article before its `{}`, each phrase gets the one that it takes.
    """

    template: str = "a photo of a {}."
    class_name: str = ""
    """The class that stands in the places; "" for requests about things alone."""
    table: Mapping[str, str] = field(default_factory=dict)
    """Of a closed vocabulary its texts (Vocabulary.table): a caption is then written as it is there."""

    def caption(self, kind: TextKind, phrase: str) -> str:
        """Return the caption of a thing, or of the class in a place; "" for a phrase that says nothing."""
        thing = self._bare(phrase)
        if kind == "look_alike" or not thing:
            return self._filled(thing)
        return self._filled(spoken(self.class_name), self._place(thing))

    def phrase(self, kind: AntibodyKind, caption: str) -> str:
        """Return what a caption names: the thing, or the place that its class is in; the text where that is unclear."""
        thing = self._bare(self._taken_out(caption))
        return (self._after_class(thing) or thing) if kind == "contextual" else thing

    def kind(self, phrase: str) -> TextKind:
        """Return the kind that a phrase tells by itself: a place begins with a preposition, or with the class in it."""
        bare = self._bare(self._taken_out(phrase))
        first = bare.split(" ", 1)[0].casefold()
        return "contextual" if first in WHERE or self._after_class(bare) else "look_alike"

    def _filled(self, noun: str, place: str = "") -> str:
        if not noun:
            return ""
        template, articled = _TEMPLATE_ARTICLE.subn("", self.template)
        named = with_article(noun) if articled else noun
        caption = fill_template(template, [f"{named} {place}".strip()])[0]
        if self.table:  # whoever made it may have known no articles
            as_it_is = fill_template(self.template, [f"{noun} {place}".strip()])[0]
            return self.table.get(text_key(as_it_is)) or self.table.get(text_key(caption), caption)
        return caption

    def known(self, text: str) -> bool:
        """Whether a text can be embedded: of a closed vocabulary, whether it is in the table."""
        return not self.table or self.table.get(text_key(text)) == text

    def _taken_out(self, caption: str) -> str:
        before, _, after = _TEMPLATE_ARTICLE.sub("", self.template).partition("{}")
        fits = len(caption) > len(before) + len(after) and caption.startswith(before) and caption.endswith(after)
        return caption[len(before) : len(caption) - len(after)] if fits else caption

    @staticmethod
    def _bare(phrase: str) -> str:
        """The phrase without a picture around it ("a photo of ..."), its article and its full stop."""
        return _ARTICLE.sub("", _PICTURE.sub("", phrase.strip(_AROUND))).strip(_AROUND)

    def _place(self, phrase: str) -> str:
        place = self._after_class(phrase) or phrase
        first, _, rest = place.partition(" ")
        if first.casefold() in WHERE:
            return f"{first.casefold()} {rest}".strip()
        # Of a language of other letters nothing is known.
        return f"in {with_article(place)}" if first.isascii() else place

    def _after_class(self, phrase: str) -> str:
        """What a phrase says of where the class is, if it names the class first: "fish in the desert"; else ""."""
        name = spoken(self.class_name)
        if not name or not phrase.casefold().startswith(f"{name} ".casefold()):
            return ""
        rest = phrase[len(name) + 1 :].strip()
        return rest if rest.split(" ", 1)[0].casefold() in WHERE else ""

"""How the lexicon combines words: its proposals for a class, and its reflection on what was measured.

Proposals. Of the antibodies wanted, a third explore: nouns and places that the lexicon was not shown, drawn from the
vocabulary, so that the breadth of a bank does not depend on what the feedback happens to hold. The others answer the
feedback: look-alikes name the nouns nearest to the mis-accepted samples ("a photo of a shark."); contextual ones put
the class into the places nearest to them ("a photo of a fish in the desert."), and into places that helped or that the
guideline names. Both parts are shared between the kinds by the focus of the reflection in force. A text that is in the
bank or was rejected is never said again. Attributes are left out of proposals: "a photo of a striped shark." is near
every striped thing, known ones among them, and costs more than it gains.

Reflection. The kind without which the mean FPR95 would rise more becomes the focus, and the guideline names the words
of the texts that helped most, and of those that only harmed.

Everything is ordered by counts, then by name; what is drawn is ordered by a digest. There is no random state.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, zip_longest

from pydantic import ValidationError

from agents.prompts.briefing import (
    ClassBriefing,
    Harmed,
    Helped,
    ReflectionBriefing,
    Rejected,
    SampleBriefing,
    ranked_words,
)
from agents.replies import Focus, Proposal, Reflection
from evaluation.antibodies.vocabulary import WORDS, Vocabulary, read_words
from immuno_core.records import AntibodyKind, text_digest
from immuno_core.text import clean_text, text_key

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


_EXPLORE = 3
"""One antibody in so many explores."""
_LOOK_ALIKE_SHARE: dict[Focus, float] = {"look_alikes": 0.7, "both": 0.65, "contexts": 0.6}
"""A focus shifts the shares a little: a bank that follows the feedback all the way is narrow. More than half are
things: they act on every class, contexts on one only, and breadth of things is what unseen look-alikes are met with."""
_CLEARLY_MORE = 1.25
_WORDS_NAMED = 8
_PUNCTUATION = re.compile(r"[^\w'-]")


@dataclass(frozen=True, slots=True)
class Mentions:
    """The words of a vocabulary that texts mention, in the order in which they do."""

    nouns: tuple[str, ...]
    places: tuple[str, ...]
    attributes: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """All of them: places, nouns, attributes."""
        return (*self.places, *self.nouns, *self.attributes)


def mentions(texts: Iterable[str], vocabulary: Vocabulary) -> Mentions:
    """Return the vocabulary's words in the texts. Longer entries win: "in the desert" does not mention "desert"."""
    said: tuple[dict[str, None], dict[str, None], dict[str, None]] = ({}, {}, {})
    lists = (vocabulary.places, vocabulary.nouns, vocabulary.attributes)
    longest_first = [sorted(words, key=len, reverse=True) for words in lists]
    for text in texts:
        plain = _PUNCTUATION.sub(" ", text.casefold())
        line = f" {' '.join(plain.split())} "
        for words, seen in zip(longest_first, said, strict=True):
            here: list[tuple[int, str]] = []
            for word in words:
                if (at := line.find(f" {word} ")) >= 0:
                    here.append((at, word))
                    line = f"{line[: at + 1]}{'#' * len(word)}{line[at + 1 + len(word) :]}"
            seen.update(dict.fromkeys(word for _, word in sorted(here)))
    return Mentions(places=tuple(said[0]), nouns=tuple(said[1]), attributes=tuple(said[2]))


def propose(briefing: ClassBriefing, vocabulary: Vocabulary, key: str) -> tuple[Proposal, ...]:
    """Return `briefing.wanted` proposals, fewer only where the vocabulary has nothing left to say.

    `key` orders what is drawn from the vocabulary: one key, one order.
    """
    wanted = briefing.wanted
    picked = _Picked(briefing)
    share = _LOOK_ALIKE_SHARE[briefing.focus]
    shown = wanted - -(-wanted // _EXPLORE)
    picked.take(_near_look_alikes(briefing, vocabulary), upto=round(shown * share))
    picked.take(_near_contexts(briefing, vocabulary), upto=shown)
    # Exploration also fills what the feedback had no words for; each kind up to its share of the whole.
    missing = round(wanted * share) - picked.count("look_alike")
    shown_words = {
        *briefing.things,
        *briefing.places,
        *(hit.word for sample in briefing.samples for hit in sample.nearest_words),
    }
    nouns = [noun for noun in _drawn(vocabulary.nouns, key) if not _names_class(noun, briefing.class_name)]
    unseen = [_look_alike(noun, "explores a thing that was not shown") for noun in nouns if noun not in shown_words]
    places = [place for place in _drawn(vocabulary.places, key) if place not in shown_words]
    picked.take(unseen, upto=min(wanted, len(picked.proposals) + max(0, missing)))
    picked.take((_context(place, briefing, "explores a place that was not shown") for place in places), upto=wanted)
    # Where the places run out, nouns are left to say.
    picked.take(unseen, upto=wanted)
    return tuple(picked.proposals)


def reflect(briefing: ReflectionBriefing, vocabulary: Vocabulary) -> Reflection:
    """Return the focus (the kind that the bank could spare least) and a guideline of what helped and what harmed."""
    look_alikes, contexts = (briefing.worth.get(kind, 0.0) for kind in ("look_alike", "contextual"))
    focus: Focus = "both"
    if look_alikes > max(0.0, _CLEARLY_MORE * contexts):
        focus = "look_alikes"
    elif contexts > max(0.0, _CLEARLY_MORE * look_alikes):
        focus = "contexts"
    helpful = _telling_words(_by_gain(briefing.helped), vocabulary)
    harmful = _telling_words(_by_harm(briefing.harmed), vocabulary)
    prefer = helpful[:_WORDS_NAMED]
    avoid = [word for word in harmful if word not in helpful][:_WORDS_NAMED]
    measured = f"Without them the mean FPR95 would rise: look-alikes {look_alikes:.3f}, contexts {contexts:.3f}."
    advice = {
        "look_alikes": "Write more look-alikes.",
        "contexts": "Write more contexts.",
        "both": "Write both kinds in equal parts.",
    }[focus]
    named = (f" Prefer: {', '.join(prefer)}." if prefer else "") + (f" Avoid: {', '.join(avoid)}." if avoid else "")
    turned_down = sum(briefing.rejected.values())
    counts = f"{len(briefing.helped)} texts helped, {len(briefing.harmed)} harmed, {turned_down} were turned down."
    reasons = f"Generations measured: {len(briefing.history)}. {counts}"
    return Reflection(guideline=f"{measured} {advice}{named}", focus=focus, reasons=reasons)


class _Picked:
    """The proposals so far; refuses what was tried before, a class within itself, and what no schema takes."""

    def __init__(self, briefing: ClassBriefing) -> None:
        measured = chain(_texts(briefing.rejected), _texts(briefing.helped), _texts(briefing.harmed))
        tried = chain(briefing.bank, measured)
        self._tried = {text_key(text) for text in tried}
        self._class_name = _spoken(briefing.class_name).casefold()
        self.proposals: list[Proposal] = []

    def take(self, candidates: Iterable[tuple[str, AntibodyKind, str]], *, upto: int) -> None:
        """Add candidates (text, kind, rationale) until there are `upto` proposals or no more candidates."""
        source = iter(candidates)
        while len(self.proposals) < upto:
            candidate = next(source, None)
            if candidate is None:
                return
            text, kind, rationale = candidate
            if text_key(text) in self._tried or (kind == "contextual" and self._in_itself(text)):
                continue
            self._tried.add(text_key(text))
            try:
                self.proposals.append(Proposal(text=text, kind=kind, rationale=rationale))
            except ValidationError:
                continue  # a class name too long for a text, or one with markup in it

    def _in_itself(self, text: str) -> bool:
        """Whether the place of a context is its class: "a photo of a car in a car."."""
        return text.casefold().rstrip(".").endswith(f" {self._class_name}")

    def count(self, kind: AntibodyKind) -> int:
        return sum(proposal.kind == kind for proposal in self.proposals)


def _look_alike(thing: str, why: str) -> tuple[str, AntibodyKind, str]:
    return f"a photo of {with_article(thing)}.", "look_alike", why


def _context(place: str, briefing: ClassBriefing, why: str) -> tuple[str, AntibodyKind, str]:
    return f"a photo of {with_article(_spoken(briefing.class_name))} {place}.", "contextual", why


def _near_look_alikes(briefing: ClassBriefing, vocabulary: Vocabulary) -> Iterator[tuple[str, AntibodyKind, str]]:
    """Yield nouns, most near first, then those that the guideline names."""
    guide, avoid = _guided(briefing, vocabulary)
    for noun in dict.fromkeys((*briefing.things, *_ranked(briefing.samples, "noun"), *guide.nouns)):
        if noun not in avoid.nouns and not _names_class(noun, briefing.class_name):
            yield _look_alike(noun, "near the samples that were wrongly accepted")


def _near_contexts(briefing: ClassBriefing, vocabulary: Vocabulary) -> Iterator[tuple[str, AntibodyKind, str]]:
    """Yield the class in near places and in places that helped or are named by the guideline, in turn."""
    guide, avoid = _guided(briefing, vocabulary)
    near = dict.fromkeys((*briefing.places, *_ranked(briefing.samples, "place")))
    named = dict.fromkeys((*mentions(_texts(briefing.helped), vocabulary).places, *guide.places))
    for pair in zip_longest(near, named):
        for place, why in zip(
            pair, ("near the samples that were wrongly accepted", "such a place helped"), strict=True
        ):
            if place is not None and place not in avoid.places:
                yield _context(place, briefing, why)


def _guided(briefing: ClassBriefing, vocabulary: Vocabulary) -> tuple[Mentions, Mentions]:
    """Return the words that the guideline names, and those that it names after "avoid"."""
    before, _, after = briefing.guideline.casefold().partition("avoid")
    return mentions([before], vocabulary), mentions([after], vocabulary)


def _ranked(samples: Iterable[SampleBriefing], kind: str) -> list[str]:
    """The words of one kind near the samples."""
    return ranked_words([hit for hit in sample.nearest_words if hit.kind == kind] for sample in samples)


def _drawn(words: Iterable[str], key: str) -> list[str]:
    return sorted(words, key=lambda word: text_digest(key, word))


def _names_class(noun: str, class_name: str) -> bool:
    """Whether the noun is the class or what it is a kind of ("car" for "sports car").

    What ends with the class may be a kind of it ("farm horse") or not ("rocking horse"): that is left to be measured.
    """
    thing, known = (_spoken(name).casefold().removesuffix("s") for name in (noun, class_name))
    return thing == known or known.endswith(f" {thing}")


def _spoken(class_name: str) -> str:
    return clean_text(class_name.replace("_", " "))


def _texts(pairs: Iterable[Helped | Harmed | Rejected]) -> Iterator[str]:
    return (pair.text for pair in pairs)


def _by_gain(helped: Iterable[Helped]) -> list[Helped]:
    return sorted(helped, key=lambda pair: (-pair.gain, pair.text))


def _by_harm(harmed: Iterable[Harmed]) -> list[Harmed]:
    return sorted(harmed, key=lambda pair: (-pair.harm, pair.text))


def _telling_words(pairs: Iterable[Helped | Harmed], vocabulary: Vocabulary) -> list[str]:
    """Return the words that made the texts what they are: of a context its place (its noun is the class), else all."""
    said = (mentions([pair.text], vocabulary) for pair in pairs)
    return list(dict.fromkeys(word for words in said for word in words.places or words.words))

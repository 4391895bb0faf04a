"""How the lexicon combines words: its proposals for a class, and its reflection on what was measured.

Proposals. Of the things and places wanted, a third explore: those that the lexicon was not shown, drawn from the
vocabulary (of a closed one, those offered besides), so that the breadth of a bank does not depend on what the feedback
happens to hold. The others answer the feedback: the nouns that promise most ("shark"); the places nearest to the
mis-accepted samples ("in the desert"), and places that helped or that the guideline names. What is in the bank or was
rejected is never said again. Attributes are left out: "striped shark" is near every striped thing, known ones among
them, and costs more than it gains.

Reflection. The kind without which the mean FPR95 would rise more becomes the focus, and the guideline names the words
of the texts that helped most, and of those that only harmed.

Everything is ordered by counts, then by name; what is drawn is ordered by a digest. There is no random state.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import NamedTuple

from agents.prompts.briefing import ClassBriefing, ReflectionBriefing, ranked_words
from agents.replies import Focus, Reflection
from evaluation.antibodies.captions import spoken
from evaluation.antibodies.vocabulary import Vocabulary
from immuno_core.records import text_digest
from immuno_core.text import MARKUP, text_key

_EXPLORE = 3
"""One antibody in so many explores."""
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


class Named(NamedTuple):
    """What the lexicon names."""

    look_alikes: tuple[str, ...]
    places: tuple[str, ...]


def propose(briefing: ClassBriefing, vocabulary: Vocabulary, key: str) -> Named:
    """Return as many things and places as `briefing.wanted` says, fewer only where the vocabulary has nothing left.

    Where the places run out, nouns are left to say. `key` orders what is drawn from the vocabulary: one key, one order.
    """
    wanted, fresh = briefing.wanted, _Fresh(briefing)
    explored = -(-wanted.total // _EXPLORE) if briefing.class_name or briefing.group else wanted.total
    shown = wanted.total - explored
    near_things = round(shown * wanted.look_alikes / wanted.total)
    shown_words = {
        *briefing.near_things,
        *briefing.near_places,
        *(word for sample in briefing.samples for word in (*sample.things, *sample.places)),
    }
    nouns = [noun for noun in _drawn(vocabulary.nouns, key) if not _named_by(noun, briefing)]
    unseen_things = briefing.offered or [noun for noun in nouns if noun not in shown_words]
    unseen_places = [place for place in _drawn(vocabulary.places, key) if place not in shown_words]
    things = fresh.take(_near_things(briefing, vocabulary), near_things)
    things += fresh.take(unseen_things, wanted.look_alikes - len(things))
    places = fresh.take(_near_places(briefing, vocabulary), min(shown - near_things, wanted.places))
    places += fresh.take(unseen_places, wanted.places - len(places))
    things += fresh.take(unseen_things, wanted.total - len(things) - len(places))
    return Named(tuple(things), tuple(places))


def reflect(briefing: ReflectionBriefing, vocabulary: Vocabulary) -> Reflection:
    """Return the focus (the kind that the bank could spare least) and a guideline of what helped and what harmed."""
    look_alikes, contexts = (briefing.worth.get(kind, 0.0) for kind in ("look_alike", "contextual"))
    focus: Focus = "both"
    if look_alikes > max(0.0, _CLEARLY_MORE * contexts):
        focus = "look_alikes"
    elif contexts > max(0.0, _CLEARLY_MORE * look_alikes):
        focus = "contexts"
    helpful = _telling_words(_largest(briefing.helped), vocabulary)
    harmful = _telling_words(_largest(briefing.harmed), vocabulary)
    prefer = helpful[:_WORDS_NAMED]
    avoid = [word for word in harmful if word not in helpful][:_WORDS_NAMED]
    measured = f"Without them the mean FPR95 would rise: look-alikes {look_alikes:.1f}, contexts {contexts:.1f} points."
    advice = {
        "look_alikes": "Write more look-alikes.",
        "contexts": "Write more contexts.",
        "both": "Write both kinds in equal parts.",
    }[focus]
    named = (f" Prefer: {', '.join(prefer)}." if prefer else "") + (f" Avoid: {', '.join(avoid)}." if avoid else "")
    turned_down = sum(briefing.refused.values())
    counts = f"{len(briefing.helped)} texts helped, {len(briefing.harmed)} harmed, {turned_down} were turned down."
    reasons = f"Generations measured: {len(briefing.history)}. {counts}"
    return Reflection(guideline=f"{measured} {advice}{named}", focus=focus, reasons=reasons)


class _Fresh:
    """Hands out what was not tried before, no class within itself, and what no schema refuses."""

    def __init__(self, briefing: ClassBriefing) -> None:
        shared = briefing.shared
        tried = chain(
            *(shared.tried, shared.helped, shared.harmed, *shared.refused.values()),
            *(briefing.own_tried, briefing.own_helped, briefing.own_harmed, *briefing.own_refused.values()),
        )
        self._tried = {text_key(phrase) for phrase in tried}
        self._itself = f" {spoken(briefing.class_name).casefold()}"

    def take(self, candidates: Iterable[str], most: int) -> list[str]:
        """Return at most so many of the candidates, the first that are fresh."""
        taken: list[str] = []
        source = iter(candidates)
        while len(taken) < most and (phrase := next(source, None)) is not None:
            key = text_key(phrase)
            if key in self._tried or key.endswith(self._itself) or not MARKUP.isdisjoint(phrase):
                continue
            self._tried.add(key)
            taken.append(phrase)
        return taken


def _near_things(briefing: ClassBriefing, vocabulary: Vocabulary) -> Iterator[str]:
    """Yield nouns, most near first, then those that the guideline names."""
    guide, avoid = _guided(briefing, vocabulary)
    ranked = ranked_words(sample.things for sample in briefing.samples)
    for noun in dict.fromkeys((*briefing.near_things, *ranked, *guide.nouns)):
        may_be = not briefing.offered or noun in briefing.offered
        if may_be and noun not in avoid.nouns and not _named_by(noun, briefing):
            yield noun


def _near_places(briefing: ClassBriefing, vocabulary: Vocabulary) -> Iterator[str]:
    """Yield near places, and places that helped or are named by the guideline, in turn."""
    guide, avoid = _guided(briefing, vocabulary)
    near = dict.fromkeys((*briefing.near_places, *ranked_words(sample.places for sample in briefing.samples)))
    named = dict.fromkeys((*mentions(briefing.own_helped, vocabulary).places, *guide.places))
    for place in chain.from_iterable(zip_longest(near, named)):
        if place is not None and place not in avoid.places:
            yield place


def _guided(briefing: ClassBriefing, vocabulary: Vocabulary) -> tuple[Mentions, Mentions]:
    """Return the words that the guideline names, and those that it names after "avoid"."""
    before, _, after = briefing.shared.guideline.casefold().partition("avoid")
    return mentions([before], vocabulary), mentions([after], vocabulary)


def _drawn(words: Iterable[str], key: str) -> list[str]:
    return sorted(words, key=lambda word: text_digest(key, word))


def _names_class(noun: str, class_name: str) -> bool:
    """Whether the noun is the class or what it is a kind of ("car" for "sports car").

    What ends with the class may be a kind of it ("farm horse") or not ("rocking horse"): that is left to be measured.
    """
    thing, known = (spoken(name).casefold().removesuffix("s") for name in (noun, class_name))
    return thing == known or known.endswith(f" {thing}")


def _named_by(noun: str, briefing: ClassBriefing) -> bool:
    return any(_names_class(noun, name) for name in (briefing.class_name, *briefing.group) if name)


def _largest(shares: Mapping[str, float]) -> list[str]:
    return sorted(shares, key=lambda phrase: (-shares[phrase], phrase))


def _telling_words(phrases: Iterable[str], vocabulary: Vocabulary) -> list[str]:
    """Return the words that made the phrases what they are: a place, else all."""
    said = (mentions([phrase], vocabulary) for phrase in phrases)
    return list(dict.fromkeys(word for words in said for word in words.places or words.words))

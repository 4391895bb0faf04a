"""The leakage audit: which antibodies just name a class of the sealed outliers? (Asked of every bank of negatives; see
NegLabel's issue #10.)

An antibody leaks where its text says what an outlier class is called, in one of two degrees:

*equal*: its words are the words of the name. "a photo of a whale." and "Whales" equal the folder `whale`, "a fish in
lava" equals `fish_in_lava`, "sail boat" equals `sailboat`.

*nearly equal*: it says nothing else that matters. Beside the name there may be

- attributes that leave a thing what it is (evaluation.antibodies.wording.NEUTRAL): "a big striped whale";
- another word for being somewhere: "a fish on lava" for `fish_in_lava`, "a cat at night" for `cat_in_night`;
- a place after the name: "a whale in the sea" shows a whale;
- an odd letter: both have at least 8 and differ by one, put in, left out, exchanged or moved ("submarrine"). Shorter
  words that look alike are other words: "fox" and "box", "banana" and "bandana".

Not a leak, because it names something else: a thing that is none of the class ("a toy shark", "a statue of a shark", "a
shark made of paper"), a kind of it ("a tiger shark"), what it is a kind of ("an animal"), a synonym ("a killer whale"
for `orca`: names are compared, not meanings), and another thing in the same place ("lava").

Words are cut as evaluation.antibodies.wording does, so case, articles, underscores, hyphens, plurals and what is left
of templates do not count. Of a label, numbers in front of the name do not count either ("001.ak47"), nor do WordNet
ids: `n01440764_tench` is "tench", and `n01440764` alone is no name and finds nothing. Names parted by commas are
alternatives ("tench, Tinca tinca").

A known class is no outlier: where a label is the name of the class that an antibody guards (contextual outliers kept in
folders of the known classes), the antibody is not held against it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evaluation.antibodies.wording import ClassNames, singulars, words
from evaluation.space import Bank

How = Literal["equal", "nearly equal"]
# fmt: off
_PLACING = frozenset((
    "in", "on", "at", "inside", "within", "near", "by", "beside", "under", "underneath", "below", "above", "over",
    "behind", "against", "along", "across", "among", "amid", "amidst", "between", "beneath", "atop", "upon", "around",
    "outside",
))
# fmt: on
_FEWEST_LETTERS = 8
_ANY_PLACE = "in"
_NUMBER_OR_WORDNET_ID = re.compile(r"n\d{8}|\d+")


@dataclass(frozen=True, slots=True)
class Leak:
    """An antibody, by its id and text, that names a class of an outlier set; `outlier_class` as the data spell it."""

    set: str
    antibody: str
    text: str
    outlier_class: str
    how: str
    """One of `How`, or of a later version's."""


def leaks(bank: Bank, outlier_labels: Mapping[str, Iterable[str]]) -> tuple[Leak, ...]:
    """Return the antibodies that name an outlier class: set by set, antibodies in the order of the bank.

    `outlier_labels` are the labels of each sealed outlier set; who has them has opened the test. Repeated labels count
    once, labels without a name ("", flat folders, bare ids) find nothing. One leak per antibody and set, the class that
    is equal before one that is nearly equal. Takes time in proportion to antibodies plus labels.
    """
    found = []
    for outlier_set, labels in outlier_labels.items():
        names = _OutlierNames(sorted(set(labels)))
        for antibody, text, guards in zip(bank.ids, bank.texts, bank.guards, strict=True):
            if (match := names.find(words(text), guards=guards)) is not None:
                found.append(Leak(outlier_set, antibody, text, *match))
    return tuple(found)


def without(bank: Bank, found: Iterable[Leak]) -> Bank:
    """Return the bank without the antibodies that leak, whichever set they leak into."""
    return bank.without({leak.antibody for leak in found})


class _OutlierNames:
    """The class names of one outlier set, ready to be found in texts."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._label: dict[str, str] = {}
        """By name, also by the name with one word for every way of being somewhere."""
        self._misspelt: dict[str, str] = {}
        exact, placed = [], []
        for label in labels:
            for name in _alternatives(label):
                exact.append(" ".join(name))
                placed.append(" ".join(_placed(name)))
                self._label.setdefault(exact[-1], label)
                self._label.setdefault(placed[-1], label)
                for rest in _one_letter_less("".join(name)):
                    self._misspelt.setdefault(rest, label)
        self._exact, self._placed = ClassNames(exact, {}), ClassNames(placed, {})

    def find(self, said: Sequence[str], *, guards: str) -> tuple[str, How] | None:
        """Return the label that the words of a text name, and how nearly; None for none but the class it guards."""
        for label, how in self._matches(said):
            guarded = ClassNames([guards], {})
            if not any(guarded.named(name) for name in _alternatives(label)):
                return label, how
        return None

    def _matches(self, said: Sequence[str]) -> Iterator[tuple[str, How]]:
        if (name := self._exact.named(said)) is not None:
            yield self._label[name], "equal"
        # Plurals within a text ("two fishes in lava"): a word that no name has is taken in a form that one has.
        text = _placed(next((s for s in sorted(singulars(w)) if self._placed.has_word(s)), w) for w in said)
        places = [i for i, word in enumerate(text) if word == _ANY_PLACE and i > 0]
        for end in (len(text), *reversed(places)):
            if (name := self._placed.named_only(text[:end])) is not None:
                yield self._label[name], "nearly equal"
        for rest in _one_letter_less("".join(said)):
            if rest in self._misspelt:
                yield self._misspelt[rest], "nearly equal"


def _alternatives(label: str) -> list[tuple[str, ...]]:
    """The names in a label, as words, without the numbers in front."""
    found = []
    for name in label.split(","):
        said = words(name)
        start = next((i for i, word in enumerate(said) if not _NUMBER_OR_WORDNET_ID.fullmatch(word)), len(said))
        if said[start:]:
            found.append(said[start:])
    return found


def _placed(said: Iterable[str]) -> tuple[str, ...]:
    """The words, with one word for every way of being somewhere."""
    return tuple(_ANY_PLACE if word in _PLACING else word for word in said)


def _one_letter_less(name: str) -> Iterator[str]:
    """The name, and what is left of it without one of its letters; nothing for a short one.

    Two names that have one of these in common differ by one letter, put in, left out, exchanged or moved.
    """
    if len(name) >= _FEWEST_LETTERS:
        yield name
        yield from (name[:i] + name[i + 1 :] for i in range(len(name)))

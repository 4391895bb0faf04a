"""What an antibody's text claims: another thing, or a known class somewhere; or what it is instead of either.

Kind decides how far an antibody reaches (evaluation.scores.calibrated), so it has to be that of the text, whatever the
list or the key says that a model put it under: "a fish in the desert" is a contextual antibody of *fish*.

Heuristics on English words, as those of evaluation.antibodies.wording. Of words in other letters nothing is known:
what they claim is believed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from evaluation.antibodies.wording import BREAKS, NEUTRAL, PLACEHOLDERS, SPEAKING, WHERE, ClassNames, is_thing, words
from immuno_core.records import Antibody

_LABEL = re.compile(
    r"^(?:notes?|answers?|examples?|hints?|warning|output|rationale|explanation|description|caption|category|kind|type"
    r"|look[- _]?alikes?|places?|contextual)\s*[:=–—-]",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"^(?:here (?:is|are) (?:some|the|my|your|a list)|sure[ ,!.]|certainly\b|of course\b|okay\b|sorry\b|unfortunately\b"
    r"|as an? (?:ai|language)\b|these are\b|please\b|because\b|let me\b|it (?:is|was) not\b)",
    re.IGNORECASE,
)
_WHICH = frozenset({"that", "which", "who"})
_BE = frozenset({"is", "are", "was", "were"})
_OFTEN = 3
_NOTE = re.compile(r"\(\s*(?:matured|copied|edited)\s*\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Claims:
    """Reads what texts claim, given the known classes, their synonyms, and the examples that a model was given."""

    classes: Sequence[str]
    synonyms: Mapping[str, Sequence[str]]
    examples: Collection[str] = ()
    """Things and places; a text that is one of them only repeats what it was shown."""
    _names: dict[str, ClassNames] = field(default_factory=dict, init=False, repr=False)
    _shown: dict[tuple[str, ...], str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._shown.update((words(example), example) for example in self.examples)

    @property
    def names(self) -> ClassNames:
        """The names of all known classes."""
        return self._of("")

    def as_claimed(self, antibody: Antibody) -> Antibody:
        """Return the antibody with the kind and the class that its text claims, where these are clear."""
        text = words(antibody.text)
        known = somewhere(text, self.names)
        if antibody.kind == "contextual":
            if self._puts(text, antibody.guards):
                return antibody
            known = known or _in_a_state(text, self.names)
        return antibody if known is None else replace(antibody, kind="contextual", guards=known)

    def flaw(self, antibody: Antibody) -> str:
        """Return why a text says nothing that could be measured, or not what its kind says ("category: why"); or ""."""
        text = words(antibody.text)
        return (
            _prose(antibody.text, text)
            or self._empty(antibody, text)
            or self._example(antibody, text)
            or self._unplaced(antibody, text)
        )

    def _of(self, guards: str) -> ClassNames:
        if guards not in self._names:
            self._names[guards] = ClassNames([guards] if guards else self.classes, self.synonyms)
        return self._names[guards]

    def _puts(self, text: Sequence[str], guards: str) -> bool:
        """Whether a text names the class that it guards and a place, or a state in front of it ("a burning car")."""
        if not guards:
            return False
        names = self._of(guards)
        if somewhere(text, names) is not None or _in_a_state(text, names) is not None:
            return True
        # Said in words of other letters, behind the name.
        return any(not text[at].isascii() and names.named_only(text[:at]) for at in range(1, len(text)))

    def _unplaced(self, antibody: Antibody, text: Sequence[str]) -> str:
        if antibody.kind == "look_alike":
            if text and NEUTRAL.issuperset(text) and not is_thing(text[-1]):
                return f"no thing: '{' '.join(text)}' only says how one looks"
            return f"no thing: it begins with '{text[0]}'" if text and text[0] in BREAKS else ""
        if self._puts(text, antibody.guards) or any(not word.isascii() for word in text):
            return ""
        if antibody.guards:
            return f"no place: it does not put '{antibody.guards}' anywhere"
        return "no place: it guards no class that could be in one"

    def _empty(self, antibody: Antibody, text: Sequence[str]) -> str:
        said = [word for word in text if word not in WHERE | NEUTRAL]
        if antibody.kind == "contextual":
            said = [word for word in said if not self._of(antibody.guards).has_word(word)]
        if said and all(word in PLACEHOLDERS or (len(word) == 1 and word.isascii()) for word in said):
            return f"placeholder: '{' '.join(said)}' stands for something that is not said"
        return ""

    def _example(self, antibody: Antibody, text: Sequence[str]) -> str:
        for said, example in self._shown.items():
            if (text[-len(said) :] if antibody.kind == "contextual" else text) == said:
                return f"example: '{example}' was shown as one"
        return ""


def somewhere(text: Sequence[str], names: ClassNames) -> str | None:
    """Return the class that a text (its words) puts somewhere: it is the head noun, and a place or a state follows.

    >>> names = ClassNames(["fish", "car"], {})
    >>> [somewhere(words(text), names) for text in ("old fish in lava", "toy car on a table", "a fish tank at sea")]
    ['fish', None, None]
    """
    for at in range(1, len(text)):
        if text[at] in WHERE and text[-1] not in BREAKS:
            known = names.named_only(text[:at]) or names.kind_of(text[:at])
            if known is not None:
                return known
    return None


def _in_a_state(text: Sequence[str], names: ClassNames) -> str | None:
    """Return the class that a text names last, with a state before it: "a burning car", "an upside down cup"."""
    known = names.kind_of(text)
    return None if known is None or WHERE.isdisjoint(text) else known


def _prose(said: str, text: Sequence[str]) -> str:
    if (note := _NOTE.search(said)) is not None:
        return f"not text: it carries the note '{note[0]}'"
    plain = said.strip(" \"'*#-•")
    if _LABEL.match(plain) or _OPENING.match(plain) or "?" in said:
        return "prose: it speaks about the answer"
    if often := [word for word in text if text.count(word) >= _OFTEN and word not in WHERE | BREAKS]:
        return f"not text: it says '{often[0]}' over and over"
    for i, word in enumerate(text):
        if word in SPEAKING or (word in _BE and (i == 0 or text[i - 1] not in _WHICH)):
            return f"prose: a sentence ('{word}'), not what a picture shows"
    return ""

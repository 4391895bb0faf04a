"""The prompts of a generation, each within a budget of tokens, and with as much of them in common as can be.

First comes what is the same for all requests of a generation (rules, worked examples, guideline, what was tried for
whatever class), then what is one request's own: a server that keeps the state of a prefix reads the first part once.
The second part is held to two thirds of the first, so that the prefix is at least 60 % of each prompt. What does not
fit is dropped, the oldest of each list first, and counted.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from agents.prompts.briefing import ClassBriefing, ReflectionBriefing, SharedBriefing, render
from agents.prompts.templates import Example, fill, prompt_template
from agents.replies import Wanted

_OWN_SHARE = 2 / 3
_CHARACTERS_PER_TOKEN = 3.5
"""Of English and JSON, a little fewer than usual tokenizers make."""
_RATIOS = (0.5, 4.0)
"""Counted over estimated tokens, at least and at most: a server can say anything."""
# What is dropped from a list: its first items, the oldest; or its last, the least near or of least effect.
_SHARED_DROPS = {"tried": 0, "refused": -1, "harmed": -1, "helped": -1}
_OWN_DROPS = {
    **{"own_refused": -1, "own_harmed": -1, "own_helped": -1, "own_tried": 0},
    **{"samples": -1, "near_places": -1, "near_things": -1, "known": -1, "offered": -1},
}
_LEFT_OUT = ',"left_out":1000000'
_REFLECT_DROPS = {"history": 0, "dropped": 0, "harmed": -1, "helped": -1}


def estimated_tokens(text: str) -> float:
    """Return about how many tokens a text has: 3.5 ASCII characters each, and any other character one."""
    ascii_characters = sum(char.isascii() for char in text)
    return ascii_characters / _CHARACTERS_PER_TOKEN + len(text) - ascii_characters


def tokens_per_estimate(counted: Iterable[tuple[str, int | None]]) -> float | None:
    """Return what a provider's counts of prompts are to the estimates, within bounds; None where it counts none."""
    ratios = [count / estimated_tokens(prompt) for prompt, count in counted if count]
    return min(max(statistics.median(ratios), _RATIOS[0]), _RATIOS[1]) if ratios else None


class Composed(NamedTuple):
    """Prompts by subject, and what is to be told of them: the tokens of the longest, and what was left out."""

    prompts: dict[str, str]
    told: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Composer:
    """Puts prompts together. `per_estimate`: tokens that the provider counts for each one that is estimated."""

    most: int
    per_estimate: float
    examples: Sequence[Example]

    def propose(self, shared: SharedBriefing, briefings: Mapping[str, ClassBriefing]) -> Composed:
        """Return the prompts that ask for antibodies."""
        before, after = prompt_template("propose").split("{briefing}")
        empty = SharedBriefing(guideline=shared.guideline)
        rules, examples = self._before(before, empty, self.examples), self.examples
        if self._tokens(rules) > self.most / 2 and examples:
            rules, examples = self._before(before, empty, ()), ()
        fixed = self._tokens(rules)
        # The longest that the first part can get, if the second is as long as it may be.
        common_most = min(self._tokens(self._before(before, shared, examples)), self.most / (1 + _OWN_SHARE))
        own_most = min(common_most * _OWN_SHARE, self.most - fixed)
        left_out: Counter[str] = Counter()
        own = {}
        for subject, briefing in briefings.items():
            end = fill(after, **_asked(briefing.wanted))
            fitted, dropped = self._fitted(briefing, own_most - self._tokens(end), _OWN_DROPS)
            left_out.update(dropped)
            own[subject] = f"{render(fitted)}{end}"
        longest = max(map(self._tokens, own.values()), default=0.0)
        room = self.most - longest - fixed + self._tokens(render(empty)) - self._tokens(_LEFT_OUT)
        common, dropped = self._fitted(shared, room, _SHARED_DROPS)
        if dropped.get("tried"):
            common = common.model_copy(update={"left_out": dropped["tried"]})
        prefix = self._before(before, common, examples)
        told = {
            "tokens": round(self._tokens(prefix) + longest),
            "shared": round(self._tokens(prefix) / (self._tokens(prefix) + longest), 2),
            "left_out": dict(sorted((left_out + Counter(dropped)).items())),
        }
        return Composed({subject: prefix + text for subject, text in own.items()}, told)

    def reflect(self, briefing: ReflectionBriefing) -> str:
        """Return the prompt that asks for a better guideline."""
        rules = self._tokens(prompt_template("reflect"))
        fitted, _ = self._fitted(briefing, self.most - rules, _REFLECT_DROPS)
        return fill(prompt_template("reflect"), briefing=render(fitted))

    def _before(self, template: str, shared: SharedBriefing, examples: Sequence[Example]) -> str:
        shown = "\nExamples of answers, for classes that are not known here; never repeat their phrases:\n"
        told = shown + "".join(f"{example}\n" for example in examples) if examples else ""
        return fill(template, examples=told, shared=render(shared))

    def _tokens(self, text: str) -> float:
        return estimated_tokens(text) * self.per_estimate

    def _fitted(self, briefing: Record, most: float, drops: Mapping[str, int]) -> tuple[Record, dict[str, int]]:
        """Drop from the lists of a briefing, one after another, until it has no more tokens; also return how many."""
        over = self._tokens(render(briefing)) - most
        changed: dict[str, Any] = {}
        dropped: dict[str, int] = {}
        for name, end in drops.items():
            if over <= 0:
                break
            value = getattr(briefing, name)
            items = list(value.items() if isinstance(value, dict) else value)
            while items and over > 0:
                over -= self._tokens(_said(items.pop(end)))
                dropped[name] = dropped.get(name, 0) + 1
            changed[name] = dict(items) if isinstance(value, dict) else tuple(items)
        return briefing.model_copy(update=changed), dropped


Record = TypeVar("Record", ClassBriefing, SharedBriefing, ReflectionBriefing)


def _said(item: Any) -> str:
    """An item as it stands in a prompt, with the comma behind it."""
    said = item.model_dump(mode="json", exclude_defaults=True) if hasattr(item, "model_dump") else item
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")) + ","


def _asked(wanted: Wanted) -> dict[str, str]:
    """What a model is to answer with, in words and as a form."""
    lists = {name: count for name, count in wanted.model_dump().items() if count}
    form = ", ".join(f'"{name}": [...]' for name in lists)
    return {"wanted": " and ".join(f"{count} {name}" for name, count in lists.items()), "form": f"{{{form}}}"}

"""Small decisions of the loop, each replaceable: which classes to work on, and when to stop.

Which generation to continue from: agents.parents. When to keep a bank: agents.acceptance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from db.records import GenerationRecord


@dataclass(frozen=True, slots=True)
class WorstFirst:
    """Half of the classes of a generation are those that accept most outliers, the rest have waited longest."""

    budget: int

    def choose(
        self, mis_accepted: Mapping[str, int], last_worked_on: Mapping[str, int], classes: Sequence[str]
    ) -> tuple[str, ...]:
        """Return at most `budget` classes.

        `mis_accepted` counts, per class, the outliers that it wrongly accepts; `last_worked_on` is the generation that
        last proposed for a class (absent: never). Every class gets its turn however few outliers it accepts, because a
        bank that only answers today's mistakes is narrow. Ties go by the order of `classes`.
        """
        order = {name: k for k, name in enumerate(classes)}
        by_mistakes = sorted(classes, key=lambda name: (-mis_accepted.get(name, 0), order[name]))
        worst = by_mistakes[: (self.budget + 1) // 2]
        chosen = set(worst)
        by_waiting = sorted(
            (name for name in classes if name not in chosen),
            key=lambda name: (last_worked_on.get(name, -1), -mis_accepted.get(name, 0), order[name]),
        )
        return (*worst, *by_waiting[: self.budget - len(worst)])


@dataclass(frozen=True, slots=True)
class StopRule:
    """When a session is over. `generations` counts without the baseline; None: no such limit.

    `minutes` counts the time that generations took, so that a pause costs nothing; `plateau` is how many generations in
    a row may bring nothing that is kept.
    """

    generations: int
    tokens: int | None = None
    cost: float | None = None
    minutes: float | None = None
    plateau: int | None = None

    def reason(self, done: Sequence[GenerationRecord]) -> str | None:
        """Return why no further generation runs after these, the baseline first; None where one does."""
        run = done[1:]
        if len(run) >= self.generations:
            return f"all {self.generations} generations are done"
        spent = sum(one.prompt_tokens + one.completion_tokens for one in done)
        if self.tokens is not None and spent >= self.tokens:
            return f"the limit of {self.tokens:,} tokens is reached ({spent:,})"
        paid = sum(one.cost_usd for one in done)
        if self.cost is not None and paid >= self.cost:
            return f"the limit of {self.cost:g} USD is reached ({paid:.2f})"
        minutes = sum((one.finished_at - one.started_at).total_seconds() for one in done) / 60
        if self.minutes is not None and minutes >= self.minutes:
            return f"the limit of {self.minutes:g} minutes is reached ({minutes:.1f})"
        plateau = self.plateau
        if plateau is not None and len(run) >= plateau and not any(one.accepted for one in run[-plateau:]):
            return f"a plateau: {plateau} generation(s) in a row brought nothing that was kept"
        return None

"""Small decisions of the loop, each replaceable: which classes to work on, and whether to keep a generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agents.boundary import Boundary


def choose_classes(
    mis_accepted: Mapping[str, int], last_worked_on: Mapping[str, int], classes: Sequence[str], budget: int
) -> tuple[str, ...]:
    """Return at most `budget` classes: half of them the worst, the rest those that have waited longest for their turn.

    `mis_accepted` counts, per class, the outliers that it wrongly accepts; `last_worked_on` is the generation that last
    proposed for a class (absent: never). Every class gets its turn however few outliers it accepts, because a bank that
    only answers today's mistakes is narrow. Ties go by the order of `classes`.
    """
    order = {name: k for k, name in enumerate(classes)}
    by_mistakes = sorted(classes, key=lambda name: (-mis_accepted.get(name, 0), order[name]))
    worst = by_mistakes[: (budget + 1) // 2]
    by_waiting = sorted(
        (name for name in classes if name not in worst),
        key=lambda name: (last_worked_on.get(name, -1), -mis_accepted.get(name, 0), order[name]),
    )
    return (*worst, *by_waiting[: budget - len(worst)])


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a generation's bank replaces its parent's, and why."""

    accepted: bool
    reason: str


def decide(before: Boundary, after: Boundary, *, best: float, tolerance: float = 0.01) -> Decision:
    """Accept a bank whose mean FPR95 is within `tolerance` of the `best` so far, and which keeps ID accuracy within it.

    Not only banks that gain are accepted: antibodies that cost nothing measurable are breadth, and breadth is what
    protects against outliers unlike the feedback. Comparing with the best, not with the last, keeps a session from
    drifting away by one tolerance after another.
    """
    lost_accuracy = before.id_accuracy - after.id_accuracy
    if lost_accuracy > tolerance:
        return Decision(False, f"ID accuracy would fall by {100 * lost_accuracy:.1f} points")
    gained = best - after.mean_fpr95
    if gained < -tolerance:
        return Decision(False, f"mean FPR95 would be {-100 * gained:.1f} points above the best so far")
    if gained > 0:
        return Decision(True, f"best so far: mean FPR95 fell by {100 * gained:.1f} points")
    return Decision(True, "kept for breadth: mean FPR95 within a point of the best")

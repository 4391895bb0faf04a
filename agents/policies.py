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


def decide(before: Boundary, after: Boundary, *, tolerance: float = 0.01) -> Decision:
    """Accept a bank that lowers the mean FPR95 and worsens neither an outlier set nor ID accuracy by over `tolerance`.

    The mean alone would let a bank trade one outlier set for another; outliers unlike the feedback would pay for that.
    """
    lost_accuracy = before.id_accuracy - after.id_accuracy
    if lost_accuracy > tolerance:
        return Decision(False, f"ID accuracy would fall by {100 * lost_accuracy:.1f} points")
    for name, share in after.fpr95.items():
        if share - before.fpr95[name] > tolerance:
            return Decision(False, f"FPR95 on '{name}' would rise by {100 * (share - before.fpr95[name]):.1f} points")
    gained = before.mean_fpr95 - after.mean_fpr95
    if gained <= 0:
        return Decision(False, "mean FPR95 did not fall")
    return Decision(True, f"mean FPR95 fell by {100 * gained:.1f} points")

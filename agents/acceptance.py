"""When a change of the bank is kept: better on the first half of the feedback, and confirmed on the second.

A difference of mean FPR95 comes with its standard error, from a paired bootstrap: both banks are measured on the same
resamples of the images. A fixed tolerance would be wide on large sets and narrow on small ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agents.boundary import Boundary
from agents.halves import Half, Halves
from evaluation.bootstrap import MethodScores, resample

_REPLICATES = 400
_NORMAL_95 = 1.959964
_METRIC = "fpr95_id"


@dataclass(frozen=True, slots=True)
class Change:
    """By how much the mean FPR95 over the outlier sets changes (below 0: better), and the standard error of that."""

    value: float
    error: float

    def as_metrics(self) -> dict[str, float]:
        """Return both as plain JSON values."""
        return {"change": self.value, "error": self.error}


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a change is kept, why, and what was measured for it (plain JSON values)."""

    accepted: bool
    reason: str
    measured: dict[str, Any] = field(default_factory=dict)


def change(before: MethodScores, after: MethodScores, *, seed: int) -> Change:
    """Return what replacing one boundary by another does to the mean FPR95 on the same images."""
    found = resample({"before": before, "after": after}, seed=seed, count=_REPLICATES, names=(_METRIC,))
    estimate = found.paired_difference(_METRIC, "after", "before")
    return Change(estimate.value, (estimate.high - estimate.low) / (2 * _NORMAL_95))


def change_on(half: Half, before: Boundary, after: Boundary, *, seed: int) -> Change:
    """Return the change on one half of the feedback."""
    return change(before.on(half), after.on(half), seed=seed)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The rule by which a generation's bank replaces its parent's.

    Kept is a bank that is at least as good as its parent's on the first half and, on the second, not worse by more than
    `confirmation` standard errors; that keeps ID accuracy, within two of its standard errors; and that is not beaten by
    the best bank of the session so far. Equal banks are kept: antibodies that cost nothing are breadth, and breadth is
    what protects against outliers unlike the feedback.
    """

    halves: Halves
    seed: int
    confirmation: float

    def decide(self, parent: Boundary, child: Boundary, *, best: float) -> Decision:
        """Decide for or against a child; `best` is the lowest mean FPR95, over both halves, of the session so far."""
        first = change_on(self.halves.first, parent, child, seed=self.seed)
        second = change_on(self.halves.second, parent, child, seed=self.seed)
        measured = {"first_half": first.as_metrics(), "second_half": second.as_metrics()}
        lost, error = accuracy_lost(parent, child)
        limit = self.confirmation * second.error
        # Of two boundaries that differ by rounding alone neither is better.
        slack = 1e-9
        if lost > 2 * error + slack:
            return Decision(False, f"ID accuracy would fall by {100 * lost:.1f} points", measured)
        if first.value > slack:
            return Decision(False, f"no better on the first half: mean FPR95 {_points(first)}", measured)
        if second.value > limit + slack:
            return Decision(False, f"not confirmed on the second half: mean FPR95 {_points(second)}", measured)
        if child.mean_fpr95 > best + limit + slack:
            return Decision(False, f"an earlier bank is better: {100 * best:.1f} % mean FPR95", measured)
        return Decision(
            True, f"mean FPR95 {_points(first)} on the first half, {_points(second)} on the second", measured
        )


def accuracy_lost(before: Boundary, after: Boundary) -> tuple[float, float]:
    """Return by how much ID accuracy falls, and the standard error of that over the same images."""
    lost = before.right.astype(np.float64) - after.right
    return float(lost.mean()), float(lost.std() / np.sqrt(lost.size))


def _points(change: Change) -> str:
    return f"{100 * change.value:+.1f} ± {100 * change.error:.1f} points"

"""When a change of the bank is kept: better on the first half of the feedback, confirmed on the second.

Two measures count, means over the outlier sets, and each difference comes with its standard error, from a paired
bootstrap: both banks are measured on the same resamples of the images. FPR95, which is reported, turns on the few known
images about the threshold: on development mini-worlds (240 known images in a half) generations that lowered the sealed
FPR95 by 2 to 13 points were mostly 2 to 6 standard errors better by AUROC, but 0 to 4 by FPR95, which called some of
them worse. AUROC in turn counts known images that lose a little without ever being rejected.

Pruning takes antibodies out of a bank that does better without them. Suspects are the antibodies without which AUROC,
averaged over the outlier sets, is higher on the first half of the feedback. They go together, and only if the bank
without them is better on the second half too, by more than one standard error: one that seems to harm a few images is
more often noise than harm, and breadth is worth something.

A generation that is turned down gets a second chance without the suspects among its own antibodies: some that harm
should not cost those that help (agents.graph.Loop.decide).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from agents.feedback import Boundary, Half, Halves
from evaluation.bootstrap import Estimate, MethodScores, resample
from evaluation.effects.antibody_effects import AntibodyEffect

_REPLICATES = 300
Z_95 = 1.959964
CHANCE = 2.0
"""Standard errors: beyond them, worse is not chance any more."""
# Of two boundaries that differ by rounding alone neither is better.
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Change:
    """By how much the means over the outlier sets change, each set counting once, with their standard errors."""

    auroc: float
    auroc_error: float
    fpr95: float
    fpr95_error: float

    def no_worse(self, errors: float) -> bool:
        """Whether neither measure is worse by more than so many of its standard errors."""
        return self.auroc >= -errors * self.auroc_error - _SLACK and self.fpr95 <= errors * self.fpr95_error + _SLACK

    @property
    def better(self) -> bool:
        """Whether one of the two is better, by however little."""
        return self.auroc > _SLACK or self.fpr95 < -_SLACK

    @property
    def none(self) -> bool:
        """Whether nothing changes."""
        return abs(self.auroc) <= _SLACK and abs(self.fpr95) <= _SLACK

    def __str__(self) -> str:
        return f"AUROC {100 * self.auroc:+.2f} ± {100 * self.auroc_error:.2f}, FPR95 {100 * self.fpr95:+.1f} points"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a change is kept, why, and what was measured for it (plain JSON values)."""

    accepted: bool
    reason: str
    measured: dict[str, Any] = field(default_factory=dict)


def change(before: MethodScores, after: MethodScores, *, seed: int) -> Change:
    """Return what replacing one boundary by another does on the same images."""
    resampled = resample({"before": before, "after": after}, seed=seed, count=_REPLICATES, names=("auroc", "fpr95_id"))
    auroc, fpr95 = (resampled.paired_difference(metric, "after", "before") for metric in ("auroc", "fpr95_id"))
    return Change(auroc.value, _error(auroc), fpr95.value, _error(fpr95))


def change_on(half: Half, before: Boundary, after: Boundary, *, seed: int) -> Change:
    """Return the change on one half of the feedback."""
    return change(before.on(half), after.on(half), seed=seed)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The rule by which a generation's bank replaces its parent's.

    Kept is a bank that is better than its parent's on the first half by one measure, and on neither half worse by more
    than `confirmation` standard errors by the other; that keeps ID accuracy, within chance; and that the best bank of
    the session so far does not beat. Equal banks are kept: antibodies that cost nothing are breadth, and breadth is
    what protects against outliers unlike the feedback.
    """

    halves: Halves
    seed: int
    confirmation: float

    def decide(self, parent: Boundary, child: Boundary, *, best: float) -> Decision:
        """Decide for or against a child; `best` is the highest mean AUROC, on both halves, of a bank that was kept."""
        first = change_on(self.halves.first, parent, child, seed=self.seed)
        second = change_on(self.halves.second, parent, child, seed=self.seed)
        measured = {"first_half": asdict(first), "second_half": asdict(second)}
        lost, error = accuracy_lost(parent, child)
        if lost > CHANCE * error + _SLACK:
            return Decision(False, f"ID accuracy would fall by {100 * lost:.1f} points", measured)
        if not (first.none or (first.better and first.no_worse(self.confirmation))):
            return Decision(False, f"not better on the first half: {first}", measured)
        if not second.no_worse(self.confirmation):
            return Decision(False, f"not confirmed on the second half: {second}", measured)
        if child.mean_auroc < best - self.confirmation * second.auroc_error - _SLACK:
            return Decision(False, f"an earlier bank is better: mean AUROC {100 * best:.2f}", measured)
        return Decision(True, f"first half: {first}; second half: {second}", measured)


def accuracy_lost(before: Boundary, after: Boundary) -> tuple[float, float]:
    """Return by how much ID accuracy falls, and the standard error of that over the same images."""
    lost = before.right.astype(np.float64) - after.right
    return float(lost.mean()), float(lost.std() / np.sqrt(lost.size))


def _error(estimate: Estimate) -> float:
    return (estimate.high - estimate.low) / (2 * Z_95)


# Means of shares that differ by less are equal: rounding.
_NO_HARM = 1e-12


def suspects(effects: Sequence[AntibodyEffect]) -> tuple[str, ...]:
    """Return the ids of antibodies with which the mean AUROC over the sets is lower than without, in their order.

    `effects` are those on the first half.
    """
    raised: dict[str, list[float]] = defaultdict(list)
    for measured in effects:
        if measured.effect.scope == "leave_one_out":
            raised[measured.antibody_id].append(measured.effect.d_auroc)
    return tuple(key for key, values in raised.items() if np.mean(values) < -_NO_HARM)


def decide_pruning(halves: Halves, before: Boundary, after: Boundary, count: int, *, seed: int) -> Decision:
    """Decide whether `count` antibodies leave the bank."""
    second = change_on(halves.second, before, after, seed=seed)
    better = second.auroc > second.auroc_error and second.no_worse(CHANCE)
    measured = {"antibodies": count, "second_half": asdict(second)}
    verdict = "pruned" if better else "suspected, but not pruned"
    return Decision(better, f"{count} antibodies {verdict}; second half: {second}", measured)

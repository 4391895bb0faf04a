"""Takes antibodies out of a bank that does better without them.

Suspects are the antibodies without which AUROC, averaged over the outlier sets, is higher on the first half of the
feedback. They go together, and only if the bank without them is better on the second half too, by more than one
standard error: one that seems to harm a few images is more often noise than harm, and breadth is worth something.

A generation that is turned down gets a second chance without the suspects among its own antibodies: some that harm
should not cost those that help (agents.graph.Loop.decide).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from agents.acceptance import CHANCE, Decision, change_on
from agents.boundary import Boundary
from agents.halves import Halves
from evaluation.effects import AntibodyEffect

# Means of shares that differ by less are equal: rounding.
_NO_HARM = 1e-12


def suspects(effects: Sequence[AntibodyEffect]) -> tuple[str, ...]:
    """Return the ids of antibodies with which the mean AUROC over the sets is lower than without, in their order.

    `effects` are those on the first half.
    """
    raised: dict[str, list[float]] = defaultdict(list)
    for one in effects:
        if one.effect.scope == "leave_one_out":
            raised[one.antibody_id].append(one.effect.d_auroc)
    return tuple(key for key, values in raised.items() if np.mean(values) < -_NO_HARM)


def decide_pruning(halves: Halves, before: Boundary, after: Boundary, count: int, *, seed: int) -> Decision:
    """Decide whether `count` antibodies leave the bank."""
    second = change_on(halves.second, before, after, seed=seed)
    better = second.auroc > second.auroc_error and second.no_worse(CHANCE)
    measured = {"antibodies": count, "second_half": second.as_metrics()}
    verdict = "pruned" if better else "suspected, but not pruned"
    return Decision(better, f"{count} antibodies {verdict}; second half: {second}", measured)

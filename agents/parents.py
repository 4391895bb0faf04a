"""Which generation to continue from: one of the Pareto front over the feedback images, as GEPA does it.

A generation *handles* an outlier that it rejects (of the known images each accepts the same share, by its threshold).
It is on the front when it alone handles some image; the others have nothing that one of these lacks. The parent is
drawn from the front, each generation by the number of images that it alone handles, with the stored random state.

On development mini-worlds (1000 to 1003, six generations) always taking the best did better: banks grow by what is
kept, so a generation that goes back to an older one mostly repeats what has been done since. So that is the default;
with dozens of generations, or a model whose proposals contradict one another, the front may be worth its price.

GEPA (Agrawal et al., arXiv 2507.19457, and gepa-ai/gepa) counts the images where a candidate is among the best. Banks
grow by what was kept, so nearly every image is handled by nearly all of them, and that count tells little here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from immuno.records import Verdict

Handled = NDArray[np.bool_]


class ParentPolicy(Protocol):
    """Chooses the generation whose bank and guideline are continued."""

    @property
    def looks(self) -> bool:
        """Whether it wants to know what was handled; else `handled` may be empty."""
        ...

    def choose(self, handled: Mapping[int, Handled], *, best: int, generator: np.random.Generator) -> int:
        """Return a number among `handled`, which has (images,) per kept generation, in one order of the images."""
        ...


class Best:
    """Always the best generation."""

    looks = False

    def choose(self, handled: Mapping[int, Handled], *, best: int, generator: np.random.Generator) -> int:  # noqa: ARG002
        """Return `best`; nothing is drawn."""
        return best


class ParetoFront:
    """One of the front, drawn by how many images it alone handles; the best where no generation stands out."""

    looks = True

    def choose(self, handled: Mapping[int, Handled], *, best: int, generator: np.random.Generator) -> int:
        """Return the number of the parent. One number is drawn, whatever comes of it."""
        drawn = generator.random()
        alone = handled_alone(handled)
        total = sum(alone.values())
        if not total:
            return best
        numbers = sorted(alone)
        shares = np.cumsum([alone[number] / total for number in numbers])
        return numbers[min(int(np.searchsorted(shares, drawn, side="right")), len(numbers) - 1)]


def handled_alone(handled: Mapping[int, Handled]) -> dict[int, int]:
    """Return how many images each generation handles that no other handles; those with none are left out."""
    if not handled:
        return {}
    by = np.sum(list(handled.values()), axis=0)
    counts = {number: int(np.count_nonzero(one & (by == 1))) for number, one in handled.items()}
    return {number: count for number, count in counts.items() if count}


def handled_by(verdicts: Sequence[Verdict], *, known_set: str) -> Handled:
    """Return (images,) whether each outlier was rejected, in the order of set and image."""
    outliers = sorted(
        (one for one in verdicts if one.set_name != known_set), key=lambda one: (one.set_name, one.sample_id)
    )
    return np.array([not one.accepted for one in outliers], dtype=bool)


PARENT_POLICIES: Mapping[str, ParentPolicy] = {"pareto": ParetoFront(), "best": Best()}
"""By the name that refine.parents has for them."""

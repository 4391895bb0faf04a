"""Chooses a subset of a bank, one antibody after the other, by what each adds to those already chosen.

Forward selection on one half of the held-out images: the next antibody is the one that makes the mean FPR95 over the
outlier sets smallest, measured exactly, at the threshold that its own state of the bank gives. The other half decides
where to stop: the subset returned is the one of the path with the smallest mean FPR95 *there*, the shortest of equals,
and it may be empty. An antibody whose gain is noise of the first half does not get past the second.

For max-type and sum-type scores (evaluation.scores.base.RepulsionForm): what the chosen ones add to each image so far
is kept, so that a candidate costs only the images on which it would add to that. A candidate is measured only where it
could still be the best: at the present threshold it cannot gain more than the accepted outliers that it rejects, since
its own threshold is never higher (antibodies only lower scores, once there is one).

What is chosen is best for outliers like these. On our trials a bank cut down to what gains most did much better on such
outliers and much worse on others: look at the worst set of the result, and keep breadth where outliers are unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evaluation.effects.states import State, state_of
from evaluation.metrics import ACCEPTANCE, fpr95_id, threshold_at
from evaluation.scores.base import FittedScore, Floats, HasForm, RepulsionForm
from immuno_core.arrays import blocks, check_unit_rows
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, IntArray

DEFAULT_PATIENCE = 10
# Means of shares that differ by less are equal: rounding.
_NO_GAIN = 1e-12


class Fpr95(NamedTuple):
    """FPR95 over the outlier sets, each counting once whatever its size."""

    mean: float
    worst: float


@dataclass(frozen=True, slots=True)
class Step:
    """The bank after one more antibody, on the half that chooses and on the half that stops."""

    antibody_id: str
    chosen_on: Fpr95
    held_out: Fpr95


@dataclass(frozen=True, slots=True)
class Selected:
    """The antibodies chosen: `ids` and their `rows` in the bank, in the order of choice.

    `steps` is the whole path, those beyond the best point included; `empty` and `whole` are the held-out FPR95 without
    any antibody and with the whole bank, `best` that of the antibodies chosen.
    """

    ids: tuple[str, ...]
    rows: tuple[int, ...]
    steps: tuple[Step, ...]
    empty: Fpr95
    whole: Fpr95
    best: Fpr95


def select_set(
    fitted: FittedScore,
    known: FeatureSet,
    outliers: Mapping[str, FeatureSet],
    *,
    seed: int,
    acceptance: float = ACCEPTANCE,
    patience: int = DEFAULT_PATIENCE,
    most: int | None = None,
) -> Selected:
    """Choose a subset of the antibodies of a fitted score.

    Stops where no antibody lowers the mean FPR95 of the first half, after `patience` steps without a new best on the
    second, and at `most` antibodies. The halves are drawn by `seed`; the same arguments give the same subset, and of
    equal candidates the first of the bank is taken. Raises SetupError for a score that is neither max-type nor
    sum-type, no outlier set, and a set of fewer than two images.
    """
    if not isinstance(fitted, HasForm) or not isinstance(fitted.form, RepulsionForm):
        raise SetupError(f"the score '{fitted.name}' cannot select antibodies; use 'calibrated' or 's_dis'")
    if not outliers:
        raise SetupError("selecting antibodies needs an outlier set to measure them on")
    rng = np.random.default_rng(seed)
    first: list[FeatureSet] = []
    second: list[FeatureSet] = []
    for images in (known, *outliers.values()):
        if len(images) < 2:
            raise SetupError(f"set '{images.name}' has {len(images)} image(s); selecting needs one for each half")
        check_unit_rows(images.features, what=f"set '{images.name}'", dim=fitted.dim)
        shuffled = rng.permutation(len(images))
        first.append(images.take(np.sort(shuffled[: len(images) // 2])))
        second.append(images.take(np.sort(shuffled[len(images) // 2 :])))
    choosing, stopping = (_Half(fitted.form, fitted.width, sets, acceptance) for sets in (first, second))
    empty = best = stopping.fpr95()
    steps: list[Step] = []
    rows: list[int] = []
    kept = 0
    while len(rows) - kept < patience and (most is None or len(rows) < most):
        row = choosing.best_candidate()
        if row is None:
            break
        choosing.add(row)
        stopping.add(row)
        rows.append(row)
        steps.append(Step(fitted.form.ids[row], choosing.fpr95(), stopping.fpr95()))
        if steps[-1].held_out.mean < best.mean:
            best, kept = steps[-1].held_out, len(rows)
    scores = [fitted.score(images.features) for images in second]
    ids = tuple(fitted.form.ids[row] for row in rows[:kept])
    return Selected(ids, tuple(rows[:kept]), tuple(steps), empty, _fpr95(scores[0], scores[1:], acceptance), best)


class _Half:
    """One half of the images under the antibodies chosen so far.

    What every antibody would add is in three arrays of one length: `_of` the antibody, ascending, `_image`, and
    `_value`. Images of all sets are numbered through, the known ones first.
    """

    def __init__(self, form: RepulsionForm, width: int, sets: Sequence[FeatureSet], acceptance: float) -> None:
        states = [state_of(form, images, width) for images in sets]
        self._form, self._acceptance = form, acceptance
        self._starts = np.cumsum([0, *(len(images) for images in sets)])
        self._base = np.concatenate([state.bare.scores for state in states])
        self._set = np.repeat(np.arange(len(sets)), np.diff(self._starts))
        self._of, self._image, self._value = _terms(states, self._starts, len(form.ids))
        # What is not silent adds something, perhaps less than nothing, to every image; none chosen is not 0.
        self._added = np.full(len(self._base), 0.0 if form.silent else -np.inf)
        self._chosen: list[int] = []

    def fpr95(self) -> Fpr95:
        """Of the antibodies chosen so far."""
        return self._measured(self._scores(self._added))

    def add(self, row: int) -> None:
        """Choose one more antibody."""
        some = self._entries(row)
        image = self._image[some]
        self._added[image] = self._combined(self._added[image], self._value[some])
        self._chosen.append(row)
        gone = self._of == row
        if self._form.combine == "max":
            # What adds nothing now never will.
            gone |= self._value <= self._added[self._image]
        self._of, self._image, self._value = self._of[~gone], self._image[~gone], self._value[~gone]

    def best_candidate(self) -> int | None:
        """Return the antibody that lowers the mean FPR95 most, the first of equals; None where none does."""
        scores = self._scores(self._added)
        threshold = threshold_at(scores[: self._starts[1]], self._acceptance)
        sizes = np.diff(self._starts)
        weights = np.concatenate([[0.0], 1 / (sizes[1:] * (len(sizes) - 1))])
        new = self._base[self._image] - self._form.weight * self._combined(self._added[self._image], self._value)
        flipped = (scores[self._image] >= threshold) & (new < threshold)
        count = len(self._form.ids)
        most = np.zeros(count)
        np.add.at(most, self._of[flipped], weights[self._set[self._image[flipped]]])
        if np.isneginf(self._added).any():
            # Not lowered but moved: nothing is known of the first one before it is measured.
            most[:] = np.inf
        before, best, found = self._measured(scores).mean, 0.0, None
        for row in np.argsort(-most, kind="stable"):
            # Equal ones are measured, too: the first of the bank is to win, not the first measured.
            if most[row] <= _NO_GAIN or most[row] < best - _NO_GAIN:
                break
            some = self._entries(int(row))
            changed = scores.copy()
            changed[self._image[some]] = new[some]
            gain = before - self._measured(changed).mean
            if gain > best + _NO_GAIN or (found is not None and gain > best - _NO_GAIN and row < found):
                best, found = gain, int(row)
        return found

    def _entries(self, row: int) -> slice:
        return slice(int(self._of.searchsorted(row)), int(self._of.searchsorted(row, "right")))

    def _combined(self, added: Floats, value: Floats) -> Floats:
        return np.maximum(added, value) if self._form.combine == "max" else added + value

    def _scores(self, added: Floats) -> Floats:
        return self._base - self._form.weight * np.where(np.isneginf(added), 0.0, added)

    def _measured(self, scores: Floats) -> Fpr95:
        known, *outliers = np.split(scores, self._starts[1:-1])
        return _fpr95(known, outliers, self._acceptance)


def _terms(states: Sequence[State], starts: IntArray, count: int) -> tuple[IntArray, IntArray, Floats]:
    """What every antibody adds: which antibody (c,), on which image (c,), how much (c,)."""
    parts: list[tuple[int, IntArray, Floats]] = []
    for some in blocks(count, int(starts[-1])):
        cosines = [state.cosines(some) for state in states]
        for i, j in enumerate(range(some.start, some.stop)):
            for state, start, of_set in zip(states, starts[:-1], cosines, strict=True):
                rows, values = state.term(j, of_set[i])
                images = np.arange(len(state))[rows] + start
                parts.append((j, images, values.copy()))
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    of = np.repeat([j for j, _, _ in parts], [len(values) for _, _, values in parts])
    return of, np.concatenate([images for _, images, _ in parts]), np.concatenate([values for _, _, values in parts])


def _fpr95(known: Floats, outliers: Sequence[Floats], acceptance: float) -> Fpr95:
    shares = [fpr95_id(known, scores, acceptance) for scores in outliers]
    return Fpr95(float(np.mean(shares)), max(shares))

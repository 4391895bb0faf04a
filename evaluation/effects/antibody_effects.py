"""Boundary effects: what an antibody, or a whole bank, changes on held-out images.

Two views of one antibody j of a bank:

- solo: j alone against no antibody at all.
- leave_one_out: the bank against the bank without j.

Exact for every score that says how antibodies enter it (evaluation.scores.base). Nothing is scored again per
antibody: each meets every image once, or twice where the score adds antibodies up; then only what it changes is ranked
(evaluation.effects.states, evaluation.effects.shifts).

Gain and harm are counted at the threshold of the state without j (without the bank), which accepts `acceptance` of the
known images; see `immuno_core.records.Effect`. `d_id_accuracy` is the change, at that threshold, in the share of known
images that are accepted *and* rightly classified: antibodies change no classification. `d_fpr95` is measured at each
state's own threshold.

An antibody *fires* on the images that exceed its radius. Where a score has no radii (s_dis, eoe, neglabel, ...) it
fires on those to which it is the nearest antibody of the bank, the first of equals.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from evaluation.effects.exposed import Exposed, Judged
from evaluation.effects.shifts import Boundary, Shift
from evaluation.effects.states import State, Term, state_of, state_where
from evaluation.metrics import ACCEPTANCE, auroc, fpr95_id, threshold_at
from evaluation.scores.base import FittedScore, Form, HasForm
from evaluation.scores.calibrated import FittedCalibrated
from immuno_core.arrays import blocks, check_labels, check_unit_rows
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, IntArray
from immuno_core.records import Effect

T = TypeVar("T")
_Terms = list[Term]
"""Of one antibody, by image set."""
# Antibodies that one thread takes at a time: enough to keep it busy, few enough for its caches.
AT_ONCE = 8
# Numbers kept from the first meeting for the second: 512 MiB.
MOST_KEPT = 2**26


@dataclass(frozen=True, slots=True)
class AntibodyEffect:
    """The effect of the antibody with this id in its bank."""

    antibody_id: str
    effect: Effect


def antibody_effects(
    fitted: FittedScore,
    known: FeatureSet,
    known_labels: IntArray,
    outliers: Mapping[str, FeatureSet],
    *,
    acceptance: float = ACCEPTANCE,
    visual_only: bool = False,
) -> tuple[AntibodyEffect, ...]:
    """Return the solo and leave-one-out effects of each antibody of a fitted score on each outlier set.

    `known` are n ID images with class indices `known_labels` (n,); `outliers` maps set name to images. In the order of
    the bank, then of the sets, solo first. Memory grows with the images and, beyond some 512 MiB, not with images times
    antibodies. `visual_only` leaves out those with texts. Raises SetupError for a score without antibodies, an empty
    set, and images or labels that do not fit.
    """
    if not isinstance(fitted, HasForm):
        raise SetupError(f"the score '{fitted.name}' gives an antibody no effect of its own; use 'calibrated'")
    every = (None if visual_only else fitted.form, fitted.visual_form)
    right = _rightly_classified(fitted, known, known_labels)
    for name, images in outliers.items():
        check_unit_rows(images.features, what=f"set '{name}'", dim=fitted.dim)
    sets = (known, *outliers.values())
    with ThreadPoolExecutor(_processors()) as pool:
        return tuple(
            effect
            for form in every
            if form is not None
            for effect in _effects_of(
                form,
                list(pool.map(lambda images, form=form: state_of(form, images, fitted.width), sets)),
                right,
                tuple(outliers),
                pool,
                acceptance,
            )
        )


def exposed_effects(
    fitted: FittedCalibrated,
    known: Exposed,
    known_labels: IntArray,
    outliers: Mapping[str, Exposed],
    *,
    acceptance: float = ACCEPTANCE,
) -> tuple[AntibodyEffect, ...]:
    """Return what `antibody_effects` does, of images that were exposed to other banks of the score before."""
    right = _right(known.nearest, known_labels, "known images", len(fitted.class_vectors))
    sets, visual = (known, *outliers.values()), fitted.visual_form
    states = [(fitted.form, [state_where(fitted.form, *images.with_texts(fitted)) for images in sets])]
    if visual is not None:
        states.append((visual, [state_where(visual, *images.visual(fitted, visual)) for images in sets]))
    with ThreadPoolExecutor(_processors()) as pool:
        return tuple(
            effect
            for form, of_sets in states
            for effect in _effects_of(form, of_sets, right, tuple(outliers), pool, acceptance)
        )


def _effects_of(
    form: Form,
    states: Sequence[State],
    right: NDArray[np.bool_],
    names: Sequence[str],
    pool: ThreadPoolExecutor,
    acceptance: float,
) -> Iterator[AntibodyEffect]:
    if not form.ids:
        return
    meeting = _Meeting(states, len(form.ids), pool)
    solo = _solo(meeting, right, acceptance)
    left_out = _leave_one_out(meeting, right, acceptance)
    for j, antibody_id in enumerate(form.ids):
        for i, name in enumerate(names):
            fired = {"fired_id": int(states[0].fired[j]), "fired_outliers": int(states[1 + i].fired[j])}
            yield AntibodyEffect(antibody_id, Effect(scope="solo", outlier_set=name, **solo[j][i]._asdict(), **fired))
            yield AntibodyEffect(
                antibody_id, Effect(scope="leave_one_out", outlier_set=name, **left_out[j][i]._asdict(), **fired)
            )


class JudgedSets(NamedTuple):
    """What a fitted score says of known images, and of outlier sets."""

    known: Judged
    outliers: Mapping[str, Judged]

    @classmethod
    def by(cls, fitted: FittedScore, known: FeatureSet, outliers: Mapping[str, FeatureSet]) -> Self:
        """Ask a score; one that knows no firing has none fire."""
        return cls(_judged(fitted, known), {name: _judged(fitted, images) for name, images in outliers.items()})


def _judged(fitted: FittedScore, images: FeatureSet) -> Judged:
    x, antibody = images.features, np.full(len(images), -1)
    if isinstance(fitted, FittedCalibrated):
        antibody = fitted.exceedance(x).antibody
    return Judged(fitted.score(x), fitted.predict(x), antibody)


def bank_effects(
    *, before: JudgedSets, after: JudgedSets, known_labels: IntArray, acceptance: float = ACCEPTANCE
) -> tuple[Effect, ...]:
    """Return the effect of going from one fitted score to another (usually: to one with a larger bank) per outlier set.

    Gain and harm hold the threshold of `before` fixed, so both scores must be in the same unit: the same score, with
    the same base. Fired are the images on which any antibody of `after` fires.
    Raises SetupError for an empty set and labels that do not fit.
    """
    old_known, new_known = before.known.scores, after.known.scores
    threshold = threshold_at(old_known, acceptance)
    lost = (old_known >= threshold) & (new_known < threshold)
    classes = 1 + int(known_labels.max(initial=0))
    old_right, new_right = (
        (judged.known.scores >= threshold) & _right(judged.known.nearest, known_labels, "known images", classes)
        for judged in (before, after)
    )
    effects = []
    for name, judged in after.outliers.items():
        old, new = before.outliers[name].scores, judged.scores
        gained = (old >= threshold) & (new < threshold)
        effects.append(
            Effect(
                scope="bank",
                outlier_set=name,
                gain=_share(gained, int(np.count_nonzero(old >= threshold))),
                harm=_share(lost, int(np.count_nonzero(old_known >= threshold))),
                d_fpr95=fpr95_id(new_known, new, acceptance) - fpr95_id(old_known, old, acceptance),
                d_auroc=auroc(new_known, new) - auroc(old_known, old),
                d_id_accuracy=float(np.mean(new_right)) - float(np.mean(old_right)),
                fired_id=after.known.fired,
                fired_outliers=judged.fired,
            )
        )
    return tuple(effects)


class _Meeting:
    """Antibodies meeting image sets, a few antibodies at a time in each thread; NumPy lets threads run at once."""

    def __init__(self, states: Sequence[State], count: int, pool: ThreadPoolExecutor) -> None:
        self.states, self.count, self._pool = states, count, pool
        self._images = sum(len(state) for state in states)
        self._keeps = states[0].meets_twice and count * self._images <= MOST_KEPT
        self._kept: list[list[_Terms]] = []

    def first(self, measure: Callable[[range, list[_Terms]], list[T]]) -> list[T]:
        """Return `measure` of every antibody, and count each in."""
        measured: list[T] = []
        for block in self._blocks():
            terms = self._terms(block)
            measured += self._measured(block, terms, measure)
            list(
                self._pool.map(
                    lambda i, block=block, terms=terms: self._absorb(i, block, terms), range(len(self.states))
                )
            )
            if self._keeps:
                self._kept.append(terms)
        for state in self.states:
            state.finish()
        return measured

    def again(self, measure: Callable[[range, list[_Terms]], list[T]]) -> list[T]:
        """Return `measure` of every antibody once more."""
        measured: list[T] = []
        for i, block in enumerate(self._blocks()):
            measured += self._measured(block, self._kept[i] if self._keeps else self._terms(block), measure)
        return measured

    def each(self, measure: Callable[[range], list[T]]) -> list[T]:
        """Return what `measure` says of a few antibodies at a time, without their terms."""
        return [value for part in self._pool.map(measure, _parts(0, self.count)) for value in part]

    def _blocks(self) -> Iterator[slice]:
        return blocks(self.count, self._images)

    def _terms(self, block: slice) -> list[_Terms]:
        """By antibody and image set."""
        of_states = [state.terms(block) for state in self.states]

        def of_part(part: range) -> list[_Terms]:
            return [[term(j) for term in of_states] for j in part]

        return [terms for part in self._pool.map(of_part, _parts(block.start, block.stop)) for terms in part]

    def _measured(
        self, block: slice, terms: list[_Terms], measure: Callable[[range, list[_Terms]], list[T]]
    ) -> list[T]:
        parts = _parts(block.start, block.stop)
        of_parts = (terms[part.start - block.start : part.stop - block.start] for part in parts)
        return [value for part in self._pool.map(measure, parts, of_parts) for value in part]

    def _absorb(self, i: int, block: slice, terms: list[_Terms]) -> None:
        for j, of_antibody in enumerate(terms, block.start):
            self.states[i].absorb(j, of_antibody[i])


def _solo(meeting: _Meeting, right: NDArray[np.bool_], acceptance: float) -> list[list[Shift]]:
    """From no antibody to each alone, (A,) by outlier set. Leaves the states finished."""
    states = meeting.states
    boundary = Boundary([state.bare for state in states], right, acceptance, sign=1)
    return meeting.first(
        lambda _, terms: boundary.shifts(
            [[state.alone(term) for state, term in zip(states, of_antibody, strict=True)] for of_antibody in terms]
        )
    )


def _leave_one_out(meeting: _Meeting, right: NDArray[np.bool_], acceptance: float) -> list[list[Shift]]:
    """From the bank without each antibody to the bank, (A,) by outlier set."""
    states = meeting.states
    boundary = Boundary([state.full for state in states], right, acceptance, sign=-1)
    if not states[0].meets_twice:
        return meeting.each(lambda rows: boundary.shifts([[state.left_out(j, None) for state in states] for j in rows]))
    return meeting.again(
        lambda rows, terms: boundary.shifts(
            [
                [state.left_out(j, term) for state, term in zip(states, of_antibody, strict=True)]
                for j, of_antibody in zip(rows, terms, strict=True)
            ]
        )
    )


def _parts(start: int, stop: int) -> list[range]:
    return [range(first, min(first + AT_ONCE, stop)) for first in range(start, stop, AT_ONCE)]


def _processors() -> int:
    """How many threads are worth starting."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _rightly_classified(fitted: FittedScore, known: FeatureSet, labels: IntArray) -> NDArray[np.bool_]:
    return _right(fitted.predict(known.features), labels, f"set '{known.name}'", len(fitted.class_vectors))


def _right(nearest: IntArray, labels: IntArray, what: str, classes: int) -> NDArray[np.bool_]:
    check_labels(labels, what=what, samples=len(nearest), classes=classes)
    right: NDArray[np.bool_] = nearest == labels
    return right


def _share(flags: NDArray[np.bool_], of: int) -> float:
    return int(np.count_nonzero(flags)) / of if of else 0.0

"""Boundary effects: what an antibody, or a whole bank, changes on held-out images.

Two views of one antibody j of a bank scored by evaluation.scores.calibrated:

- solo: j alone against no antibody at all. The score goes from b(x) to b(x) - beta e_j(x).
- leave_one_out: the bank against the bank without j. That differs only where e_j is the largest exceedance, and there
  the second largest takes its place.

So nothing is scored again per antibody. Gain and harm are counted at the threshold of the state without j (without the
bank), which accepts `acceptance` of the known images; see `immuno.records.Effect`. `d_id_accuracy` is the change, at
that threshold, in the share of known images that are accepted *and* rightly classified: antibodies change no
classification, they only refuse. `d_fpr95` is measured at each state's own threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.blocks import blocks
from evaluation.checks import check_labels
from evaluation.features import FeatureSet, IntArray
from evaluation.metrics import ACCEPTANCE, auroc, fpr95_id, threshold_at
from evaluation.radii import exceedances, margins_to, nearest_text_cosine
from evaluation.ranking import Change, RankedPair, RankedScores
from evaluation.scores.base import FittedScore
from evaluation.scores.calibrated import FittedCalibrated
from immuno.errors import SetupError
from immuno.records import Effect


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
) -> tuple[AntibodyEffect, ...]:
    """Return the solo and leave-one-out effects of each antibody of a fitted calibrated score on each outlier set.

    `known` are n ID images with class indices `known_labels` (n,); `outliers` maps set name to images. In the order of
    the bank, then of the sets, solo first. Raises SetupError for another score, an empty set, and labels that do not
    fit.
    """
    if not isinstance(fitted, FittedCalibrated):
        raise SetupError(f"the score '{fitted.name}' gives an antibody no effect of its own; use 'calibrated'")
    right = _rightly_classified(fitted, known, known_labels)
    known_state = _State(fitted, known)
    states = {name: _State(fitted, images) for name, images in outliers.items()}
    pairs = {name: _Pairs(known_state, state) for name, state in states.items()}
    found: list[AntibodyEffect] = []
    most = max(len(images) for images in (known, *outliers.values()))
    for some in blocks(len(fitted.bank), most):
        of_known = known_state.actions(some)
        of_outliers = {name: state.actions(some) for name, state in states.items()}
        for i, antibody_id in enumerate(fitted.bank.ids[some]):
            thresholds = _Thresholds.after(known_state, of_known[i], acceptance)
            for name, pair in pairs.items():
                actions = of_known[i], of_outliers[name][i]
                solo = _solo(name, pair, thresholds, *actions, right)
                left_out = _leave_one_out(name, pair, thresholds, *actions, right)
                found += [AntibodyEffect(antibody_id, solo), AntibodyEffect(antibody_id, left_out)]
    return tuple(found)


def bank_effects(
    *,
    before: FittedScore,
    after: FittedScore,
    known: FeatureSet,
    known_labels: IntArray,
    outliers: Mapping[str, FeatureSet],
    acceptance: float = ACCEPTANCE,
) -> tuple[Effect, ...]:
    """Return the effect of going from one fitted score to another (usually: to one with a larger bank) per outlier set.

    Gain and harm hold the threshold of `before` fixed, so both scores must be in the same unit: the same score, with
    the same base. Fired are the images on which any antibody of `after` fires, 0 where the score knows no firing.
    Raises SetupError for an empty set and labels that do not fit.
    """
    old_known, new_known = before.score(known.features), after.score(known.features)
    threshold = threshold_at(old_known, acceptance)
    lost = (old_known >= threshold) & (new_known < threshold)
    old_right = (old_known >= threshold) & _rightly_classified(before, known, known_labels)
    new_right = (new_known >= threshold) & _rightly_classified(after, known, known_labels)
    fired_id = _firing(after, known)
    effects = []
    for name, images in outliers.items():
        old, new = before.score(images.features), after.score(images.features)
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
                fired_id=fired_id,
                fired_outliers=_firing(after, images),
            )
        )
    return tuple(effects)


class _Action(NamedTuple):
    """What one antibody does to an image set: to the scores without any antibody, and what leaving it out does."""

    alone: Change
    left_out: Change

    @property
    def fired(self) -> int:
        return len(self.alone.rows)


class _State:
    """One image set under a fitted score: without any antibody (`bare`), and under the whole bank (`full`)."""

    def __init__(self, fitted: FittedCalibrated, images: FeatureSet) -> None:
        if not len(images):
            raise SetupError(f"set '{images.name}' has no images to measure effects on")
        self._fitted, self._features = fitted, images.features
        self._exceedance = fitted.exceedance(images.features)
        self._nearest = nearest_text_cosine(images.features, fitted.texts)
        self.bare = RankedScores(self._exceedance.base)
        self.full = RankedScores(self._exceedance.base - fitted.beta * self._exceedance.largest)

    def actions(self, some: slice) -> list[_Action]:
        """Return what each antibody of a slice of the bank does to these images."""
        fitted, exceedance = self._fitted, self._exceedance
        beyond = exceedances(margins_to(self._features, self._nearest, fitted.antibodies[some]), fitted.radii[some])
        # The rows of each antibody that is somewhere the largest, found in one sort instead of one search per antibody.
        order = np.argsort(exceedance.antibody, kind="stable")
        bounds = np.searchsorted(exceedance.antibody[order], np.arange(some.start, some.stop + 1))
        found = []
        for i, row in enumerate(beyond):
            fires = np.flatnonzero(row)
            leads = order[bounds[i] : bounds[i + 1]]
            found.append(
                _Action(
                    alone=Change(fires, exceedance.base[fires] - fitted.beta * row[fires]),
                    left_out=Change(leads, exceedance.base[leads] - fitted.beta * exceedance.second[leads]),
                )
            )
        return found


class _Pairs:
    """Known images against one outlier set, without any antibody and under the whole bank."""

    def __init__(self, known: _State, outliers: _State) -> None:
        self.bare = RankedPair(known.bare, outliers.bare)
        self.full = RankedPair(known.full, outliers.full)


class _Thresholds(NamedTuple):
    """Thresholds without any antibody, with this one alone, with the whole bank, and with all but this one."""

    bare: float
    alone: float
    full: float
    left_out: float

    @classmethod
    def after(cls, known: _State, action: _Action, acceptance: float) -> _Thresholds:
        return cls(
            bare=known.bare.threshold(acceptance),
            alone=known.bare.threshold(acceptance, action.alone),
            full=known.full.threshold(acceptance),
            left_out=known.full.threshold(acceptance, action.left_out),
        )


def _solo(
    name: str, pairs: _Pairs, thresholds: _Thresholds, known: _Action, outliers: _Action, right: NDArray[np.bool_]
) -> Effect:
    """From no antibody to this one."""
    pair, threshold = pairs.bare, thresholds.bare
    lost = pair.known.flipped(threshold, known.alone, to_rejected=True)
    gained = pair.outliers.flipped(threshold, outliers.alone, to_rejected=True)
    accepted = pair.outliers.accepted(threshold)
    accepted_with = pair.outliers.accepted(thresholds.alone, outliers.alone)
    return Effect(
        scope="solo",
        outlier_set=name,
        gain=_share(gained, accepted),
        harm=_share(lost, pair.known.accepted(threshold)),
        d_fpr95=(accepted_with - accepted) / len(pair.outliers),
        d_auroc=pair.auroc_of(pair.won_after(known.alone, outliers.alone) - pair.won),
        d_id_accuracy=-_share(lost & right[known.alone.rows], len(pair.known)),
        fired_id=known.fired,
        fired_outliers=outliers.fired,
    )


def _leave_one_out(
    name: str, pairs: _Pairs, thresholds: _Thresholds, known: _Action, outliers: _Action, right: NDArray[np.bool_]
) -> Effect:
    """From the bank without this antibody to the bank. The changes go the other way round: from the bank to without."""
    pair, threshold = pairs.full, thresholds.left_out
    lost = pair.known.flipped(threshold, known.left_out, to_rejected=False)
    gained = pair.outliers.flipped(threshold, outliers.left_out, to_rejected=False)
    accepted = pair.outliers.accepted(threshold, outliers.left_out)
    return Effect(
        scope="leave_one_out",
        outlier_set=name,
        gain=_share(gained, accepted),
        harm=_share(lost, pair.known.accepted(threshold, known.left_out)),
        d_fpr95=(pair.outliers.accepted(thresholds.full) - accepted) / len(pair.outliers),
        d_auroc=pair.auroc_of(pair.won - pair.won_after(known.left_out, outliers.left_out)),
        d_id_accuracy=-_share(lost & right[known.left_out.rows], len(pair.known)),
        fired_id=known.fired,
        fired_outliers=outliers.fired,
    )


def _rightly_classified(fitted: FittedScore, known: FeatureSet, labels: IntArray) -> NDArray[np.bool_]:
    check_labels(labels, what=f"set '{known.name}'", samples=len(known), classes=len(fitted.class_vectors))
    right: NDArray[np.bool_] = fitted.predict(known.features) == labels
    return right


def _firing(fitted: FittedScore, images: FeatureSet) -> int:
    if not isinstance(fitted, FittedCalibrated):
        return 0
    return int(np.count_nonzero(fitted.exceedance(images.features).antibody >= 0))


def _share(flags: NDArray[np.bool_], of: int) -> float:
    return int(np.count_nonzero(flags)) / of if of else 0.0

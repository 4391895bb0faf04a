"""When a change of the bank is kept: by statistics of the two halves, never by one figure alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents.acceptance import Acceptance, Change, change, change_on, decide_pruning
from agents.feedback import Boundary, Half, Halves
from evaluation.bootstrap import MethodScores
from evaluation.effects.antibody_effects import JudgedSets
from evaluation.effects.exposed import Judged
from evaluation.metrics import auroc, fpr95_id, threshold_at

KNOWN, OUTLIERS = 200, 120


def judged(scores: np.ndarray) -> Judged:
    nothing = np.zeros(len(scores), np.int64)
    return Judged(scores, nothing, nothing - 1)


def boundary(scores: np.ndarray, outliers: np.ndarray, right: np.ndarray | None = None) -> Boundary:
    """A boundary of given scores; the decision looks at nothing else."""
    return Boundary(
        fitted=None,  # type: ignore[arg-type]
        threshold=threshold_at(scores),
        judged=JudgedSets(judged(scores), {"near": judged(outliers)}),
        right=np.ones(len(scores), bool) if right is None else right,
        fpr95={"near": fpr95_id(scores, outliers)},
        auroc={"near": auroc(scores, outliers)},
    )


@pytest.fixture(scope="module")
def scores() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(1.0, 1.0, KNOWN), rng.normal(0.0, 1.0, OUTLIERS)


def halves() -> Halves:
    def half(start: int) -> Half:
        return Half(np.arange(start, KNOWN, 2), {"near": np.arange(start, OUTLIERS, 2)})

    return Halves(half(0), half(1))


def decide(parent: Boundary, child: Boundary, *, best: float | None = None, confirmation: float = 1.0) -> Any:
    return Acceptance(halves(), 0, confirmation).decide(parent, child, best=parent.mean_auroc if best is None else best)


def test_the_change_is_measured_on_the_same_images() -> None:
    """A shift of every score changes nothing, and the bootstrap knows it: its error is 0, not that of two samples."""
    rng = np.random.default_rng(1)
    known, outliers = rng.normal(1, 1, 80), rng.normal(0, 1, 80)
    right = np.ones(80, bool)
    moved = change(
        MethodScores(known, right, {"a": outliers}), MethodScores(known + 1, right, {"a": outliers + 1}), seed=0
    )
    assert moved == Change(0.0, 0.0, 0.0, 0.0)


def test_the_error_of_a_change_is_that_of_repeated_samples() -> None:
    """Against samples drawn anew from the same population, which the bootstrap stands in for."""
    rng = np.random.default_rng(2)

    def sample() -> tuple[MethodScores, MethodScores]:
        known, outliers, noise = rng.normal(1, 1, 150), rng.normal(0, 1, 150), rng.normal(0.5, 0.7, 150)
        right = np.ones(150, bool)
        return MethodScores(known, right, {"a": outliers}), MethodScores(known, right, {"a": outliers - noise})

    found = [change(*sample(), seed=0) for _ in range(40)]
    assert np.mean([one.auroc_error for one in found]) == pytest.approx(np.std([one.auroc for one in found]), rel=0.35)


def test_lower_outliers_on_both_halves_are_kept(scores: Any) -> None:
    known, outliers = scores
    decision = decide(boundary(known, outliers), boundary(known, outliers - 0.5))
    assert decision.accepted
    assert decision.measured["first_half"]["auroc"] > 0
    assert decision.measured["second_half"]["auroc"] > 0


def test_an_equal_bank_is_kept_for_breadth(scores: Any) -> None:
    known, outliers = scores
    assert decide(boundary(known, outliers), boundary(known, outliers)).accepted


def test_worse_on_the_first_half_is_turned_down(scores: Any) -> None:
    known, outliers = scores
    child = outliers - 0.5
    child[::2] = outliers[::2] + 0.2
    decision = decide(boundary(known, outliers), boundary(known, child))
    assert not decision.accepted
    assert decision.reason.startswith("not better on the first half")


def test_what_the_second_half_does_not_confirm_is_turned_down(scores: Any) -> None:
    known, outliers = scores
    child = outliers - 0.5
    child[1::2] = outliers[1::2] + 0.3
    decision = decide(boundary(known, outliers), boundary(known, child))
    assert not decision.accepted
    assert decision.reason.startswith("not confirmed on the second half")


def test_how_much_confirmation_is_asked_for_is_a_setting(scores: Any) -> None:
    known, outliers = scores
    rng = np.random.default_rng(3)
    child = outliers - 0.5
    child[1::2] = outliers[1::2] + rng.normal(0.02, 0.5, OUTLIERS // 2)
    parent, mixed = boundary(known, outliers), boundary(known, child)
    measured = decide(parent, mixed).measured["second_half"]
    needed = -measured["auroc"] / measured["auroc_error"]
    assert 0 < needed < 3
    assert not decide(parent, mixed, confirmation=needed * 0.9).accepted
    assert decide(parent, mixed, confirmation=needed * 1.1).accepted


def test_a_child_of_an_older_parent_has_to_reach_the_best(scores: Any) -> None:
    known, outliers = scores
    parent, child, best = (boundary(known, outliers - by) for by in (0.0, 0.3, 1.5))
    assert decide(parent, child).accepted
    decision = decide(parent, child, best=best.mean_auroc)
    assert not decision.accepted
    assert decision.reason.startswith("an earlier bank is better")


def test_id_accuracy_may_not_pay_for_outliers(scores: Any) -> None:
    known, outliers = scores
    right = np.arange(KNOWN) % 20 != 0
    wrong = right.copy()
    wrong[:30] = False
    decision = decide(boundary(known, outliers, right), boundary(known, outliers - 1, wrong))
    assert not decision.accepted
    assert decision.reason.startswith("ID accuracy would fall by")
    one_less = right.copy()
    one_less[np.flatnonzero(right)[0]] = False
    assert decide(boundary(known, outliers, right), boundary(known, outliers - 1, one_less)).accepted


def test_neither_measure_may_be_worse_beyond_its_error() -> None:
    """However much the other gains."""
    mixed = Change(auroc=0.02, auroc_error=0.01, fpr95=0.1, fpr95_error=0.02)
    assert mixed.better
    assert not mixed.no_worse(1)
    assert replace(mixed, fpr95=0.01).no_worse(1)
    assert not replace(mixed, auroc=-0.02, fpr95=-0.1).no_worse(1)
    assert replace(mixed, auroc=-0.02, fpr95=-0.1).no_worse(3)


def test_better_is_better_by_one_measure() -> None:
    nothing = Change(0.0, 0.01, 0.0, 0.01)
    assert nothing.none
    assert not nothing.better
    assert replace(nothing, fpr95=-0.01).better
    assert replace(nothing, auroc=0.01).better


def without_some(scores: Any, after: np.ndarray) -> Any:
    known, outliers = scores
    return decide_pruning(halves(), boundary(known, outliers), boundary(known, after), 3, seed=0)


def test_pruning_takes_more_than_a_standard_error(scores: Any) -> None:
    outliers = scores[1]
    decision = without_some(scores, outliers - 0.5)
    assert decision.accepted
    assert decision.reason.startswith("3 antibodies pruned; second half: ")
    moved = np.random.default_rng(3).normal(0, 0.7, OUTLIERS)
    decision = without_some(scores, outliers + moved - 0.1)
    measured = decision.measured["second_half"]
    assert 0 < measured["auroc"] < measured["auroc_error"]
    assert measured["fpr95"] <= 2 * measured["fpr95_error"]
    assert not decision.accepted
    assert decision.reason.startswith("3 antibodies suspected, but not pruned")


def test_pruning_may_not_cost_fpr95_beyond_chance(scores: Any) -> None:
    known, outliers = scores
    rejected, high = outliers < threshold_at(known), outliers > 0.5
    after = np.where(rejected | high, 0.01 * outliers, outliers)
    decision = without_some(scores, after)
    measured = decision.measured["second_half"]
    assert measured["auroc"] > measured["auroc_error"]
    assert measured["fpr95"] > 2 * measured["fpr95_error"]
    assert not decision.accepted


def test_within_its_error_an_earlier_bank_is_not_better(scores: Any) -> None:
    known, outliers = scores
    parent, child = boundary(known, outliers), boundary(known, outliers - 0.1)
    error = change_on(halves().second, parent, child, seed=0).auroc_error
    assert error > 0
    assert decide(parent, child, best=child.mean_auroc + 0.9 * error).accepted
    assert not decide(parent, child, best=child.mean_auroc + 1.1 * error).accepted

"""Effects of every score with antibodies agree with scoring each bank from scratch and counting pair by pair."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evaluation.effects import antibody_effects as effects
from evaluation.effects import shifts
from evaluation.effects.antibody_effects import antibody_effects
from evaluation.effects.states import state_of
from evaluation.scores.base import FittedScore, HasForm
from evaluation.scores.registry import SCORES, make_score
from evaluation.space import Bank, Space
from immuno_core import arrays as blocks
from immuno_core.features import FeatureSet, IntArray
from tests.evaluation import reference
from tests.evaluation.synthetic import feature_set, guarding, held_out, make_space, outliers, unit, with_rows

METHODS: dict[str, dict[str, Any]] = {
    "calibrated": {"name": "calibrated", "eps": 0.2, "beta": 1.5},
    "guarded": {"name": "calibrated", "eps": 0.2, "beta": 1.5, "guarded": True},
    "top5": {"name": "calibrated", "eps": 0.2, "margin": "top5", "base": "prototype"},
    "sum": {"name": "calibrated", "eps": 0.4, "beta": 0.5, "combine": "sum"},
    "guarded sum": {"name": "calibrated", "eps": 0.4, "combine": "sum", "guarded": True},
    "s_dis": {"name": "s_dis"},
    "s_dis weak": {"name": "s_dis", "lambda_inf": 0.3, "alpha": 0.5},
    "eoe_max_logit": {"name": "eoe_max_logit"},
    "eoe": {"name": "eoe"},
    "eoe cold": {"name": "eoe", "temperature": 0.02, "beta": 1.0},
    "neglabel": {"name": "neglabel", "tau": 0.3},
    "neglabel cold": {"name": "neglabel", "tau": 0.02},
    "csp": {"name": "csp", "tau": 0.1},
}
EVERYONE = list(METHODS)


def make_bank(space: Space, kinds: str) -> Bank:
    """The bank of a space as it is, or with twins, with a class text, or with the negative of one."""
    vectors = space.bank.vectors.copy()
    for j, kind in enumerate(kinds[: len(vectors)]):
        if kind == "t":
            vectors[j] = vectors[0]
        if kind == "c":
            vectors[j] = space.texts[j % len(space.texts)]
        if kind == "n":
            vectors[j] = -space.texts[j % len(space.texts)]
    guards = tuple("" if j % 3 == 2 else space.classes[j % len(space.classes)] for j in range(len(vectors)))
    return replace(guarding(space, *guards).bank, vectors=vectors)


def narrowed(space: Space) -> Space:
    """Texts and antibodies in a narrow cone, as CLIP's are: low temperatures then do not drive all scores to 0 or 1."""
    cone = np.full(space.dim, 2.0, np.float32)
    texts, vectors = unit(space.texts + cone), unit(space.bank.vectors + cone)
    return replace(space, texts=texts, bank=replace(space.bank, vectors=vectors))


def scores_of(space: Space, params: dict[str, Any], sets: list[FeatureSet]) -> list[list[float]]:
    """From scratch; to 11 digits, since matrix products of other shapes differ in the last ones."""
    fitted = make_score(**params).fit(space)
    return [list(fitted.score(one.features).round(11)) for one in sets]


def repeated(images: FeatureSet, labels: IntArray) -> tuple[FeatureSet, IntArray]:
    """Every image twice, so that scores tie."""
    rows = np.repeat(np.arange(len(images)), 2)
    ids = tuple(str(i) for i in range(len(rows)))
    return replace(images.take(rows), ids=ids), labels[rows]


@pytest.mark.parametrize("method", EVERYONE)
@settings(max_examples=12)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(1, 6),
    antibodies=st.integers(1, 5),
    kinds=st.text("tcn.", max_size=5),
    n=st.sampled_from([1, 12, 37]),
    m=st.sampled_from([1, 20]),
    fit=st.sampled_from([0, 30]),
    ties=st.booleans(),
    share=st.sampled_from([0.6, 0.95]),
)
# An antibody that is a class: with NegLabel all images tie once the other antibody is left out.
@example(seed=0, classes=1, antibodies=2, kinds="c", n=12, m=20, fit=30, ties=False, share=0.6)
def test_effects_agree_with_brute_force(
    method: str,
    seed: int,
    classes: int,
    antibodies: int,
    kinds: str,
    n: int,
    m: int,
    fit: int,
    ties: bool,
    share: float,
) -> None:
    space = make_space(seed, classes=classes, antibodies=antibodies, fit=fit, spread=0.5)
    space = replace(space, bank=make_bank(space, kinds))
    if "cold" in method:
        space = narrowed(space)
    known, labels = held_out(space, seed, n, spread=0.6)
    sets = {"one": outliers(space, seed, m), "two": outliers(space, seed + 1, 5)}
    if ties:
        known, labels = repeated(known, labels)
        # An outlier that is the same image as a known one.
        sets["two"] = feature_set(np.concatenate([known.features[:3], sets["two"].features]), name="two")
    params = METHODS[method]
    fitted = make_score(**params).fit(space)
    right = list(fitted.predict(known.features) == labels)
    found = antibody_effects(fitted, known, labels, sets, acceptance=share)
    assert len(found) == antibodies * len(sets) * 2
    everyone = list(range(antibodies))
    for one in found:
        j = int(one.antibody_id[1:])
        without, having = ([], [j]) if one.effect.scope == "solo" else ([i for i in everyone if i != j], everyone)
        two = [known, sets[one.effect.outlier_set]]
        before, after = (scores_of(with_rows(space, rows), params, two) for rows in (without, having))
        expected = reference.effect(before[0], after[0], before[1], after[1], right, share)
        measured = {key: value for key, value in asdict(one.effect).items() if key in expected}
        assert measured == pytest.approx(expected, abs=1e-9), (one.antibody_id, one.effect.scope)


@pytest.mark.parametrize("method", EVERYONE)
def test_effects_are_not_trivial_in_these_spaces(method: str) -> None:
    space = make_space(1, classes=6, antibodies=5, fit=30, spread=0.5)
    space = replace(space, bank=make_bank(space, ""))
    known, labels = held_out(space, 1, 60, spread=0.6)
    fitted = make_score(**METHODS[method]).fit(space)
    found = [one.effect for one in antibody_effects(fitted, known, labels, {"o": outliers(space, 1, 60)})]
    for scope in ("solo", "leave_one_out"):
        for key in ("d_fpr95", "d_auroc"):
            assert any(getattr(effect, key) != 0 for effect in found if effect.scope == scope), (scope, key)


RIVALS = ("cma", "dnm", "negrefine", "tanl")
"""Whose sums no form describes: antibody by antibody nothing is said of them."""


def test_every_score_that_uses_a_bank_says_how() -> None:
    space = make_space(0, fit=40)
    for name, score in SCORES.items():
        if score.uses_bank and name not in RIVALS:
            assert isinstance(make_score(name).fit(space), HasForm), name


@pytest.mark.parametrize("method", EVERYONE)
def test_a_bank_without_antibodies_has_no_effects(method: str) -> None:
    space = make_space(0, antibodies=0)
    known, labels = held_out(space, 0, 10)
    fitted = make_score(**METHODS[method]).fit(space)
    assert antibody_effects(fitted, known, labels, {"o": outliers(space, 0, 10)}) == ()


def test_neither_the_parts_nor_what_is_kept_change_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cosines kept or computed again, few antibodies at a time or many, few changes ranked or all scores."""
    space = make_space(2, antibodies=20, fit=30, spread=0.5)
    known, labels = held_out(space, 2, 30)
    sets = {"o": outliers(space, 2, 25), "p": outliers(space, 3, 9)}
    for params in METHODS.values():
        fitted = make_score(**params).fit(space)
        runs = []
        for kept, at_once, most, many in ((2**26, 8, 2**23, 1 / 16), (0, 3, 64 * 7, 0.0), (2**26, 1, 64 * 5, 2.0)):
            monkeypatch.setattr(effects, "MOST_KEPT", kept)
            monkeypatch.setattr(effects, "AT_ONCE", at_once)
            monkeypatch.setattr(blocks, "MOST_ELEMENTS", most)
            monkeypatch.setattr(shifts, "MANY", many)
            runs.append(antibody_effects(fitted, known, labels, sets))
        for run in runs[1:]:
            for a, b in zip(runs[0], run, strict=True):
                assert a.antibody_id == b.antibody_id
                left, right = asdict(a.effect), asdict(b.effect)
                assert [left.pop(key) for key in ("scope", "outlier_set")] == [
                    right.pop(key) for key in ("scope", "outlier_set")
                ]
                assert left == pytest.approx(right, abs=1e-12)


# ---- the scores behind the effects, against the score itself


def states_after(fitted: FittedScore, images: FeatureSet) -> Any:
    assert isinstance(fitted, HasForm)
    state = state_of(fitted.form, images, fitted.width)
    everyone = slice(0, len(fitted.form.ids))
    term = state.terms(everyone)
    for j in range(everyone.stop):
        state.absorb(j, term(j))
    state.finish()
    return state, state.terms(everyone), state.terms(everyone)


@pytest.mark.parametrize("method", EVERYONE)
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), antibodies=st.integers(1, 9), kinds=st.text("tcn.", max_size=5))
def test_the_scores_alone_and_left_out_are_those_of_smaller_banks(
    method: str, seed: int, antibodies: int, kinds: str
) -> None:
    space = make_space(seed, classes=4, antibodies=antibodies, fit=30, spread=0.5)
    space = replace(space, bank=make_bank(space, kinds))
    images, params = outliers(space, seed, 25), METHODS[method]
    state, term, again = states_after(make_score(**params).fit(space), images)

    def rescored(rows: list[int]) -> Any:
        return make_score(**params).fit(with_rows(space, rows)).score(images.features)

    def after(change: Any, scores: Any) -> Any:
        changed = scores.copy()
        changed[change.rows] = change.scores
        return changed

    np.testing.assert_allclose(state.bare.scores, rescored([]), atol=1e-9)
    np.testing.assert_allclose(state.full.scores, rescored(list(range(antibodies))), atol=1e-9)
    for j in range(antibodies):
        alone = after(state.alone(term(j)), state.bare.scores)
        np.testing.assert_allclose(alone, rescored([j]), atol=1e-9)
        change = state.left_out(j, again(j) if state.meets_twice else None)
        rest = rescored([i for i in range(antibodies) if i != j])
        np.testing.assert_allclose(after(change, state.full.scores), rest, atol=1e-9)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    antibodies=st.integers(3, 11),
    groups=st.integers(1, 4),
    tau=st.sampled_from([0.01, 0.1, 1.0]),
)
def test_leaving_one_out_of_its_group_keeps_the_other_groups(
    seed: int, antibodies: int, groups: int, tau: float
) -> None:
    space = make_space(seed, antibodies=antibodies)
    images = outliers(space, seed, 20)
    fitted: Any = make_score("neglabel", tau=tau, groups=groups).fit(space)
    state, _, again = states_after(fitted, images)

    def naive(x: Any, left_out: int) -> float:
        known = [c / tau for c in reference.cosines(x, space.texts)]
        shares = []
        for g in range(fitted.groups):
            members = [j for j in range(antibodies) if fitted.group[j] == g and j != left_out]
            if members:
                logs = [*known, *(c / tau for c in reference.cosines(x, space.bank.vectors[members]))]
                shares.append(sum(reference.softmax(logs)[: len(known)]))
        return reference.mean(shares) if shares else 1.0

    for j in range(-1, antibodies):
        scores = state.full.scores.copy()
        if j >= 0:
            change = state.left_out(j, again(j))
            scores[change.rows] = change.scores
        np.testing.assert_allclose(scores, [naive(x, j) for x in images.features], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", [1e-3, 1e-2, 1.0, 1e3])
def test_taking_out_the_antibody_that_makes_up_the_whole_sum_loses_no_digits(temperature: float) -> None:
    """At T = 0.001 the nearest antibody is e^500 times the others: subtracting it from the sum would leave nothing."""
    space = make_space(3, antibodies=6)
    images = feature_set(space.bank.vectors.copy())
    params = {"name": "eoe", "temperature": temperature, "beta": 0.5}
    state, _, again = states_after(make_score(**params).fit(space), images)
    for j in range(6):
        change = state.left_out(j, again(j))
        rest = make_score(**params).fit(with_rows(space, [i for i in range(6) if i != j])).score(images.features)
        np.testing.assert_allclose(change.scores, rest, rtol=1e-9)


# ---- what fires


def test_without_radii_an_antibody_fires_where_it_is_the_nearest() -> None:
    space = make_space(0, antibodies=6)
    known, labels = held_out(space, 0, 40)
    images = outliers(space, 0, 50)
    for name in ("s_dis", "eoe_max_logit", "eoe", "neglabel"):
        found = antibody_effects(make_score(name).fit(space), known, labels, {"o": images})
        nearest = [int(np.argmax(reference.cosines(x, space.bank.vectors))) for x in images.features]
        of_known = [int(np.argmax(reference.cosines(x, space.bank.vectors))) for x in known.features]
        for one in found:
            j = int(one.antibody_id[1:])
            assert (one.effect.fired_outliers, one.effect.fired_id) == (nearest.count(j), of_known.count(j))


def test_a_twin_that_is_left_out_changes_nothing_but_a_sum() -> None:
    space = make_space(1, antibodies=3)
    space = replace(space, bank=make_bank(space, ".t"))
    known, labels = held_out(space, 1, 40)
    sets = {"o": outliers(space, 1, 60)}
    for name in ("calibrated", "s_dis", "eoe_max_logit"):
        found = antibody_effects(make_score(name).fit(space), known, labels, sets)
        twins = [one.effect for one in found if one.antibody_id in ("a0", "a1") and one.effect.scope == "leave_one_out"]
        assert all((e.gain, e.harm, e.d_fpr95, e.d_auroc, e.d_id_accuracy) == (0, 0, 0, 0, 0) for e in twins)

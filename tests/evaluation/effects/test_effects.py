"""Boundary effects agree with scoring everything again for every antibody and counting pair by pair."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.antibodies.visual import visual_antibodies
from evaluation.effects.antibody_effects import JudgedSets, antibody_effects, bank_effects
from evaluation.effects.ranking import Change, ChangedScores, RankedPair, RankedScores, twice_won
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.scores.registry import make_score
from evaluation.space import Space
from immuno_core import arrays as blocks
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, IntArray
from tests.evaluation import reference
from tests.evaluation.synthetic import bank_of, held_out, make_space, outliers, with_rows


def brute_force(
    without: Space, having: Space, known: FeatureSet, labels: IntArray, images: FeatureSet, share: float, **params: Any
) -> dict[str, float]:
    """Fit and score both banks from scratch.

    Scores are rounded: matrix products with banks of other sizes differ in the last bit, and an image that sets the
    threshold would seem to fall below it.
    """
    before, after = (make_score("calibrated", **params).fit(space) for space in (without, having))
    right = list(before.predict(known.features) == labels)
    scores = [list(fitted.score(one.features).round(11)) for one in (known, images) for fitted in (before, after)]
    return reference.effect(scores[0], scores[1], scores[2], scores[3], right, share)


@settings(max_examples=25)
@given(
    st.integers(0, 10**6),
    st.integers(0, 5),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0, 30]),
    st.sampled_from([0.1, 0.3, 0.8]),
    st.sampled_from([0.6, 0.95]),
)
def test_antibody_effects_agree_with_brute_force(
    seed: int, antibodies: int, n: int, m: int, fit: int, eps: float, share: float
) -> None:
    space = make_space(seed, classes=3, antibodies=antibodies, fit=fit, spread=0.5)
    known, labels = held_out(space, seed, n, spread=0.6)
    sets = {"one": outliers(space, seed, m), "two": outliers(space, seed + 1, 5)}
    params = {"eps": eps, "beta": 1.5, "base": "fused"}
    fitted = make_score("calibrated", **params).fit(space)
    found = antibody_effects(fitted, known, labels, sets, acceptance=share)
    assert [(one.antibody_id, one.effect.outlier_set, one.effect.scope) for one in found] == [
        (f"a{j}", name, scope) for j in range(antibodies) for name in sets for scope in ("solo", "leave_one_out")
    ]
    everyone = list(range(antibodies))
    for one in found:
        j = int(one.antibody_id[1:])
        without, having = ([], [j]) if one.effect.scope == "solo" else ([i for i in everyone if i != j], everyone)
        expected = brute_force(
            with_rows(space, without),
            with_rows(space, having),
            known,
            labels,
            sets[one.effect.outlier_set],
            share,
            **params,
        )
        measured = {key: value for key, value in asdict(one.effect).items() if key in expected}
        assert measured == pytest.approx(expected, abs=1e-12)
        alone = make_score("calibrated", **params).fit(with_rows(space, [j]))
        assert isinstance(alone, FittedCalibrated)
        assert one.effect.fired_id == (alone.exceedance(known.features).antibody >= 0).sum()
        fired = alone.exceedance(sets[one.effect.outlier_set].features).antibody >= 0
        assert one.effect.fired_outliers == fired.sum()


def test_effects_are_not_trivial_in_these_spaces() -> None:
    """The comparison above would prove nothing if antibodies did nothing."""
    space = make_space(1, classes=3, antibodies=5, fit=30, spread=0.5)
    known, labels = held_out(space, 1, 60, spread=0.6)
    fitted = make_score("calibrated", eps=0.3, beta=1.5).fit(space)
    found = [one.effect for one in antibody_effects(fitted, known, labels, {"o": outliers(space, 1, 60)})]
    for scope in ("solo", "leave_one_out"):
        some = [effect for effect in found if effect.scope == scope]
        for key in ("gain", "harm", "d_fpr95", "d_auroc", "d_id_accuracy"):
            assert any(getattr(effect, key) != 0 for effect in some), (scope, key)


def test_effects_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    space = make_space(4, antibodies=9, spread=0.5)
    known, labels = held_out(space, 4, 30)
    sets = {"o": outliers(space, 4, 25)}
    fitted = make_score("calibrated", eps=0.2).fit(space)
    whole = antibody_effects(fitted, known, labels, sets)
    monkeypatch.setattr(blocks, "MOST_ELEMENTS", 64)
    in_pieces = antibody_effects(fitted, known, labels, sets)
    assert [one.antibody_id for one in in_pieces] == [one.antibody_id for one in whole]
    for a, b in zip(in_pieces, whole, strict=True):
        left, right = asdict(a.effect), asdict(b.effect)
        assert left.pop("scope") == right.pop("scope")
        assert left.pop("outlier_set") == right.pop("outlier_set")
        assert left == pytest.approx(right, abs=1e-12)


def test_a_twin_has_a_solo_effect_and_none_when_it_is_left_out() -> None:
    """Why both views are stored: of two equal antibodies, either one may be dropped, but not both."""
    space = make_space(1, antibodies=1)
    twins = Space(
        space.classes,
        space.texts,
        space.logit_scale,
        space.fit,
        space.fit_labels,
        bank_of(np.repeat(space.bank.vectors, 2, axis=0)),
    )
    known, labels = held_out(space, 1, 40)
    fitted = make_score("calibrated").fit(twins)
    effects = [one.effect for one in antibody_effects(fitted, known, labels, {"o": outliers(space, 1, 60)})]
    assert all(effect.d_auroc > 0 and effect.fired_outliers > 0 for effect in effects if effect.scope == "solo")
    assert all(effect.d_auroc == effect.gain == 0 for effect in effects if effect.scope == "leave_one_out")


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 30), st.sampled_from([0.6, 0.95]))
def test_bank_effects_agree_with_brute_force(seed: int, n: int, m: int, share: float) -> None:
    space = make_space(seed, classes=3, antibodies=6, fit=30, spread=0.5)
    known, labels = held_out(space, seed, n, spread=0.6)
    sets = {"one": outliers(space, seed, m), "two": outliers(space, seed + 1, 5)}
    few, many = with_rows(space, [0, 1]), space
    params = {"eps": 0.2, "beta": 1.5}
    before, after = (make_score("calibrated", **params).fit(one) for one in (few, many))
    assert isinstance(after, FittedCalibrated)
    found = bank_effects(
        before=JudgedSets.by(before, known, sets),
        after=JudgedSets.by(after, known, sets),
        known_labels=labels,
        acceptance=share,
    )
    assert [(effect.scope, effect.outlier_set) for effect in found] == [("bank", "one"), ("bank", "two")]
    for effect in found:
        images = sets[effect.outlier_set]
        expected = brute_force(few, many, known, labels, images, share, **params)
        measured = {key: value for key, value in asdict(effect).items() if key in expected}
        assert measured == pytest.approx(expected, abs=1e-12)
        assert effect.fired_id == (after.exceedance(known.features).antibody >= 0).sum()
        assert effect.fired_outliers == (after.exceedance(images.features).antibody >= 0).sum()


def test_a_bank_without_antibodies_has_no_effects_and_a_bank_against_itself_changes_nothing() -> None:
    space = make_space(0)
    known, labels = held_out(space, 0, 20)
    sets = {"o": outliers(space, 0, 20)}
    assert antibody_effects(make_score("calibrated").fit(with_rows(space, [])), known, labels, sets) == ()
    fitted = make_score("calibrated").fit(space)
    judged = JudgedSets.by(fitted, known, sets)
    (same,) = bank_effects(before=judged, after=judged, known_labels=labels)
    assert (same.gain, same.harm, same.d_fpr95, same.d_auroc, same.d_id_accuracy) == (0, 0, 0, 0, 0)


def test_what_cannot_be_measured_is_refused() -> None:
    space = make_space(0)
    known, labels = held_out(space, 0, 20)
    images = outliers(space, 0, 20)
    fitted = make_score("calibrated").fit(space)
    with pytest.raises(SetupError, match="'mcm' gives an antibody no effect"):
        antibody_effects(make_score("mcm").fit(space), known, labels, {"o": images})
    with pytest.raises(SetupError, match="no images"):
        antibody_effects(fitted, known, labels, {"o": images.take(np.arange(0))})
    with pytest.raises(SetupError, match="not 20 class indices"):
        antibody_effects(fitted, known, labels[:3], {"o": images})
    with pytest.raises(SetupError, match="there are 5 classes"):
        antibody_effects(fitted, known, labels + 9, {"o": images})


few = st.integers(-2, 2).map(lambda v: v / 4)


@given(st.lists(few, min_size=1, max_size=12), st.lists(few, min_size=1, max_size=12))
def test_pairs_won_with_ties(known: list[float], others: list[float]) -> None:
    won = twice_won(np.sort(known), np.sort(others))
    assert won == sum(2 * (i > o) + (i == o) for i in known for o in others)


@given(st.lists(few, min_size=1, max_size=12), st.lists(few, min_size=1, max_size=12), st.data())
def test_ranking_after_a_change_is_ranking_the_changed_scores(
    known: list[float], others: list[float], data: st.DataObject
) -> None:
    def change(scores: list[float]) -> tuple[Change, list[float]]:
        rows = data.draw(st.lists(st.integers(0, len(scores) - 1), unique=True))
        new = data.draw(st.lists(few, min_size=len(rows), max_size=len(rows)))
        changed = list(scores)
        for row, value in zip(rows, new, strict=True):
            changed[row] = value
        return Change(np.array(rows, dtype=np.int64), np.array(new, dtype=np.float64)), changed

    ranked = RankedScores(np.array(known))
    pair = RankedPair(ranked, RankedScores(np.array(others)))
    known_change, known_now = change(known)
    other_change, others_now = change(others)
    after = ChangedScores(pair.known, known_change), ChangedScores(pair.outliers, other_change)
    assert pair.auroc_of(pair.won) == pytest.approx(reference.auroc(known, others), abs=1e-12)
    assert pair.auroc_of(pair.won_after(*after)) == pytest.approx(reference.auroc(known_now, others_now), abs=1e-12)
    for share in (0.5, 0.95):
        threshold = after[0].threshold(share)
        assert threshold == reference.threshold(known_now, share)
        assert after[1].accepted(threshold) == sum(o >= threshold for o in others_now)


def test_the_first_of_two_equal_antibodies_is_the_nearest() -> None:
    space = make_space(1, antibodies=1)
    space = replace(space, bank=bank_of(np.repeat(space.bank.vectors, 2, axis=0)))
    known, labels = held_out(space, 1, 40)
    for name in ("s_dis", "eoe_max_logit", "eoe", "neglabel"):
        found = antibody_effects(make_score(name).fit(space), known, labels, {"o": outliers(space, 1, 60)})
        fired = {one.antibody_id: (one.effect.fired_outliers, one.effect.fired_id) for one in found}
        assert fired == {"a0": (60, 40), "a1": (0, 0)}, name


def test_the_image_that_sets_a_radius_does_not_fire() -> None:
    """Not by rounding either: of 60 fit images the six above the radius fire, for every antibody."""
    space = make_space(2, antibodies=60)
    assert space.fit is not None
    assert space.fit_labels is not None
    fitted = make_score("calibrated", eps=0.1).fit(space)
    found = antibody_effects(fitted, space.fit, space.fit_labels, {"o": outliers(space, 1, 5)})
    assert {one.effect.fired_id for one in found} == {6}


def test_effects_of_visual_antibodies_and_beside_them_agree_with_brute_force() -> None:
    space = make_space(2, classes=3, antibodies=4, fit=60, spread=0.5)
    seen = visual_antibodies({"shown": outliers(space, 7, 50)}, 3)
    space = replace(space, bank=space.bank.concat(seen))
    known, labels = held_out(space, 2, 60, spread=0.6)
    sets = {"o": outliers(space, 2, 60)}
    params = {"eps": 0.2, "beta": 1.5, "visual_eps": 0.1, "visual_weight": 2.0}
    found = antibody_effects(make_score("calibrated", **params).fit(space), known, labels, sets)
    assert {one.antibody_id for one in found} == set(space.bank.ids)
    for one in found:
        j = space.bank.ids.index(one.antibody_id)
        rest = [i for i in range(len(space.bank)) if i != j]
        without, having = ([], [j]) if one.effect.scope == "solo" else (rest, [*rest, j])
        expected = brute_force(
            with_rows(space, sorted(without)),
            with_rows(space, sorted(having)),
            known,
            labels,
            sets["o"],
            0.95,
            **params,
        )
        measured = {key: value for key, value in asdict(one.effect).items() if key in expected}
        assert measured == pytest.approx(expected, abs=1e-12)
    assert any(one.effect.d_auroc != 0 for one in found if one.antibody_id in seen.ids)

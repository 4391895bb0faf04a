"""immuno_vlm is the calibrated score with what its rule chose on the feedback split, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evaluation.antibodies.maturation import mature
from evaluation.antibodies.visual import visual_antibodies
from evaluation.metrics import fpr95_id, threshold_at
from evaluation.scores.calibrated import Calibrated, FittedCalibrated, Makings
from evaluation.scores.choice import Candidate, Fusion, Rankings, Seen, Trial, choose
from evaluation.scores.features.distances import ClassSpread
from evaluation.scores.registry import make_score
from evaluation.space import Bank, Feedback, Space
from immuno_core.features import FloatArray
from tests.evaluation.synthetic import around, bank_of, feature_set, held_out, make_space, outliers, unit, unit_rows

BARE = make_space(3, classes=4, dim=12, antibodies=6, fit=120)
KNOWN, LABELS = held_out(BARE, 3, 200)


def toward(antibody: int, n: int, *, pull: float, seed: int) -> FloatArray:
    """Outliers beside one antibody, all shifted the same way: what a maturation can learn."""
    rng = np.random.default_rng(seed)
    shift = unit_rows(np.random.default_rng([antibody, 7]), 1, BARE.dim)[0]
    return unit(BARE.bank.vectors[antibody] + pull * shift + 0.1 * rng.standard_normal((n, BARE.dim)))


def with_feedback(**sets: FloatArray) -> Space:
    given = {name: feature_set(x, name=name) for name, x in sets.items()}
    return replace(BARE, feedback=Feedback(KNOWN, LABELS, given))


SPACE = with_feedback(near=outliers(BARE, 3, 90).features, far=toward(2, 60, pull=1.5, seed=0))
FUSIONS = tuple(Fusion(w, v) for v in (0.75, 0.0) for w in (0.35, 1.0))
SEEN = Seen(10, 0.01, 1.0)
TEST = np.concatenate([KNOWN.features, outliers(BARE, 9, 80).features])


def scores(space: Space, **params: Any) -> np.ndarray:
    return make_score("immuno_vlm", **params).fit(space).score(TEST)


def chosen(space: Space, **params: Any) -> dict[str, Any]:
    return make_score("immuno_vlm", **params).fit(space).chosen


def trusted(space: Space) -> float:
    """0.8 of the share of fit images that lie nearest to their own class's mean, each as if it had not been one."""
    assert space.fit is not None
    assert space.fit_labels is not None
    x, own = space.fit.features, space.fit_labels
    hits = []
    for i in range(len(x)):
        rest = np.delete(np.arange(len(x)), i)
        spread = ClassSpread.of(x[rest], own[rest], shrinkage=0.2)
        distances = ((x[i].astype(np.float64) - spread.centre) @ spread.whitening - spread.means) ** 2
        hits.append(np.unique(own[rest])[distances.sum(axis=1).argmin()] == own[i])
    return 0.8 * float(np.mean(hits))


def test_without_feedback_it_is_the_calibrated_score_with_its_defaults() -> None:
    defaults = {"w": 0.35, "v": pytest.approx(trusted(BARE)), "beta": 2.5}
    expected = make_score("calibrated", w=0.35, v=trusted(BARE), shrinkage=0.2, beta=2.5).fit(BARE).score(TEST)
    assert scores(BARE) == pytest.approx(expected, abs=1e-12)
    assert chosen(BARE) == {**defaults, "matured": 0, "visual": 0}


def test_what_is_given_is_not_chosen() -> None:
    given: dict[str, Any] = {"w": 0.8, "v": 0.5, "shrinkage": 0.1, "beta": 3.0, "eps": 0.01, "alpha": 0.8}
    expected = make_score("calibrated", **given).fit(SPACE).score(TEST)
    assert scores(SPACE, **given, maturation=False, visual=0).tolist() == expected.tolist()


def test_it_is_the_calibrated_score_on_the_bank_with_what_it_made() -> None:
    sets = SPACE.feedback.outliers if SPACE.feedback else {}
    matured = mature(SPACE.bank, [one.features for one in sets.values()])
    given: dict[str, Any] = {"w": 1.0, "v": 0.0, "beta": 5.0, "maturation": True, "visual": 3}
    grown = SPACE.bank.concat(matured).concat(visual_antibodies(sets, 3))
    assert len(grown) == len(SPACE.bank) + len(matured) + 3 > len(SPACE.bank) + 3
    expected = make_score("calibrated", w=1.0, beta=5.0).fit(replace(SPACE, bank=grown)).score(TEST)
    assert scores(SPACE, **given) == pytest.approx(expected, abs=1e-12)
    assert (chosen(SPACE, **given)["matured"], chosen(SPACE, **given)["visual"]) == (len(matured), 3)


def test_its_predictions_and_effects_are_those_of_the_calibrated_score() -> None:
    fitted = make_score("immuno_vlm").fit(SPACE)
    assert isinstance(fitted, FittedCalibrated)
    assert fitted.name == "immuno_vlm"
    assert fitted.score(TEST).tolist() == fitted.score(TEST).tolist()
    silent = replace(fitted, beta=0.0).score(TEST)
    assert fitted.score(TEST) == pytest.approx(silent - fitted.beta * fitted.exceedance(TEST).largest, abs=1e-12)


def test_no_radii_means_a_radius_of_0_for_each() -> None:
    fitted = make_score("immuno_vlm", radii=False).fit(SPACE)
    assert isinstance(fitted, FittedCalibrated)
    assert not fitted.radii.any()


def test_a_maturation_that_helps_is_used_and_one_that_does_not_is_not() -> None:
    # Outliers on the way from a class to the one antibody, which is too far out to fire on all of them.
    shift, aside = (unit_rows(np.random.default_rng(seed), 1, BARE.dim)[0] for seed in (11, 5))

    def between(seed: int) -> FloatArray:
        noise = 0.2 * np.random.default_rng(seed).standard_normal((200, BARE.dim))
        return unit(BARE.texts[0] + 0.8 * shift + noise)

    far_out = bank_of(unit((BARE.texts[0] + 3 * shift + 0.5 * aside)[None]))
    learnable = replace(with_feedback(a=between(1), b=between(2)), bank=far_out)
    assert chosen(learnable, v=0.0, visual=0)["matured"] == 1
    # Without radii, antibodies pulled into a known class attack it.
    amid = around(np.random.default_rng(5), BARE.texts, np.arange(80) % 4, 0.25)
    harmful = with_feedback(a=amid, b=outliers(BARE, 4, 90).features)
    assert chosen(harmful, radii=False, g=1.0, visual=0)["matured"] == 0


def test_the_choice_comes_first_of_those_that_cannot_be_told_from_the_lowest_and_earn_their_texts() -> None:
    v = trusted(BARE)
    fusions = [Fusion(w, v) for w in (0.35, 1.0)] + [Fusion(w, 0.0) for w in (0.35, 1.0)]
    with_texts = [
        Candidate(fusion, beta, matured, seen)
        for fusion in fusions
        for beta in (2.5, 1.25, 5, 10)
        for matured in (True, False)
        for seen in (SEEN, None)
    ]
    candidates = with_texts + [Candidate(fusion, 0.0, False, seen) for seen in (SEEN, None) for fusion in fusions]
    trial = trial_of(SPACE, fusions)
    ranked = [trial.ranked(one) for one in candidates]
    means = [one.judgement.mean for one in ranked]
    mean_of = dict(zip(candidates, means, strict=True))

    silent = range(len(with_texts), len(candidates))
    bare = min(means[i] for i in silent) + 2 * error_by_hand(ranked[min(silent, key=means.__getitem__)])
    without = next(means[i] for i in silent if means[i] <= bare)
    twin = [mean_of[one._replace(beta=0, matured=False)] for one in candidates]
    allowed = [i for i in range(len(candidates)) if i in silent or means[i] <= min(twin[i], without)]
    lowest = min(allowed, key=means.__getitem__)
    bounds = [[] if i in silent else [means.index(twin[i]), means.index(without)] for i in range(len(candidates))]
    found, figures = choose(ranked, caution=2, never_worse_than=bounds)
    assert figures["feedback_fpr95_error"] == pytest.approx(error_by_hand(ranked[lowest]), rel=0.2)
    within = means[lowest] + 2 * figures["feedback_fpr95_error"]
    assert found == next(i for i in allowed if means[i] <= within)
    assert figures["candidates"] == 72
    best = candidates[found]
    assert (figures["feedback_fpr95"], figures["feedback_fpr95_unlike"]) == trial.ranked(best).judgement
    fitted = chosen(SPACE)
    assert (fitted["w"], fitted["v"]) == (best.fusion.w, pytest.approx(best.fusion.v))
    assert (fitted["beta"], fitted["matured"] > 0) == (best.beta, best.matured)
    assert fitted["visual"] == (best.seen.number if best.seen else 0)


def error_by_hand(one: Rankings) -> float:
    """The standard error of a judgement: every image that judges drawn again, one by one."""
    rng, found = np.random.default_rng(1), []
    for _ in range(400):
        known = rng.integers(len(KNOWN), size=len(KNOWN))
        drawn = {name: rng.integers(len(x), size=len(x)) for name, x in sets_of(SPACE).items()}
        views = []
        for view in one:
            shares = []
            for each in view:
                threshold = threshold_at(each.known[known])
                for name, scores in each.outliers.items():
                    whole = np.full(len(drawn[name]), np.nan)
                    whole[each.rows] = scores
                    again = whole[drawn[name]]
                    shares.append(np.mean(again[~np.isnan(again)] >= threshold))
            views.append(np.mean(shares))
        found.append(np.mean(views))
    return float(np.std(found))


def sets_of(space: Space) -> dict[str, FloatArray]:
    assert space.feedback is not None
    return {name: one.features for name, one in space.feedback.outliers.items()}


def trial_of(space: Space, fusions: Sequence[Fusion] = FUSIONS) -> Trial:
    assert space.feedback is not None
    makings = Makings(Calibrated(shrinkage=0.2), space, crossed=True)
    return Trial.of(makings, space.feedback, fusions=fusions, g=0.3, seen={SEEN, None})


def halves_of(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The first half of a set, which has one more of an odd number, and the second."""
    middle = (len(x) + 1) // 2
    return x[:middle], x[middle:]


@pytest.mark.parametrize("seen", [None, SEEN])
@pytest.mark.parametrize("matured", [False, True])
def test_outliers_never_judge_what_they_matured_or_showed(matured: bool, seen: Seen | None) -> None:
    """The two views, written out by hand."""
    sets = sets_of(SPACE)

    def fpr95(made_of: list[FloatArray], judges: FloatArray) -> float:
        bank = SPACE.bank
        if matured:
            bank = bank.concat(mature(SPACE.bank, made_of))
        if seen:
            shown = {str(i): feature_set(x, name=str(i)) for i, x in enumerate(made_of)}
            bank = bank.concat(visual_antibodies(shown, seen.number))
        fitted = make_score("calibrated", w=0.35, beta=5.0).fit(replace(SPACE, bank=bank))
        return fpr95_id(fitted.score(KNOWN.features), fitted.score(judges))

    first, second = zip(*(halves_of(x) for x in sets.values()), strict=True)
    like = [fpr95(list(second), x) for x in first] + [fpr95(list(first), x) for x in second]
    unlike = [fpr95([x for other, x in sets.items() if other != name], sets[name]) for name in sets]
    found = trial_of(SPACE).ranked(Candidate(Fusion(0.35, 0.0), 5.0, matured, seen)).judgement
    assert found.like == pytest.approx(np.mean(like))
    assert found.unlike == pytest.approx(np.mean(unlike))
    assert found.mean == pytest.approx((np.mean(like) + np.mean(unlike)) / 2)


def test_what_a_session_matured_is_matured_anew_where_there_are_outliers_to_judge() -> None:
    assert SPACE.feedback is not None
    half = mature(SPACE.bank, [one.features[::2] for one in SPACE.feedback.outliers.values()], least=3)
    assert len(half)
    grown = replace(SPACE, bank=SPACE.bank.concat(half))
    for params in ({}, {"maturation": True}, {"maturation": False}):
        assert scores(grown, **params).tolist() == scores(SPACE, **params).tolist()
        assert chosen(grown, **params) == chosen(SPACE, **params)
    fitted = make_score("immuno_vlm", maturation=True).fit(grown)
    assert isinstance(fitted, FittedCalibrated)
    assert {text.count("(matured)") for text in fitted.bank.texts} == {0, 1}
    # Without outliers nothing judges, and the bank is what it is.
    bare = make_score("immuno_vlm").fit(replace(grown, feedback=None))
    assert isinstance(bare, FittedCalibrated)
    assert len(bare.bank) == len(grown.bank)


def test_what_was_chosen_can_be_fitted_again_on_other_images() -> None:
    fitted = make_score("immuno_vlm").fit(SPACE)
    assert fitted.settled is not None
    again = fitted.settled.fit(SPACE)
    assert again.score(TEST).tolist() == fitted.score(TEST).tolist()
    assert "candidates" not in again.chosen


def test_fit_images_that_are_feedback_too_are_judged_without_their_part() -> None:
    assert BARE.fit is not None
    assert BARE.fit_labels is not None
    assert SPACE.feedback is not None
    both = Feedback.cross_fitted(BARE.fit, BARE.fit_labels, SPACE.feedback.outliers, seed=0)
    space = replace(BARE, feedback=both)
    candidate = Candidate(Fusion(0.35, 0.75), 5.0, False)
    calibrated = make_score("calibrated", w=0.35, v=0.75, shrinkage=0.2, beta=5.0)
    known = np.array(
        [
            calibrated.fit(space.without(int(part))).score(x[None])[0]
            for part, x in zip(both.parts if both.parts is not None else [], BARE.fit.features, strict=True)
        ]
    )
    fitted = calibrated.fit(space)
    unlike = [fpr95_id(known, fitted.score(one.features)) for one in both.outliers.values()]
    assert trial_of(space).ranked(candidate).judgement.unlike == pytest.approx(np.mean(unlike))


def test_with_one_set_there_is_no_view_of_unlike_outliers() -> None:
    one = with_feedback(only=toward(1, 40, pull=1.0, seed=3))
    assert trial_of(one).ranked(Candidate(Fusion(1.0, 0.0), 2.5, True)).judgement.unlike is None
    assert chosen(one)["feedback_fpr95_unlike"] is None


@pytest.mark.parametrize(
    "space",
    [
        replace(SPACE, bank=Bank.empty(BARE.dim)),
        with_feedback(),
        with_feedback(single=toward(0, 1, pull=0.0, seed=0)),
        replace(SPACE, fit=None, fit_labels=None),
    ],
    ids=["no bank", "no outliers", "one outlier", "no fit images"],
)
def test_with_little_to_go_by_it_still_ranks_every_image(space: Space) -> None:
    assert np.isfinite(scores(space)).all()


def test_it_is_deterministic() -> None:
    assert scores(SPACE).tolist() == scores(SPACE).tolist()

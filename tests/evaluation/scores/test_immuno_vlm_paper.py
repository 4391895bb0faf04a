"""The paper's method: its formula, its ablations as parameters, and which images fit what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.antibodies.selection import guarded_classes
from evaluation.scores.paper.method import FittedPaper
from evaluation.scores.paper.thresholds import class_thresholds
from evaluation.scores.registry import make_score
from evaluation.space import Space
from immuno_core.errors import SetupError
from tests.evaluation import reference
from tests.evaluation.synthetic import bank_of, feature_set, guarding, held_out, make_space, outliers, unit_rows

BARE = {"adapter": False, "evt": False}


def fit(space: Space, **params: Any) -> FittedPaper:
    fitted = make_score("immuno_vlm_paper", **params).fit(space)
    assert isinstance(fitted, FittedPaper)
    return fitted


def scores(space: Space, name: str, **params: Any) -> list[float]:
    return list(make_score(name, **params).fit(space).score(outliers(space, 0, 40).features))


def vaccinable(seed: int = 0, **shape: Any) -> Space:
    """A space in which an adapter improves on the identity."""
    space = make_space(seed, **({"classes": 4, "dim": 16, "fit": 160, "spread": 0.35} | shape))
    assert fit(space).vaccination is not None
    return space


def in_order(space: Space, rows: Any) -> Space:
    assert space.fit is not None
    assert space.fit_labels is not None
    return replace(
        space, fit=feature_set(space.fit.features[rows], split="fit", name="fit"), fit_labels=space.fit_labels[rows]
    )


@settings(max_examples=30)
@given(
    st.integers(0, 10**6), st.integers(1, 6), st.integers(0, 8), st.integers(0, 20), st.sampled_from([0.0, 0.4, 1.0])
)
def test_without_adapter_and_evt_it_is_s_dis_and_eoe_s_max_logit_bit_for_bit(
    seed: int, classes: int, antibodies: int, images: int, alpha: float
) -> None:
    space = make_space(seed, classes=classes, antibodies=antibodies, fit=images)
    for weight in (0.0, 0.5, 1.0):
        mine = scores(space, "immuno_vlm_paper", alpha=alpha, lambda_inf=weight, **BARE)
        assert mine == scores(space, "s_dis", alpha=alpha, lambda_inf=weight)
    if alpha == 1:
        assert mine == scores(space, "eoe_max_logit")


def test_the_score_is_s_dis_of_the_adapted_image_less_the_threshold_of_its_class() -> None:
    space = vaccinable()
    fitted = fit(space, lambda_inf=0.7, least=5)
    assert not fitted.adapter.is_identity
    assert fitted.thresholds is not None
    assert fitted.thresholds.own.all()
    x = outliers(space, 0, 30).features
    expected, classes = [], []
    for v in fitted.adapter.block(x.astype(np.float64)):
        cosines = reference.cosines(v, fitted.class_vectors)
        classes.append(int(np.argmax(cosines)))
        expected.append(
            reference.difference(v, fitted.class_vectors, space.bank.vectors, 0.7) - fitted.thresholds.tau[classes[-1]]
        )
    np.testing.assert_allclose(fitted.score(x), expected, atol=1e-12)
    assert fitted.predict(x).tolist() == classes
    assert fitted.predict(x[:0]).tolist() == []
    assert fitted.score(x[:0]).shape == (0,)


def test_the_prototypes_and_antibodies_are_not_adapted() -> None:
    space = vaccinable()
    assert (fit(space).class_vectors == fit(space, **BARE).class_vectors).all()
    assert (fit(space).antibodies == space.bank.vectors).all()


@pytest.mark.parametrize("target", [0.8, 0.95])
@pytest.mark.parametrize("adapter", [True, False])
def test_about_the_target_share_of_unseen_known_images_scores_above_zero(target: float, adapter: bool) -> None:
    """200 (adapter: 50 held out) tail scores per class, 2,000 images: standard error up to 0.02."""
    space = vaccinable(fit=800)
    known, _ = held_out(space, 1, 2000, spread=0.35)
    assert np.mean(fit(space, target=target, adapter=adapter).score(known.features) >= 0) == pytest.approx(
        target, abs=0.04
    )


def test_with_an_adapter_the_tails_are_those_of_images_held_out_of_its_training() -> None:
    space = vaccinable()
    fitted = fit(space)
    assert fitted.vaccination is not None
    assert fitted.thresholds is not None
    assert fitted.thresholds.counts.sum() == len(fitted.vaccination.held_out)
    assert space.fit is not None
    without = fit(space, adapter=False)
    assert without.thresholds is not None
    assert without.thresholds.counts.sum() == len(space.fit)


def test_the_tails_are_of_images_left_out_of_their_own_prototype() -> None:
    space = make_space(0, classes=3, fit=18, antibodies=4)
    assert space.fit is not None
    assert space.fit_labels is not None
    x, labels, alpha = space.fit.features, space.fit_labels, 0.2
    found, classes = [], []
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        # Without image i: its own class's prototype; the others are the same.
        mu = reference.prototypes(space.texts, x[others], list(labels[others]), alpha, 1.0)
        classes.append(int(np.argmax(reference.cosines(x[i], mu))))
        found.append(reference.difference(x[i], mu, space.bank.vectors, 1.0))
    expected = class_thresholds(np.array(found), np.array(classes), count=3, least=4)
    thresholds = fit(space, adapter=False, alpha=alpha, xi=1.0, least=4).thresholds
    assert thresholds is not None
    assert thresholds.own.tolist() == expected.own.tolist()
    np.testing.assert_allclose(thresholds.tau, expected.tau, atol=1e-5)


def test_without_fit_images_there_are_texts_and_antibodies_only() -> None:
    space = make_space(0, fit=0)
    fitted = fit(space)
    assert fitted.adapter.is_identity
    assert (fitted.vaccination, fitted.thresholds) == (None, None)
    assert scores(space, "immuno_vlm_paper") == scores(space, "eoe_max_logit")
    assert fitted.chosen == {"antibodies": 7}


def test_one_class_or_one_image_per_class_has_thresholds_but_no_adapter() -> None:
    alone = fit(make_space(0, classes=1, fit=20))
    assert alone.vaccination is None
    assert alone.thresholds is not None
    assert alone.chosen == {"antibodies": 7, "own_tails": 1, "shared_tails": 0}
    space = make_space(0, classes=4, fit=40)
    assert space.fit_labels is not None
    single = fit(in_order(space, np.array([np.flatnonzero(space.fit_labels == k)[0] for k in range(4)])))
    assert single.adapter.is_identity
    assert single.chosen == {"antibodies": 7, "epoch": 0, "margin": 0.2, "own_tails": 0, "shared_tails": 4}


def test_it_says_what_fitting_chose() -> None:
    space = vaccinable()
    fitted = fit(space)
    assert fitted.vaccination is not None
    chosen = fitted.chosen
    assert set(chosen) == {
        "antibodies",
        "epoch",
        "margin",
        "validation_before",
        "validation_after",
        "own_tails",
        "shared_tails",
    }
    assert chosen["epoch"] > 0
    assert chosen["validation_after"] < chosen["validation_before"]
    assert chosen["own_tails"] + chosen["shared_tails"] == 4
    assert fit(space, least=1000).chosen["own_tails"] == 0
    assert all(type(value) in (int, float) for value in chosen.values())


def test_no_push_is_lambda_push_zero_and_kappa_is_capped_at_the_logit_scale() -> None:
    space = vaccinable()
    assert scores(space, "immuno_vlm_paper", push=False) == scores(space, "immuno_vlm_paper", lambda_push=0.0)
    assert scores(space, "immuno_vlm_paper", push=False) != scores(space, "immuno_vlm_paper", lambda_push=50.0)
    soft = replace(space, logit_scale=3.0)
    assert scores(soft, "immuno_vlm_paper") == scores(space, "immuno_vlm_paper", most_kappa=3.0)
    assert scores(soft, "immuno_vlm_paper") != scores(space, "immuno_vlm_paper", most_kappa=1e9)


def test_fitting_is_deterministic_and_the_seed_matters() -> None:
    space = vaccinable()
    assert scores(space, "immuno_vlm_paper") == scores(space, "immuno_vlm_paper")
    assert scores(space, "immuno_vlm_paper") != scores(space, "immuno_vlm_paper", seed=1)


def test_the_band_keeps_antibodies_between_two_quantiles_of_each_guarded_class() -> None:
    space = make_space(0, antibodies=30, fit=0)
    space = guarding(space, *(("class 0", "class 1", "", "unheard of")[j % 4] for j in range(30)))
    kept = fit(space, band=(0.25, 0.75), **BARE).bank
    expected = []
    groups = np.array([(0, 1, -1, -1)[j % 4] for j in range(30)])
    cosines = np.array(
        [
            max(c) if k < 0 else c[k]
            for k, c in zip(groups, (reference.cosines(a, space.texts) for a in space.bank.vectors), strict=True)
        ]
    )
    for j in range(30):
        group = sorted(cosines[groups == groups[j]])
        if group[len(group) // 4] <= cosines[j] <= group[-1 - len(group) // 4]:
            expected.append(f"a{j}")
    assert list(kept.ids) == expected
    assert 10 < len(kept) < 20
    assert fit(space, **BARE).bank is space.bank


def test_absolute_bounds_turn_down_both_ends_and_may_leave_nothing() -> None:
    space = guarding(make_space(0, antibodies=30, fit=40), *("class 2",) * 30)
    fitted = fit(space, bounds=(-0.2, 0.3), **BARE)
    cosines = space.bank.vectors @ fitted.class_vectors[2]
    assert fitted.bank.ids == tuple(f"a{j}" for j in np.flatnonzero((cosines > -0.2) & (cosines < 0.3)))
    assert 0 < len(fitted.bank) < 30
    nothing = fit(space, bounds=(0.999, 1.0), alpha=1.0, **BARE)
    x = outliers(space, 0, 10).features
    assert nothing.score(x).tolist() == make_score("max_logit").fit(space).score(x).tolist()


def test_antibodies_of_an_unknown_class_are_told_from_those_of_none() -> None:
    assert guarded_classes(["b", "", "x", "a"], ["a", "b"]).tolist() == [1, -1, -2, 0]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"band": [0.9, 0.1]}, "band = "),
        ({"bounds": (0.5, 2.0)}, "bounds = "),
        ({"band": (0.1, 0.9), "bounds": (0.1, 0.9)}, "not both"),
        ({"band": (0.1,)}, "band = "),
        ({"target": 1.0}, "target = 1.0"),
        ({"least": 0}, "least = 0"),
        ({"eta": -1.0}, "eta = -1.0"),
        ({"margin": 3.0}, "margin = 3.0"),
        ({"most_kappa": 0.0}, "most_kappa = 0.0"),
        ({"adapter": 1}, "adapter = 1"),
        ({"lambda": 1.0}, "did you mean 'lambda_"),
        ({"quantile": 1.0}, "'margin_quantile'"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_fitted(params: dict[str, Any], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        make_score("immuno_vlm_paper", **params)


def test_a_band_may_come_as_a_list_as_toml_has_it() -> None:
    assert make_score("immuno_vlm_paper", band=[0, 0.5]).params["band"] == (0.0, 0.5)


def test_an_antibody_left_out_of_its_form_leaves_the_score_of_the_others() -> None:
    """What evaluation.effects.antibody_effects measures: the adapter and the thresholds stay as they are."""
    space = vaccinable(antibodies=5)
    fitted = fit(space)
    x = outliers(space, 0, 30).features.astype(np.float64)
    form = fitted.form
    seen = form.images(x)
    pull = seen.points @ form.antibodies.T - seen.near[:, None] - form.radii
    np.testing.assert_allclose(
        seen.base - form.weight * pull.max(axis=1), fitted.score(x.astype(np.float32)), atol=1e-12
    )
    alone = replace(fitted, bank=fitted.bank.take(np.array([2])), antibodies=fitted.antibodies[2:3])
    np.testing.assert_allclose(seen.base - form.weight * pull[:, 2], alone.score(x.astype(np.float32)), atol=1e-12)
    none = replace(fitted, bank=bank_of(unit_rows(np.random.default_rng(0), 0, 16)), antibodies=np.zeros((0, 16)))
    np.testing.assert_allclose(none.score(x.astype(np.float32)), seen.base, atol=1e-12)

"""The calibrated score: radii set by known images, exceedances, and the three bases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evaluation.scores.calibrated import Calibrated, Makings
from evaluation.scores.radii import Calibration, Calibrator
from evaluation.scores.registry import make_score
from evaluation.space import Feedback, Space
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray
from tests.evaluation import reference
from tests.evaluation.synthetic import (
    bank_of,
    feature_set,
    guarding,
    held_out,
    make_space,
    outliers,
    unit,
    unit_rows,
    with_rows,
)
from tests.evaluation.synthetic import fit_calibrated as fit


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.integers(1, 5),
    st.integers(0, 6),
    st.integers(0, 25),
    st.integers(0, 8),
    st.sampled_from([0.001, 0.1, 0.34, 0.9]),
    st.sampled_from(["max_cosine", "prototype", "fused"]),
)
@example(seed=0, k=1, a=2, n_fit=2, n=3, eps=0.1, base="fused")
def test_score_radii_and_exceedance_agree_with_their_formulas(
    seed: int, k: int, a: int, n_fit: int, n: int, eps: float, base: str
) -> None:
    space = make_space(seed, classes=k, antibodies=a, fit=n_fit, spread=0.4)
    x, texts, antibodies = outliers(space, seed, n).features, space.texts, space.bank.vectors
    fitted = fit(space, eps=eps, base=base, beta=2.0, alpha=0.8, xi=3.0, w=0.3)

    radii, bases = [0.0] * a, [reference.max_logit(v, texts) for v in x]
    if space.fit is not None and space.fit_labels is not None:
        images, labels = space.fit.features, list(space.fit_labels)
        radii = [reference.radius(images, texts, antibody, eps) for antibody in antibodies]
        mu = reference.prototypes(texts, images, labels, 0.8, 3.0)
        if base == "prototype":
            bases = [reference.max_logit(v, mu) for v in x]
        if base == "fused":
            p = reference.leave_one_out(texts, images, labels, 0.8, 3.0)
            q = [reference.mcm(v, texts) for v in images]
            if reference.deviation(p) < 1e-9:
                bases = [reference.max_logit(v, mu) for v in x]
            else:
                slope = reference.deviation(p) / reference.deviation(q) if reference.deviation(q) > 1e-12 else 0.0
                bases = [
                    0.3 * reference.max_logit(v, mu)
                    + 0.7 * (reference.mean(p) + slope * (reference.mcm(v, texts) - reference.mean(q)))
                    for v in x
                ]
    np.testing.assert_allclose(fitted.radii, radii, atol=1e-12)
    largest = [max(reference.exceedances(v, texts, antibodies, radii), default=0.0) for v in x]
    found = fitted.exceedance(x)
    np.testing.assert_allclose(found.largest, largest, atol=1e-12)
    np.testing.assert_allclose(fitted.score(x) + 2.0 * found.largest, bases, atol=1e-9)
    for v, largest, antibody in zip(x, found.largest, found.antibody, strict=True):
        assert (antibody == -1) == (largest == 0)
        if antibody >= 0:
            assert reference.margin(v, texts, antibodies[antibody]) - radii[antibody] == pytest.approx(largest)


@pytest.mark.parametrize("eps", [0.0005, 0.001, 0.002, 0.01, 0.05])
@pytest.mark.parametrize("n", [1, 10, 500, 1000, 2000])
def test_at_most_a_share_eps_of_the_fit_images_fires_any_one_antibody_and_no_fewer_than_allowed(
    eps: float, n: int
) -> None:
    space = make_space(0, fit=n, antibodies=4)
    assert space.fit is not None
    fitted = fit(space, eps=eps, base="max_cosine")
    for j in range(4):
        alone = with_rows(space, [j])
        fires = fit(alone, eps=eps, base="max_cosine").fires(space.fit.features)
        assert fires.sum() == int(round(eps * n * 1e6) // 1e6)
        assert fit(alone, eps=eps).radii[0] == pytest.approx(fitted.radii[j], abs=1e-14)


def test_a_bad_antibody_is_silenced_where_the_paper_s_score_is_ruined() -> None:
    """A synonym of a known class, as an antibody: S_DIS rejects the class, the calibrated score keeps it."""
    space = make_space(5, classes=3, dim=32, antibodies=0, fit=300, spread=0.1)
    rng = np.random.default_rng(0)
    synonym = unit(space.texts[:1] + 0.02 * rng.standard_normal((1, 32)))
    spoilt = replace(space, bank=bank_of(synonym))
    known, labels = held_out(space, 9, 300, spread=0.1)
    x = known.features[labels == 0]
    clean_rank = make_score("s_dis").fit(space).score(x).mean() - make_score("s_dis").fit(spoilt).score(x).mean()
    assert clean_rank > 0.5
    assert (fit(space, base="max_cosine").score(x) == fit(spoilt, base="max_cosine").score(x)).mean() > 0.97


def test_without_fit_images_radii_are_zero_and_every_base_is_the_maximum_cosine() -> None:
    space = make_space(0, fit=0)
    x = outliers(space, 0, 40).features
    scores = [fit(space, base=base).score(x).tolist() for base in ("max_cosine", "prototype", "fused")]
    assert scores[0] == scores[1] == scores[2]
    fitted = fit(space)
    assert fitted.radii.tolist() == [0.0] * 7
    nearer = (x @ space.bank.vectors.T).max(axis=1) > (x @ space.texts.T).max(axis=1) + 1e-6
    assert 0 < nearer.sum() < 40
    assert (fitted.exceedance(x).antibody >= 0).tolist() == nearer.tolist()


def test_the_fused_base_maps_mcm_to_the_scale_of_cosines_on_fit_images() -> None:
    space = make_space(7, fit=200)
    assert space.fit is not None
    mcm = make_score("mcm").fit(space).score(space.fit.features)
    only_mcm = fit(space, base="fused", w=0.0, beta=0.0).score(space.fit.features)
    closeness = reference.leave_one_out(space.texts, space.fit.features[:20], list(space.fit_labels[:20]), 0.9, 10)  # type: ignore[index]
    assert np.corrcoef(mcm, only_mcm)[0, 1] == pytest.approx(1)
    assert only_mcm.mean() == pytest.approx(np.mean(closeness), abs=0.05)
    half = fit(space, base="fused", w=0.5, beta=0.0).score(space.fit.features)
    own = fit(space, base="prototype", beta=0.0).score(space.fit.features)
    np.testing.assert_allclose(half, (own + only_mcm) / 2, atol=1e-12)


def test_one_fit_image_or_one_class_leaves_the_fused_base_finite() -> None:
    for space in (make_space(0, fit=1), make_space(0, classes=1, fit=1), make_space(0, classes=1, fit=9)):
        x = outliers(space, 0, 10).features
        assert np.isfinite(fit(space, base="fused").score(x)).all()
    one = make_space(0, fit=1)
    x = outliers(one, 0, 10).features
    assert fit(one, base="fused").score(x).tolist() == fit(one, base="prototype").score(x).tolist()


def test_an_antibody_acts_only_where_it_fires() -> None:
    space = make_space(0, fit=100, antibodies=9)
    x = outliers(space, 3, 200).features
    fitted = fit(space, base="fused")
    fires = fitted.fires(x)
    bare = fit(with_rows(space, []))
    assert 0 < fires.sum() < 200
    assert (fitted.score(x)[~fires] == bare.score(x)[~fires]).all()
    assert (fitted.score(x)[fires] < bare.score(x)[fires]).all()


def test_the_first_of_two_equal_antibodies_is_named() -> None:
    space = make_space(0, fit=0, antibodies=0)
    twin = unit_rows(np.random.default_rng(1), 1, 8)
    both = replace(space, bank=bank_of(np.repeat(twin, 2, axis=0)))
    found = fit(both).exceedance(twin)
    assert found.antibody.tolist() == [0]
    assert found.largest[0] > 0


def test_the_score_keeps_its_parameters_and_does_not_depend_on_the_order_of_fit_images() -> None:
    space = make_space(0, fit=50)
    assert space.fit is not None
    assert space.fit_labels is not None
    assert Calibrated(eps=0.01).eps == 0.01
    order = np.random.default_rng(0).permutation(50)
    shuffled = Space(
        space.classes,
        space.texts,
        space.logit_scale,
        feature_set(space.fit.features[order], split="fit"),
        space.fit_labels[order],
        space.bank,
    )
    x = outliers(space, 0, 30).features
    np.testing.assert_allclose(fit(space).score(x), fit(shuffled).score(x), atol=1e-12)


# ---- variants


def near_top5(x: Any, texts: Any) -> float:
    return reference.mean(sorted(reference.cosines(x, texts), reverse=True)[:5])


@settings(max_examples=30)
@given(
    st.integers(0, 10**6),
    st.integers(1, 8),
    st.integers(1, 6),
    st.integers(0, 25),
    st.sampled_from(["top1", "top5"]),
    st.sampled_from(["max", "sum"]),
    st.booleans(),
)
def test_variants_agree_with_their_formulas(
    seed: int, k: int, a: int, n_fit: int, margin: str, combine: str, guarded: bool
) -> None:
    space = make_space(seed, classes=k, antibodies=a, fit=n_fit, spread=0.4)
    guards = tuple("" if j % 3 == 0 else f"class {j % k}" for j in range(a))
    space = guarding(space, *guards)
    x, texts, antibodies = outliers(space, seed, 9).features, space.texts, space.bank.vectors
    fitted = fit(space, eps=0.2, base="max_cosine", beta=2.0, margin=margin, combine=combine, guarded=guarded)
    near = near_top5 if margin == "top5" else reference.max_logit

    def margin_of(v: Any, antibody: Any) -> float:
        return reference.cos(v, antibody) - near(v, texts)

    radii = [0.0] * a
    if space.fit is not None:
        allowed = int(0.2 * n_fit + 1e-9)
        radii = [sorted((margin_of(v, one) for v in space.fit.features), reverse=True)[allowed] for one in antibodies]
    np.testing.assert_allclose(fitted.radii, radii, atol=1e-12)
    for v, score, largest in zip(x, fitted.score(x), fitted.exceedance(x).largest, strict=True):
        nearest = int(np.argmax(reference.cosines(v, texts)))
        fires = [not guarded or guard in ("", f"class {nearest}") for guard in guards]
        beyond = [margin_of(v, one) - r for one, r in zip(antibodies, radii, strict=True)]
        e = [b if b > 1e-12 and may else 0.0 for b, may in zip(beyond, fires, strict=True)]
        assert largest == pytest.approx(max(e), abs=1e-12)
        assert score == pytest.approx(reference.max_logit(v, texts) - 2.0 * (sum if combine == "sum" else max)(e))


def test_the_variants_are_variants_of_one_score() -> None:
    space = make_space(0, classes=5, antibodies=1, fit=50, spread=0.4)
    x = outliers(space, 0, 50).features
    np.testing.assert_array_equal(fit(space, combine="sum").score(x), fit(space).score(x))
    np.testing.assert_array_equal(fit(guarding(space, ""), guarded=True).score(x), fit(space).score(x))
    one_class = make_space(0, classes=1, antibodies=4, fit=50)
    np.testing.assert_array_equal(fit(one_class, margin="top5").score(x), fit(one_class).score(x))
    np.testing.assert_array_equal(fit(one_class, guarded=True).score(x), fit(one_class).score(x))


def test_guarding_an_unknown_class_is_refused_only_where_guards_count() -> None:
    space = guarding(make_space(0, antibodies=2), "class 1", "clas 2")
    fit(space)
    with pytest.raises(SetupError, match="guards 'clas 2', which is no known class; did you mean 'class"):
        fit(space, guarded=True)


def contextual_space(seed: int, *, fit_images: int, guards: tuple[str, ...]) -> Any:
    """Two classes, contextual antibodies anywhere."""
    space = make_space(seed, classes=2, antibodies=len(guards), fit=fit_images, spread=0.5)
    return guarding(space, *guards, kind="contextual")


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([0.05, 0.1, 0.3]))
def test_a_contextual_antibody_is_calibrated_on_and_fires_on_the_images_of_its_class(seed: int, share: float) -> None:
    space = contextual_space(seed, fit_images=120, guards=("class 0", "class 1", ""))
    assert space.fit is not None
    fitted = fit(space, class_eps=share)
    nearest = np.array([int(np.argmax(reference.cosines(v, space.texts))) for v in space.fit.features])
    for j, own in enumerate((0, 1)):
        margins = [
            reference.cos(v, space.bank.vectors[j]) - reference.max_logit(v, space.texts)
            for v in space.fit.features[nearest == own]
        ]
        if share * len(margins) < 1:
            continue
        assert fitted.guards[j] == own
        assert fitted.radii[j] == pytest.approx(sorted(margins, reverse=True)[int(share * len(margins) + 1e-9)])
        alone = fit(with_rows(space, [j]), class_eps=share)
        fired = alone.exceedance(space.fit.features).antibody >= 0
        assert not fired[nearest != own].any()
        assert fired[nearest == own].mean() <= share
    # One that guards no class in particular is what it was without.
    assert fitted.guards[2] == -1
    assert fitted.radii[2] == fit(space, class_radii=False).radii[2]


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 60), st.sampled_from([0.02, 0.05, 0.3]))
def test_the_fewer_images_a_class_has_the_nearer_its_radius_is_to_the_one_over_all(
    seed: int, count: int, share: float
) -> None:
    space = contextual_space(seed, fit_images=count, guards=("class 0", "class 1"))
    assert space.fit is not None
    common = fit(space, class_radii=False).radii
    fitted = fit(space, class_eps=share)
    nearest = np.array([int(np.argmax(reference.cosines(v, space.texts))) for v in space.fit.features])
    drawn = 0
    for j in (0, 1):
        own = space.fit.features[nearest == j]
        if not len(own):
            assert (fitted.radii[j], fitted.guards[j]) == (common[j], -1)
            drawn += 1
            continue
        margins = sorted(reference.cos(v, space.bank.vectors[j]) - reference.max_logit(v, space.texts) for v in own)
        quantile = margins[len(own) - 1 - int(share * len(own) + 1e-9)]
        weight = min(1.0, share * len(own))
        assert fitted.radii[j] == pytest.approx(max(quantile, weight * quantile + (1 - weight) * common[j]))
        assert fitted.guards[j] == j
        drawn += weight < 1
    assert fitted.chosen.get("class_radii_drawn", 0) == drawn


def test_the_radii_of_look_alikes_know_no_class() -> None:
    space = make_space(0, classes=3, antibodies=6, fit=300)
    x = outliers(space, 0, 60).features
    np.testing.assert_array_equal(fit(space).score(x), fit(space, class_radii=False).score(x))


def test_an_antibody_of_a_class_takes_nothing_from_the_images_of_another() -> None:
    """What the bound on harm rests on, with everything in place: base, weight, and several antibodies."""
    space = contextual_space(5, fit_images=400, guards=("class 0",) * 6)
    bare = fit(space, beta=0.0)
    x = outliers(space, 5, 200).features
    others = np.array([int(np.argmax(reference.cosines(v, space.texts))) for v in x]) != 0
    np.testing.assert_array_equal(fit(space).score(x)[others], bare.score(x)[others])


def test_the_share_above_a_radius_is_the_one_that_is_meant() -> None:
    """0.29 * 100 is 28.999999999999996: 29 of 100 images may lie above."""
    rng = np.random.default_rng(0)
    images, texts, vectors = unit_rows(rng, 100, 8), unit_rows(rng, 3, 8).astype(np.float64), unit_rows(rng, 4, 8)
    everyone = np.full(4, -1)
    found = Calibrator.of(images, texts).calibrate(
        vectors.astype(np.float64), everyone, everyone, eps=0.29, class_eps=0.5
    )
    radii = found.radii[0]
    margins = vectors.astype(np.float64) @ images.T.astype(np.float64) - (images.astype(np.float64) @ texts.T).max(
        axis=1
    )
    assert (margins > radii[:, None] + 1e-9).sum(axis=1).tolist() == [29] * 4


@pytest.mark.parametrize(("count", "share"), [(19, 0.95), (20, 1.0), (21, 1.0)])
def test_from_one_over_eps_images_on_a_class_sets_its_radius_alone(count: int, share: float) -> None:
    rng = np.random.default_rng(0)
    texts, vectors = np.eye(2, 8), unit_rows(rng, 1, 8).astype(np.float64)
    images = unit(np.eye(2, 8)[[0] * count + [1] * 5] + 0.1 * rng.standard_normal((count + 5, 8)))
    everyone = np.array([-1])

    def radius(images: FloatArray, own: int) -> Calibration:
        calibrator = Calibrator.of(images, texts)
        return calibrator.calibrate(vectors, np.array([own]), everyone, eps=0.001, class_eps=0.05)

    common, found = radius(images, -1).radii, radius(images, 0)
    own = Calibrator.of(images[:count], texts).calibrate(vectors, everyone, everyone, eps=0.05, class_eps=0.5).radii
    assert found.share.tolist() == [[pytest.approx(share)]]
    assert found.radii == pytest.approx(own + (1 - share) * np.maximum(common - own, 0))
    assert (found.reach.tolist(), found.drawn) == ([[0]], int(share < 1))


@settings(max_examples=25)
@given(
    st.integers(0, 10**6), st.integers(8, 90), st.sampled_from([{}, {"guarded": True}, {"eps": 0.1}, {"radii": False}])
)
def test_what_is_found_without_each_part_is_that_of_a_fit_without_it(
    seed: int, count: int, params: dict[str, Any]
) -> None:
    bare = make_space(seed, classes=3, antibodies=8, fit=count, spread=0.5)
    names = np.random.default_rng(seed).choice(["class 0", "class 1", "class 2", ""], len(bare.bank))
    space = guarding(bare, *(str(name) for name in names), kind="contextual")
    bank = space.bank.take(np.arange(6)).concat(bare.bank.take(np.array([6, 7])))
    assert bare.fit is not None
    assert bare.fit_labels is not None
    shown = {"a": outliers(bare, seed, 9, name="a")}
    feedback = Feedback.cross_fitted(bare.fit, bare.fit_labels, shown, seed=seed)
    space = replace(space, bank=bank, feedback=feedback)
    makings = Makings(Calibrated(v=0.5, **params), space, crossed=True)
    halves = [makings.calibrate(bank.take(rows)) for rows in (np.arange(3), np.arange(3, 8))]
    assert feedback.parts is not None
    for found in (makings.calibrate(bank), halves[0].concat(halves[1])):
        whole = fit(space, v=0.5, **params)
        assert (found.radii[0], found.reach[0].tolist()) == (pytest.approx(whole.radii), whole.guards.tolist())
        for part in np.unique(feedback.parts):
            rows = np.flatnonzero(feedback.parts == part)
            without = fit(space.without(int(part)), v=0.5, **params)
            assert found.radii[1 + part] == pytest.approx(without.radii, abs=1e-12)
            assert found.reach[1 + part].tolist() == without.guards.tolist()
            assert found.fired[rows] == pytest.approx(without.exceedance(bare.fit.features[rows]).largest, abs=1e-12)
            base = makings.bases.without(int(part)).base(0.35, 0.5)
            x = bare.fit.features[rows].astype(np.float64)
            assert base.values(x, x @ space.texts.T) == pytest.approx(replace(without, beta=0.0).score(x), abs=1e-12)

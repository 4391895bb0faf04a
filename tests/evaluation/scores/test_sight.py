"""Visual antibodies: directions toward what outliers looked like, that reject and never vouch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evaluation.antibodies.visual import MOST_SAMPLES, clusters, visual_antibodies
from evaluation.metrics import fpr95_id, threshold_at
from evaluation.scores.base import held_out
from evaluation.scores.calibrated import Calibrated, Makings
from evaluation.scores.immuno_vlm import FittedImmunoVlm, ImmunoVlm
from evaluation.scores.sight import Whitened
from evaluation.space import Bank, Feedback, Space
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray
from tests.evaluation import reference
from tests.evaluation.synthetic import (
    around,
    feature_set,
    fit_calibrated,
    make_space,
    named,
    outliers,
    unit,
    unit_rows,
)
from tests.evaluation.synthetic import held_out as known_images

SPACE = make_space(3, classes=4, dim=12, antibodies=6, fit=120)
SETS = {"near": outliers(SPACE, 5, 61), "far": outliers(SPACE, 6, 40)}
SEEN = visual_antibodies(SETS, 4)
TEST = np.concatenate([known_images(SPACE, 3, 80)[0].features, outliers(SPACE, 9, 80).features])


def margins(known: FloatArray, centre: FloatArray, x: FloatArray) -> FloatArray:
    """u' (x - m), written out."""
    rows = known.astype(np.float64)
    mean = rows.mean(axis=0)
    covariance = (rows - mean).T @ (rows - mean) / len(rows)
    shrunk = 0.8 * covariance + 0.2 * np.trace(covariance) / len(mean) * np.eye(len(mean))
    toward = np.linalg.solve(shrunk, centre.astype(np.float64) - mean)
    return (x.astype(np.float64) - mean) @ toward / np.sqrt(toward @ (centre.astype(np.float64) - mean))


def taken(eps: float, weight: float, x: FloatArray) -> Any:
    """What SEEN takes from the score: radii by leaving each image out in turn."""
    assert SPACE.fit is not None
    fit = SPACE.fit.features
    assert SPACE.fit_labels is not None
    closeness = reference.leave_one_out(SPACE.texts, fit, list(SPACE.fit_labels), 0.9, np.pi / 4)
    most = np.zeros(len(x))
    for centre in SEEN.vectors:
        own = [margins(np.delete(fit, i, axis=0), centre, fit[i][None])[0] for i in range(len(fit))]
        radius = sorted(own, reverse=True)[int(eps * len(fit) + 1e-9)]
        most = np.maximum(most, margins(fit, centre, x) - radius)
    return weight * reference.deviation(closeness) * most


@pytest.mark.parametrize(("eps", "weight"), [(0.02, 1.0), (0.1, 0.5)])
def test_the_score_is_less_by_the_largest_exceedance_in_deviations_of_the_closeness(eps: float, weight: float) -> None:
    bare = fit_calibrated(SPACE).score(TEST)
    fitted = fit_calibrated(replace(SPACE, bank=SPACE.bank.concat(SEEN)), visual_eps=eps, visual_weight=weight)
    # The scale of the identity is not estimated anew without each image, nor n.
    assert bare - fitted.score(TEST) == pytest.approx(taken(eps, weight, TEST), rel=0.05, abs=2e-3)
    assert (bare - fitted.score(TEST)).max() > 0.01


def test_visual_antibodies_reject_and_never_vouch() -> None:
    grown = replace(SPACE, bank=SEEN.concat(SPACE.bank))
    fitted = fit_calibrated(grown)
    assert (fitted.score(TEST) <= fit_calibrated(SPACE).score(TEST)).all()
    assert fitted.bank.ids == (*SPACE.bank.ids, *SEEN.ids)
    # What it does to an image is told by the one that takes most.
    alone = fit_calibrated(replace(SPACE, bank=SEEN)).exceedance(TEST)
    assert set(alone.antibody[alone.antibody >= 0]) <= set(range(len(SEEN)))
    both = fitted.exceedance(TEST).antibody
    assert (both >= len(SPACE.bank)).any()
    assert (fitted.fires(TEST) == (both >= 0)).all()


def test_a_known_image_is_measured_as_if_it_had_not_made_the_direction() -> None:
    """Few images in many dimensions: with itself among them, each looks far from every outlier."""
    space = make_space(1, classes=3, dim=32, fit=64)
    new = make_space(1, classes=3, dim=32, fit=4000)
    assert space.fit is not None
    assert new.fit is not None
    known = Whitened.of(space.fit.features, 1.0)
    centres = unit_rows(np.random.default_rng(0), 5, 32)
    found = known.directions(centres)
    of_new = new.fit.features[64:] @ found.rows.T - found.offsets
    within = space.fit.features @ found.rows.T - found.offsets
    left_out = known.left_out(centres)
    assert within.std() < 0.75 * of_new.std()
    assert left_out.std() == pytest.approx(of_new.std(), rel=0.15)


def test_without_fit_images_they_are_silent_and_with_one_they_are_finite() -> None:
    for bare in (replace(SPACE, fit=None, fit_labels=None), make_space(0, dim=12, fit=1)):
        grown = replace(bare, bank=bare.bank.concat(SEEN))
        score = fit_calibrated(grown).score(TEST)
        assert np.isfinite(score).all()
        if bare.fit is None:
            assert score.tolist() == fit_calibrated(bare).score(TEST).tolist()
    with pytest.raises(SetupError, match="fit images"):
        _ = Makings(Calibrated(), replace(SPACE, fit=None, fit_labels=None)).whitened


def test_clusters_are_the_same_in_any_order_and_name_their_images() -> None:
    features = [one.features for one in SETS.values()]
    found, again = clusters(features, 4), clusters([one[::-1] for one in reversed(features)], 4)
    np.testing.assert_allclose(found.centres, again.centres, atol=1e-6)
    assert found.own.tolist() == again.own[::-1].tolist()
    assert (SEEN.kinds, set(SEEN.texts)) == (("visual",) * 4, {""})
    every = np.concatenate(features)
    names = [f"{name}/{key}" for name, one in SETS.items() for key in one.ids]
    for c, antibody in enumerate(SEEN.antibodies):
        members = np.flatnonzero(found.own == c)
        mean = every[members].mean(axis=0)
        np.testing.assert_allclose(SEEN.vectors[c], mean / np.linalg.norm(mean), atol=1e-6)
        nearest = sorted(members, key=lambda i, mean=mean: -float(every[i] @ mean))[:MOST_SAMPLES]
        assert list(antibody.samples) == [names[i] for i in nearest]
    assert len(clusters([features[0][:2]], 5).centres) == 2


def shown_apart(seed: int) -> tuple[Space, FloatArray, FloatArray]:
    """Outliers that no text speaks of, all to one side of the known images; new known ones, and new outliers."""
    rng = np.random.default_rng(seed)
    aside = unit_rows(np.random.default_rng(11), 1, SPACE.dim)[0]

    def beside(n: int) -> FloatArray:
        return unit(around(rng, SPACE.texts, rng.integers(0, 4, n), 0.1) + 0.7 * aside)

    known, labels = known_images(SPACE, seed, 300)
    feedback = Feedback(known, labels, {name: feature_set(beside(80), name=name) for name in "ab"})
    return replace(SPACE, feedback=feedback), known_images(SPACE, seed + 1, 2000)[0].features, beside(800)


def test_what_outliers_looked_like_keeps_others_like_them_out() -> None:
    space, known, new = shown_apart(0)

    def fpr95(**params: Any) -> float:
        fitted = ImmunoVlm(**params).fit(space)
        return fpr95_id(fitted.score(known), fitted.score(new))

    assert fpr95() < 0.8 * fpr95(visual=0)
    assert ImmunoVlm().fit(space).chosen["visual"] == 10


def test_the_threshold_is_not_optimistic_with_four_images_a_class() -> None:
    """Fit images that are the known feedback as well: of new known images as many are accepted as was asked for."""
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        texts = unit_rows(rng, 60, 48)
        labels = np.repeat(np.arange(60), 4)
        fit = named(feature_set(around(rng, texts, labels, 0.13), split="fit", name="fit"), labels)
        bare = make_space(seed, classes=60, dim=48, antibodies=80, fit=0)
        bare = replace(bare, texts=texts, fit=fit, fit_labels=labels)
        feedback = Feedback.cross_fitted(
            fit, labels, {n: outliers(bare, i, 200, n) for i, n in enumerate("ab")}, seed=0
        )
        space = replace(bare, feedback=feedback)
        fitted = ImmunoVlm().fit(space)
        assert isinstance(fitted, FittedImmunoVlm)
        known = held_out(space, fitted.settled.fit, lambda one, images: one.score(images.features))
        new = around(rng, texts, np.arange(6000) % 60, 0.13)
        found.append(float(np.mean(fitted.score(new) >= threshold_at(known))))
    assert np.mean(found) == pytest.approx(0.95, abs=0.01)


def test_a_bank_of_visual_antibodies_alone_is_a_bank() -> None:
    fitted = fit_calibrated(replace(SPACE, bank=SEEN))
    assert fitted.form.ids == ()
    assert fitted.visual_form is not None
    assert fitted.visual_form.ids == SEEN.ids
    assert fit_calibrated(replace(SPACE, bank=Bank.empty(12))).visual_form is None

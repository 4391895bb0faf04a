"""Sessions without known feedback images of their own: fitted on all fit images, measured on each without its part."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from agents.feedback import Gauge, crosses, halve
from evaluation.antibodies.visual import visual_antibodies
from evaluation.metrics import threshold_at
from evaluation.scores.base import held_out
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.space import Bank, Feedback, Space
from immuno_core.config.methods import MethodConfig
from immuno_core.errors import ImmunoError
from immuno_core.features import FeatureSet
from tests.evaluation.synthetic import around, feature_set, fit_calibrated, guarding, make_space, named, outliers

PARAMS: tuple[dict[str, Any], ...] = ({"v": 0.5}, {"eps": 0.05, "base": "max_cosine"}, {"guarded": True, "eps": 0.05})


def crossed(seed: int, params: dict[str, Any], *, fit: int = 90) -> tuple[Space, Gauge]:
    """A space with contextual antibodies, look-alikes and visual ones, and what measures it."""
    bare = make_space(seed, classes=4, dim=10, antibodies=9, fit=fit, spread=0.5)
    guards = [f"class {j % 4}" if j % 3 else "" for j in range(9)]
    bank = guarding(bare, *guards, kind="contextual").bank.take(np.arange(5)).concat(bare.bank.take(np.arange(5, 9)))
    assert bare.fit is not None
    assert bare.fit_labels is not None
    sets = {name: outliers(bare, seed + i, 31 + i, name=name) for i, name in enumerate(("a", "b"))}
    feedback = Feedback.cross_fitted(bare.fit, bare.fit_labels, sets, seed=0)
    space = replace(bare, bank=bank.concat(visual_antibodies(sets, 3)), feedback=feedback)
    return space, Gauge(space, MethodConfig(name="calibrated", **params), 0.95)


def by_hand(space: Space, bank: Bank, params: dict[str, Any]) -> np.ndarray:
    """The known scores: texts by fits without each part; what visual antibodies take, each image left out."""
    texts = replace(space, bank=bank.worded)

    def score(fitted: FittedCalibrated, images: FeatureSet) -> np.ndarray:
        return fitted.score(images.features)

    taken = np.zeros(len(held_out(texts, lambda some: fit_calibrated(some, **params), score)))
    whole = fit_calibrated(replace(space, bank=bank), **params)
    if whole.sight is not None:
        taken = whole.sight.taken_where(whole.sight.own)
    return held_out(texts, lambda some: fit_calibrated(some, **params), score) - taken


@pytest.mark.parametrize("params", PARAMS)
def test_each_fit_image_is_judged_by_the_score_without_its_part(params: dict[str, Any]) -> None:
    space, gauge = crossed(1, params)
    assert space.feedback is not None
    # Antibodies that were met before, and new ones; with and without visual ones.
    for rows in (np.arange(3), np.arange(12), np.array([8, 2, 5])):
        bank = space.bank.take(rows)
        boundary = gauge.measure(bank)
        assert boundary.known_scores == pytest.approx(by_hand(space, bank, params), abs=1e-12)
        nearest = held_out(
            replace(space, bank=bank), lambda some: fit_calibrated(some, **params), lambda f, x: f.predict(x.features)
        )
        assert boundary.right.tolist() == (nearest == space.feedback.labels).tolist()
        deployed = fit_calibrated(replace(space, bank=bank), **params)
        for name, images in space.feedback.outliers.items():
            assert boundary.outlier_scores[name] == pytest.approx(deployed.score(images.features), abs=1e-12)
        assert boundary.fitted.radii == pytest.approx(deployed.radii, abs=1e-12)


@pytest.mark.parametrize(("params", "half"), [(PARAMS[1], False), (PARAMS[2], True)])
def test_effects_are_those_of_smaller_banks_so_judged(params: dict[str, Any], half: bool) -> None:
    space, gauge = crossed(2, params)
    assert space.feedback is not None
    some = halve(space.feedback, seed=0).first if half else None
    rows = np.arange(len(space.feedback.known)) if some is None else some.known

    @cache
    def known(keys: tuple[str, ...]) -> np.ndarray:
        bank = space.bank.take(np.array([i for i, key in enumerate(space.bank.ids) if key in keys], dtype=np.int64))
        return by_hand(space, bank, params)[rows]

    everyone = space.bank.ids
    for one in gauge.effects(gauge.measure(space.bank).fitted, some):
        if one.effect.outlier_set != "a":
            continue
        alone = one.effect.scope == "solo"
        before = known(() if alone else tuple(key for key in everyone if key != one.antibody_id))
        after = known((one.antibody_id,) if alone else everyone)
        threshold = threshold_at(before)
        lost = np.count_nonzero((before >= threshold) & (after < threshold))
        assert one.effect.harm == pytest.approx(lost / np.count_nonzero(before >= threshold)), one


def test_scores_that_cannot_be_so_measured_are_told_apart() -> None:
    assert crosses(MethodConfig(name="calibrated"))
    for other in ({"name": "calibrated", "combine": "sum"}, {"name": "immuno_vlm"}, {"name": "mcm"}):
        assert not crosses(MethodConfig(**other))
        with pytest.raises(ImmunoError, match="not measured on the images that it is fitted on"):
            Gauge(crossed(0, {})[0], MethodConfig(**other), 0.95)


def test_the_threshold_accepts_as_many_new_known_images_at_four_a_class() -> None:
    """Known answer: 95 % of new images, on the mean of worlds in which a threshold of the fit itself is far off."""
    accepted, naive = [], []
    for seed in range(12):
        bare = make_space(seed, classes=60, dim=32, antibodies=120, fit=0)
        rng = np.random.default_rng([seed, 3])
        labels, new = np.repeat(np.arange(60), 4), np.arange(3000) % 60
        # Classes lie a little beside their texts, as photographs do.
        centres = bare.texts + 0.12 * rng.standard_normal(bare.texts.shape)
        fit = replace(named(feature_set(around(rng, centres, labels, 0.12), name="fit"), labels), split="fit")
        feedback = Feedback.cross_fitted(fit, labels, {"far": outliers(bare, seed, 60)}, seed=seed)
        space = replace(bare, fit=fit, fit_labels=labels, feedback=feedback)
        boundary = Gauge(space, MethodConfig(name="calibrated", v=0.4, shrinkage=0.2), 0.95).measure(space.bank)
        x = around(rng, centres, new, 0.12)
        accepted.append(np.mean(boundary.fitted.score(x) >= boundary.threshold))
        naive.append(np.mean(boundary.fitted.score(x) >= threshold_at(boundary.fitted.score(fit.features))))
    assert np.mean(naive) < 0.92
    assert np.mean(accepted) == pytest.approx(0.95, abs=0.01)

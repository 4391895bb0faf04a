"""Affinity maturation and pruning in the loop: judged on images that had no part in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from agents.acceptance import decide_pruning, suspects
from agents.feedback import Boundary, FeedbackData, Halves, halve, measure
from agents.maturing import Maturation
from evaluation.effects.antibody_effects import AntibodyEffect, antibody_effects
from evaluation.space import Bank
from immuno_core.config.methods import MethodConfig
from immuno_core.records import Antibody, Effect

from . import word_world as world

SCORE = MethodConfig.model_validate({"name": "calibrated", "base": "max_cosine", "eps": 0.02})


@pytest.fixture(scope="module")
def data() -> FeedbackData:
    return world.feedback_data()


@pytest.fixture(scope="module")
def halves(data: FeedbackData) -> Halves:
    return halve(data, seed=0)


def measured(data: FeedbackData) -> Callable[[Bank], Boundary]:
    return lambda bank: measure(data, bank, SCORE, 0.95)


def bank_of(*texts: str) -> Bank:
    vectors = world.WordEmbedder().embed_texts(texts)
    return Bank(tuple(Antibody(text, guards="fish", id=f"id{i}") for i, text in enumerate(texts)), vectors)


BANK = bank_of("a photo of a shark.", "a photo of a truck.", "a photo of a desert.")


def test_matured_antibodies_have_their_parents_and_stand_beside_them(data: FeedbackData, halves: Halves) -> None:
    attempt = Maturation(data, halves, measured(data), 0)
    found = attempt.try_on(BANK, measured(data)(BANK))
    assert found is not None
    assert found.bank.ids == (*BANK.ids, *found.antibodies.ids)
    for antibody, vector in zip(found.antibodies.antibodies, found.antibodies.vectors, strict=True):
        parent = BANK.vectors[BANK.ids.index(antibody.parent_id or "")]
        assert 0.8 < float(parent @ vector) < 0.9999


def test_only_the_first_half_matures_anything(data: FeedbackData, halves: Halves) -> None:
    """With the images of the second half exchanged for noise, the matured embeddings are the same."""
    rng = np.random.default_rng(0)
    changed = {}
    for name, images in data.outliers.items():
        features = images.features.copy()
        noise = rng.normal(size=(len(halves.second.outliers[name]), world.DIM))
        features[halves.second.outliers[name]] = noise / np.linalg.norm(noise, axis=1, keepdims=True)
        changed[name] = replace(images, features=features)
    other = replace(data, outliers=changed)
    one, two = (Maturation(d, halves, measured(d), 0).try_on(BANK, measured(d)(BANK)) for d in (data, other))
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(one.antibodies.vectors, two.antibodies.vectors)
    # ... and what the second half holds decides.
    assert one.decision.accepted
    assert not two.decision.accepted


def test_it_is_judged_by_outliers_like_and_unlike_those_that_matured(data: FeedbackData, halves: Halves) -> None:
    found = Maturation(data, halves, measured(data), 0).try_on(BANK, measured(data)(BANK))
    assert found is not None
    assert {"like", "unlike", "antibodies"} == set(found.decision.measured)
    alone = replace(data, outliers={"near": data.outliers["near"]})
    only = Maturation(alone, halves, measured(alone), 0).try_on(BANK, measured(alone)(BANK))
    assert only is not None
    assert set(only.decision.measured) == {"like", "antibodies"}


def test_what_was_matured_before_is_replaced_not_matured_again(data: FeedbackData, halves: Halves) -> None:
    attempt = Maturation(data, halves, measured(data), 0)
    first = attempt.try_on(BANK, measured(data)(BANK))
    assert first is not None
    again = attempt.try_on(first.bank, first.boundary)
    assert again is not None
    parents = [[antibody.parent_id for antibody in matured.antibodies.antibodies] for matured in (first, again)]
    assert parents[0] == parents[1]
    assert not set(first.antibodies.ids) & set(again.bank.ids)
    np.testing.assert_array_equal(first.antibodies.vectors, again.antibodies.vectors)
    # The same antibodies again change nothing, so nothing is gained by them.
    assert not again.decision.accepted


def test_without_outliers_enough_nothing_matures(data: FeedbackData, halves: Halves) -> None:
    attempt = Maturation(data, halves, measured(data), 0)
    assert attempt.try_on(Bank.empty(world.DIM), measured(data)(Bank.empty(world.DIM))) is None


def effect(key: str, *d_auroc: float, scope: str = "leave_one_out") -> list[AntibodyEffect]:
    return [
        AntibodyEffect(key, Effect(scope, name, 0, 0, 0, value, 0))  # type: ignore[arg-type]
        for name, value in zip(("near", "far"), d_auroc, strict=False)
    ]


def test_suspects_lower_the_mean_over_the_sets() -> None:
    effects = [*effect("good", 0.1, -0.01), *effect("bad", 0.01, -0.1), *effect("idle", 0.0, 0.0)]
    assert suspects([*effects, *effect("good", -1.0, -1.0, scope="solo")]) == ("bad",)


def test_what_harms_is_pruned_only_where_the_second_half_says_so(data: FeedbackData, halves: Halves) -> None:
    """An antibody that is a known class in disguise, its radius forced open, against one that does nothing."""
    fitted = measured(data)(bank_of("a photo of a fish in the grass.", "a photo of a shark."))
    harmful = replace(fitted.fitted, radii=np.array([-0.5, fitted.fitted.radii[1]]))
    known = harmful.score(data.known.features)
    outliers = {name: harmful.score(images.features) for name, images in data.outliers.items()}
    before = replace(fitted, fitted=harmful, known_scores=known, outlier_scores=outliers)
    effects = antibody_effects(harmful, data.known, data.known_labels, data.outliers)
    assert suspects(effects) == ("id0",)
    after = measured(data)(bank_of("a photo of a shark."))
    assert decide_pruning(halves, before, after, 1, seed=0).accepted
    assert not decide_pruning(halves, after, after, 1, seed=0).accepted
    assert not decide_pruning(halves, after, before, 1, seed=0).accepted

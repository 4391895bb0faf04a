"""Affinity maturation and pruning in the loop: judged on images that had no part in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents import maturing
from agents.acceptance import decide_pruning, suspects
from agents.feedback import Boundary, Halves, feedback_of, halve, measure
from agents.maturing import Maturation
from evaluation.effects.antibody_effects import AntibodyEffect, JudgedSets, antibody_effects
from evaluation.space import Bank, Space
from immuno_core.config.methods import MethodConfig
from immuno_core.records import Antibody, Effect

from . import word_world as world

SCORE = MethodConfig.model_validate({"name": "calibrated", "base": "max_cosine", "eps": 0.02})


@pytest.fixture(scope="module")
def halves(space: Space) -> Halves:
    return halve(feedback_of(space), seed=0)


def measured(space: Space) -> Callable[[Bank], Boundary]:
    return lambda bank: measure(space, bank, SCORE, 0.95)


def maturation(space: Space, halves: Halves) -> Maturation:
    return Maturation(feedback_of(space).outliers, halves, measured(space), 0)


def bank_of(*texts: str) -> Bank:
    vectors = world.WordEmbedder().embed_texts(texts)
    return Bank(tuple(Antibody(text, guards="fish", id=f"id{i}") for i, text in enumerate(texts)), vectors)


BANK = bank_of("a photo of a shark.", "a photo of a truck.", "a photo of a desert.")


def test_matured_antibodies_have_their_parents_and_stand_beside_them(space: Space, halves: Halves) -> None:
    attempt = maturation(space, halves)
    found = attempt.mature(BANK, measured(space)(BANK))
    assert found is not None
    assert found.bank.ids == (*BANK.ids, *found.antibodies.ids)
    for antibody, vector in zip(found.antibodies.antibodies, found.antibodies.vectors, strict=True):
        parent = BANK.vectors[BANK.ids.index(antibody.parent_id or "")]
        assert 0.8 < float(parent @ vector) < 0.9999


def test_only_the_first_half_matures_anything(space: Space, halves: Halves) -> None:
    """With the images of the second half exchanged for noise, the matured embeddings are the same."""
    rng = np.random.default_rng(0)
    changed = {}
    for name, images in feedback_of(space).outliers.items():
        features = images.features.copy()
        noise = rng.normal(size=(len(halves.second.outliers[name]), world.DIM))
        features[halves.second.outliers[name]] = noise / np.linalg.norm(noise, axis=1, keepdims=True)
        changed[name] = replace(images, features=features)
    other = world.with_outliers(**changed)
    one, two = (maturation(each, halves).mature(BANK, measured(each)(BANK)) for each in (space, other))
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(one.antibodies.vectors, two.antibodies.vectors)
    # ... and what the second half holds decides.
    assert one.decision.accepted
    assert not two.decision.accepted


def test_it_is_judged_by_outliers_like_and_unlike_those_that_matured(space: Space, halves: Halves) -> None:
    found = maturation(space, halves).mature(BANK, measured(space)(BANK))
    assert found is not None
    assert {"like", "unlike", "antibodies"} == set(found.decision.measured)
    alone = world.with_outliers(near=feedback_of(space).outliers["near"])
    only = maturation(alone, halves).mature(BANK, measured(alone)(BANK))
    assert only is not None
    assert set(only.decision.measured) == {"like", "antibodies"}


def test_what_was_matured_before_is_replaced_not_matured_again(space: Space, halves: Halves) -> None:
    attempt = maturation(space, halves)
    first = attempt.mature(BANK, measured(space)(BANK))
    assert first is not None
    again = attempt.mature(first.bank, first.boundary)
    assert again is not None
    parents = [[antibody.parent_id for antibody in matured.antibodies.antibodies] for matured in (first, again)]
    assert parents[0] == parents[1]
    assert not set(first.antibodies.ids) & set(again.bank.ids)
    np.testing.assert_array_equal(first.antibodies.vectors, again.antibodies.vectors)
    # The same antibodies again change nothing, so nothing is gained by them.
    assert not again.decision.accepted


def test_without_outliers_enough_nothing_matures(space: Space, halves: Halves) -> None:
    attempt = maturation(space, halves)
    assert attempt.mature(Bank.empty(world.DIM), measured(space)(Bank.empty(world.DIM))) is None


def test_visual_antibodies_are_made_of_the_first_half_and_judged_by_like_and_unlike(
    space: Space, halves: Halves
) -> None:
    attempt = maturation(space, halves)
    matured = attempt.mature(BANK, measured(space)(BANK))
    assert matured is not None
    found = attempt.see(matured.bank, matured.boundary)
    assert found is not None
    shown = {
        f"{name}/{images.ids[row]}"
        for name, images in feedback_of(space).outliers.items()
        for row in halves.first.outliers[name]
    }
    assert {sample for one in found.antibodies.antibodies for sample in one.samples} <= shown
    assert {one.kind for one in found.antibodies.antibodies} == {"visual"}
    assert found.bank.ids == (*matured.bank.ids, *found.antibodies.ids)  # what matured stays
    assert {"like", "unlike", "antibodies"} == set(found.decision.measured)
    assert f"{len(found.antibodies)} visual antibodies" in found.decision.reason
    if found.decision.accepted:
        assert found.decision.measured["like"]["auroc"] > 0


def test_each_way_replaces_its_own_and_leaves_the_others(space: Space, halves: Halves) -> None:
    attempt, measure = maturation(space, halves), measured(space)
    first = attempt.see(BANK, measure(BANK))
    assert first is not None
    again = attempt.see(first.bank, first.boundary)
    assert again is not None
    assert again.bank.worded.ids == BANK.ids
    assert again.bank.visual.ids == again.antibodies.ids
    assert not set(first.antibodies.ids) & set(again.bank.ids)
    assert not again.decision.accepted  # the same again gain nothing
    matured = attempt.mature(first.bank, first.boundary)
    assert matured is not None
    assert matured.bank.visual.ids == first.antibodies.ids
    assert set(matured.bank.ids) == {*BANK.ids, *first.antibodies.ids, *matured.antibodies.ids}


def test_an_outlier_set_never_judges_what_it_made(space: Space, halves: Halves, monkeypatch: Any) -> None:
    """Unlike outliers: each set meets those of the other sets alone, beside texts that nothing has matured."""
    met: list[set[str]] = []
    made = maturing.visual_antibodies

    def spy(outliers: dict[str, Any], count: int) -> Bank:
        met.append(set(outliers))
        return made(outliers, count)

    monkeypatch.setattr(maturing, "visual_antibodies", spy)
    maturation(space, halves).see(BANK, measured(space)(BANK))
    names = set(feedback_of(space).outliers)
    assert met == [names, *(names - {name} for name in feedback_of(space).outliers)]


def effect(key: str, *d_auroc: float, scope: str = "leave_one_out") -> list[AntibodyEffect]:
    return [
        AntibodyEffect(key, Effect(scope, name, 0, 0, 0, value, 0))  # type: ignore[arg-type]
        for name, value in zip(("near", "far"), d_auroc, strict=False)
    ]


def test_suspects_lower_the_mean_over_the_sets() -> None:
    effects = [*effect("good", 0.1, -0.01), *effect("bad", 0.01, -0.1), *effect("idle", 0.0, 0.0)]
    assert suspects([*effects, *effect("good", -1.0, -1.0, scope="solo")]) == ("bad",)


def test_what_harms_is_pruned_only_where_the_second_half_says_so(space: Space, halves: Halves) -> None:
    """An antibody that is a known class in disguise, its radius forced open, against one that does nothing."""
    fitted = measured(space)(bank_of("a photo of a fish in the grass.", "a photo of a shark."))
    harmful = replace(fitted.fitted, radii=np.array([-0.5, fitted.fitted.radii[1]]))
    feedback = feedback_of(space)
    judged = JudgedSets.by(harmful, feedback.known, feedback.outliers)
    before = replace(fitted, fitted=harmful, judged=judged)
    effects = antibody_effects(harmful, feedback.known, feedback.labels, feedback.outliers)
    assert suspects(effects) == ("id0",)
    after = measured(space)(bank_of("a photo of a shark."))
    assert decide_pruning(halves, before, after, 1, seed=0).accepted
    assert not decide_pruning(halves, after, after, 1, seed=0).accepted
    assert not decide_pruning(halves, after, before, 1, seed=0).accepted

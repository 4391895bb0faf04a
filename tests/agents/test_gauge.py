"""A session's gauge: what it computes once is what measuring each bank anew gives, to the last bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agents.feedback import Gauge, feedback_of, halve
from evaluation.effects.antibody_effects import JudgedSets, antibody_effects
from evaluation.scores import calibrated, configured_score
from evaluation.space import Bank, Space
from immuno_core.config.methods import MethodConfig
from immuno_core.records import Antibody

from . import word_world as world

TEXTS = ("a photo of a shark.", "a photo of a truck.", "a photo of a fish in the desert.", "a photo of a barn.")
CONTEXTUAL = {TEXTS[2]: ("contextual", "fish")}


def bank_of(*rows: int) -> Bank:
    antibodies = [
        Antibody(TEXTS[i], *CONTEXTUAL.get(TEXTS[i], ("look_alike", "")), id=f"id{i}")  # type: ignore[arg-type]
        for i in rows
    ]
    return Bank(tuple(antibodies), world.WordEmbedder().embed_texts([TEXTS[i] for i in rows]))


@pytest.mark.parametrize("settings", [{}, {"combine": "sum"}, {"name": "immuno_vlm"}])
def test_banks_are_measured_as_each_by_itself(space: Space, settings: dict[str, str]) -> None:
    score = MethodConfig.model_validate({"name": "calibrated", "eps": 0.02} | settings)
    gauge, feedback = Gauge(space, score, 0.95), feedback_of(space)
    half = halve(feedback, seed=0).first
    sets = {name: images.take(half.outliers[name]) for name, images in feedback.outliers.items()}
    for rows in ((), (0,), (1, 0), (0, 1, 2, 3), (3, 2)):
        fitted = configured_score(score).fit(replace(space, bank=bank_of(*rows), feedback=None))
        expected = JudgedSets.by(fitted, feedback.known, feedback.outliers)
        boundary = gauge.measure(bank_of(*rows))
        np.testing.assert_array_equal(boundary.fitted.radii, fitted.radii)  # type: ignore[attr-defined]
        for found, wanted in (
            (boundary.judged.known, expected.known),
            *((boundary.judged.outliers[name], one) for name, one in expected.outliers.items()),
        ):
            for column, of_fitted in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(column, of_fitted)
        assert (boundary.right == (expected.known.nearest == feedback.labels)).all()
        known, labels = feedback.known, feedback.labels
        assert gauge.effects(boundary.fitted) == antibody_effects(fitted, known, labels, feedback.outliers)
        of_half = antibody_effects(fitted, known.take(half.known), labels[half.known], sets)
        assert gauge.effects(boundary.fitted, half) == of_half


def test_the_base_is_fitted_and_each_antibody_calibrated_once(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    calibrate = calibrated.Makings.calibrate
    monkeypatch.setattr(
        calibrated.Makings, "calibrate", lambda makings, bank: asked.append(len(bank)) or calibrate(makings, bank)
    )
    monkeypatch.setattr(calibrated.Calibrated, "fit", None)
    gauge = Gauge(space, MethodConfig(name="calibrated"), 0.95)
    for rows in ((0, 1), (1, 2), (0, 1, 2, 3)):
        gauge.measure(bank_of(*rows))
    assert asked == [0, 2, 1, 1]

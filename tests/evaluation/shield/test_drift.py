"""Drift is seen within 200 images when half of them are outliers, and not in 10,000 known ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation.shield.artefact import Artefact
from evaluation.shield.drift import Watch
from evaluation.shield.head import JudgedArrays
from evaluation.space import Feedback
from immuno_core.features import IntArray
from tests.evaluation.shield.shields import make_shield
from tests.evaluation.shield.test_head import BARE, SPACE
from tests.evaluation.synthetic import held_out, outliers

KNOWN, LABELS = held_out(BARE, 5, 480)
SHIELD = make_shield(replace(SPACE, feedback=Feedback(KNOWN, LABELS, {})))


def watch(shield: Artefact = SHIELD) -> Watch:
    manifest = shield.manifest
    return Watch(
        manifest.thresholds,
        shield.calibration,
        classes=manifest.classes,
        antibodies=tuple(one.id for one in manifest.antibodies),
    )


def rows(judged: JudgedArrays, order: IntArray) -> JudgedArrays:
    return judged.take(order)


NEW = SHIELD.head.judge(held_out(BARE, 6, 10_000)[0].features)
STRANGE = SHIELD.head.judge(outliers(BARE, 8, 400).features)


def test_no_drift_is_seen_in_ten_thousand_known_images() -> None:
    watching = watch()
    found = [watching.add(rows(NEW, np.arange(start, start + 20))) for start in range(0, 10_000, 20)]
    assert not any(one.drifted for one in found)
    assert found[-1].images == 200
    assert found[-1].accepted == pytest.approx(0.95, abs=0.05)
    assert found[-1].typicality == pytest.approx(0.5, abs=0.15)
    assert "no drift" in found[-1].told()


@pytest.mark.parametrize("seed", range(20))
def test_drift_is_seen_within_two_hundred_images_of_which_half_are_outliers(seed: int) -> None:
    rng, watching = np.random.default_rng(seed), watch()
    watching.add(rows(NEW, rng.permutation(10_000)[:1000]))
    mixed = JudgedArrays(
        *(
            np.concatenate(pair)
            for pair in zip(
                rows(NEW, rng.permutation(10_000)[:100]), rows(STRANGE, rng.permutation(400)[:100]), strict=True
            )
        )
    )
    state = watching.add(rows(mixed, rng.permutation(200)))
    assert state.drifted
    assert state.accepted < 0.75
    assert state.told().startswith("drift: of the last 200 images")


def test_antibodies_that_fire_more_often_are_named() -> None:
    watching = watch()
    row = int(np.bincount(STRANGE.antibody[STRANGE.antibody >= 0]).argmax())
    state = watching.add(rows(STRANGE, np.flatnonzero(STRANGE.antibody == row)[:60]))
    assert [one[0] for one in state.fired] == [SHIELD.antibodies[row].id]
    assert state.fired[0][1] == 1.0
    assert state.as_dict()["fired"][0]["antibody"] == SHIELD.antibodies[row].id


def test_few_images_tell_nothing() -> None:
    watching = watch()
    state = watching.add(rows(STRANGE, np.arange(49)))
    assert (state.images, state.psi, state.p_value, state.drifted) == (49, None, None, False)
    assert "too few" in state.told()
    assert watch().state.images == 0
    assert watching.add(rows(STRANGE, np.arange(1))).psi is not None

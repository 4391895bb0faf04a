"""Thresholds are order statistics with intervals that hold; verdicts follow from them."""

from __future__ import annotations

from typing import Any

import numpy as np

from evaluation.metrics import threshold_at
from evaluation.shield.head import JudgedArrays
from evaluation.shield.thresholds import FEWEST_OF_A_CLASS, KnownScores, Threshold, Thresholds, fewest
from evaluation.shield.verdicts import ShieldVerdict, verdicts
from immuno_core.records import Antibody
from tests.evaluation.shield.shields import make_shield
from tests.evaluation.shield.test_head import TEST


def judged(score: Any, **changes: Any) -> JudgedArrays:
    score = np.asarray(score, dtype=np.float64)
    n, zero = len(score), np.zeros(len(score))
    found = JudgedArrays(
        score=score,
        parts=np.stack([score, zero, zero], axis=1),
        repelled=zero,
        seen=zero,
        classes=np.tile([0, 1], (n, 1)),
        cosines=np.tile([0.9, 0.5], (n, 1)),
        antibody=np.full(n, -1),
        similarity=zero,
        margin=zero,
    )
    return found._replace(**{name: np.asarray(value) for name, value in changes.items()})


def test_a_threshold_is_an_order_statistic_and_its_interval_covers() -> None:
    rng = np.random.default_rng(0)
    true, inside = -1.6448536, 0
    for _ in range(400):
        scores = rng.standard_normal(200)
        found = Threshold.of(scores, 0.95)
        assert found.value == threshold_at(scores, 0.95)
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.value <= found.high
        inside += found.low <= true <= found.high
    assert 0.93 <= inside / 400 <= 0.995  # at least 95 %, and hardly more than ranks allow


def test_few_images_tell_no_interval() -> None:
    enough = fewest(0.95)
    assert enough == 72  # 0.95 ** 72 < 0.025 <= 0.95 ** 71
    scores = np.arange(enough, dtype=np.float64)
    assert Threshold.of(scores, 0.95).low == 0.0
    assert Threshold.of(scores[1:], 0.95).low is None
    one = Threshold.of(scores[:1], 0.95)
    assert (one.value, one.low, one.high, one.images) == (0.0, None, None, 1)
    assert "72 tell that" in Thresholds.of(judged(scores[:10]), ["a", "b"]).told()


def test_a_class_has_a_threshold_of_its_own_where_enough_images_are_taken_for_it() -> None:
    n = FEWEST_OF_A_CLASS
    classes = np.array([[0, 1]] * n + [[1, 0]] * (n - 1))
    scores = np.concatenate([np.arange(n) + 10.0, np.arange(n - 1)])
    found = Thresholds.of(judged(scores, classes=classes), ["a", "b"], per_class=True)
    assert found.classes == {"a": Threshold.of(scores[:n], 0.95)}
    assert found.too_few == ("b",)
    assert "(b)" in found.told()
    said = told(judged([12.0, 1.5], classes=[[0, 1], [1, 0]]), found, judged(scores, classes=classes))
    assert [one.threshold for one in said] == [found.classes["a"].value, found.overall.value]


def told(
    images: JudgedArrays, thresholds: Thresholds, known: JudgedArrays, antibodies: tuple[Antibody, ...] = ()
) -> list[ShieldVerdict]:
    return verdicts(
        images,
        [f"{i}.png" for i in range(len(images.score))],
        classes=["a", "b"],
        antibodies=antibodies,
        radii=[0.25] * len(antibodies),
        thresholds=thresholds,
        calibration=KnownScores.of(known, len(antibodies)),
    )


KNOWN = judged(np.arange(1000) / 1000)


def test_a_band_about_the_threshold_is_for_a_person() -> None:
    thresholds = Thresholds.of(KNOWN, ["a", "b"], accept=0.95, review=0.02)
    said = told(judged([0.9, 0.063, 0.057, 0.045, 0.038, -1.0]), thresholds, KNOWN)
    assert [one.outcome for one in said] == ["accepted", "accepted", "review", "review", "rejected", "rejected"]
    assert [one.accepted for one in said] == [True, True, False, False, False, False]
    assert said[0].reason == ""
    assert said[2].reason == "close to the threshold"
    assert said[3].reason.startswith("close to the threshold; it is far from every class")
    assert [one.typicality for one in said] == [0.9, 0.063, 0.057, 0.045, 0.038, 0.0]
    plain = thresholds.model_copy(update={"review": 0.0})
    said = told(judged([0.0501, 0.05, 0.0499]), plain, KNOWN)
    assert [one.outcome for one in said] == ["accepted", "accepted", "rejected"]


def test_a_rejection_says_which_antibody_did_it_or_which_part() -> None:
    thresholds = Thresholds.of(KNOWN, ["a", "b"])
    antibody = Antibody("a photo of a truck", id="7", guards="a")
    images = judged(
        [0.01, 0.01],
        repelled=[0.5, 0.005],
        antibody=[0, 0],
        similarity=[0.9, 0.8],
        margin=[0.45, 0.26],
    )
    first, second = told(images, thresholds, KNOWN, (antibody,))
    assert first.part == "antibody"
    assert first.antibody is not None
    assert (first.antibody.id, first.antibody.similarity, first.antibody.radius) == ("7", 0.9, 0.25)
    assert "'a photo of a truck' fires" in first.reason
    # Without the antibody it would be rejected as well, so that the score's own part is the reason.
    assert second.part == "closeness"
    assert "lower than of 99.0 % of known images" in second.reason
    assert second.antibody is not None


def test_verdicts_are_plain_json_values() -> None:
    shield = make_shield()
    said, found = shield.verdicts(TEST, [f"{i}" for i in range(len(TEST))])
    assert {one.outcome for one in said} == {"accepted", "review", "rejected"}
    assert {one.part for one in said} >= {"", "antibody"}
    one = said[0].as_dict()
    assert one["nearest"][0]["class"] == one["label"]
    assert one["score"] == found.score[0]
    assert all(len(each.nearest) == 3 for each in said)

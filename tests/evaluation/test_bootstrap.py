"""The bootstrap: exact replicates, paired draws, honest intervals, bounded memory."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.bootstrap import MethodScores, Threshold, resample, right_difference
from evaluation.metrics import METRICS, Bools, Scores, SortedScores
from immuno_core.errors import SetupError

RESAMPLED = tuple(name for name, metric in METRICS.items() if metric.resampled)
values = st.sampled_from(
    [st.integers(-3, 3).map(lambda v: v / 4), st.floats(-1, 1, allow_nan=False, width=32), st.just(0.5)]
)


def method(n: int = 60, seed: int = 0, *, noise: float = 0.0, **sizes: int) -> MethodScores:
    """Scores of known images that are higher by one; `noise` makes a second method that sees the same images."""
    rng, other = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    known = rng.normal(1, 1, n)
    right = rng.random(n) < 0.8
    outliers = {name: rng.normal(0, 1, m) for name, m in (sizes or {"near": 50}).items()}
    return MethodScores(
        known + noise * other.normal(size=n),
        right,
        {k: v + noise * other.normal(size=v.size) for k, v in outliers.items()},
    )


def by_hand(known: Scores, right: Bools, outliers: Scores) -> dict[str, float]:
    """What evaluation.metrics says of these very arrays."""
    accuracy = metrics.id_accuracy(right.astype(np.int64), np.ones(right.size, np.int64))
    return {
        "auroc": (area := metrics.auroc(known, outliers)),
        "aupr_in": metrics.aupr_in(known, outliers),
        "aupr_out": metrics.aupr_out(known, outliers),
        "fpr95_id": metrics.fpr95_id(known, outliers),
        "fpr95_ood": metrics.fpr95_ood(known, outliers),
        "id_accuracy": accuracy,
        "h_score": metrics.h_score(accuracy, area),
        "oscr": metrics.oscr(known, right, outliers),
    }


@given(st.data(), st.integers(0, 2**32 - 1))
def test_a_replicate_equals_the_metrics_of_the_arrays_written_out(data: st.DataObject, seed: int) -> None:
    value = data.draw(values)
    known = np.array(data.draw(st.lists(value, min_size=1, max_size=40)), dtype=float)
    outliers = np.array(data.draw(st.lists(value, min_size=1, max_size=40)), dtype=float)
    rng = np.random.default_rng(seed)
    right = rng.random(known.size) < 0.6
    drawn = rng.integers(0, known.size, (3, known.size))
    drawn_outliers = rng.integers(0, outliers.size, (3, outliers.size))

    def counts(rows: NDArray[np.int64], size: int) -> NDArray[np.int32]:
        return np.stack([np.bincount(row, minlength=size) for row in rows]).astype(np.int32)

    found = SortedScores.of(known, right, outliers).measure(
        counts(drawn, known.size), counts(drawn_outliers, outliers.size), RESAMPLED
    )
    assert tuple(found) == RESAMPLED
    for i in range(3):
        wanted = by_hand(known[drawn[i]], right[drawn[i]], outliers[drawn_outliers[i]])
        assert {name: replicates[i] for name, replicates in found.items()} == pytest.approx(wanted, abs=1e-12)


def test_points_are_the_metrics_of_the_images_as_they_are() -> None:
    methods = {"a": method(near=50, far=7), "b": method(noise=0.5, near=50, far=7)}
    found = resample(methods, seed=0, count=2)
    assert (found.methods, found.sets) == (("a", "b"), ("near", "far"))
    for i, one in enumerate(methods.values()):
        for j, outliers in enumerate(one.outliers.values()):
            points = {name: of[i, j] for name, of in found.points.items()}
            assert points == pytest.approx(by_hand(one.known, one.right, outliers), abs=1e-12)
    assert {of.shape for of in found.values.values()} == {(2, 2, 2)}


def test_the_same_seed_draws_the_same_and_another_one_does_not() -> None:
    first, again, other = (resample({"a": method()}, seed=seed, count=20) for seed in (3, 3, 4))
    for name in RESAMPLED:
        np.testing.assert_array_equal(first.values[name], again.values[name])
        assert not np.array_equal(first.values[name], other.values[name])


def test_what_is_measured_beside_it_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = resample({"a": method(near=50)}, seed=1, count=50)
    both = method(near=50, far=80)
    crowd = resample({"b": method(noise=1, near=50, far=80), "a": both}, seed=1, count=50, names=("auroc", "oscr"))
    np.testing.assert_array_equal(crowd.values["auroc"][1, 0], alone.values["auroc"][0, 0])
    np.testing.assert_array_equal(crowd.values["oscr"][1, 0], alone.values["oscr"][0, 0])
    monkeypatch.setattr("evaluation.bootstrap.MOST_COUNTS", 1)  # one replicate at a time
    np.testing.assert_array_equal(resample({"a": both}, seed=1, count=50).values["auroc"], crowd.values["auroc"][1:])


def test_methods_see_the_same_draws_and_so_do_sets() -> None:
    one = method(near=50, far=50)
    copy = MethodScores(one.known, one.right, one.outliers)
    found = resample({"a": one, "b": copy}, seed=0, count=100)
    assert found.paired_difference("fpr95_id", "a", "b") == (0, 0, 0)
    accuracy = found.values["id_accuracy"]
    np.testing.assert_array_equal(accuracy, np.broadcast_to(accuracy[:1, :1], accuracy.shape))
    # The outliers of two sets are drawn apart, even where there are as many: equal scores give unequal replicates.
    same = MethodScores(one.known, one.right, {"near": one.outliers["near"], "far": one.outliers["near"]})
    areas = resample({"a": same}, seed=0, count=100).values["auroc"][0]
    assert not np.array_equal(areas[0], areas[1])
    assert 0.1 < np.corrcoef(areas)[0, 1] < 0.95  # the known images are shared


def test_strata_keep_their_sizes() -> None:
    """Drawn from the pool instead, known images would be fewer in some replicates and more in others."""
    everyone_right = MethodScores(np.linspace(0, 1, 30), np.ones(30, bool), {"near": np.linspace(0, 1, 9)})
    found = resample({"a": everyone_right}, seed=0, count=200)
    assert np.all(found.values["id_accuracy"] == 1)
    np.testing.assert_allclose(found.values["fpr95_id"] * 9, np.round(found.values["fpr95_id"] * 9), atol=1e-12)


def test_a_mean_over_sets_is_the_mean_of_every_replicate() -> None:
    found = resample({"a": method(near=50, far=80), "b": method(noise=1, near=50, far=80)}, seed=0, count=300)
    replicates = found.values["fpr95_id"]
    mean = found.mean("fpr95_id", "b")
    assert mean.value == pytest.approx(found.points["fpr95_id"][1].mean())
    assert mean[1:] == pytest.approx(tuple(np.quantile(replicates[1].mean(axis=0), [0.025, 0.975])))
    difference = found.paired_difference("fpr95_id", "b", "a")
    points, of_both = found.points["fpr95_id"], (replicates[1] - replicates[0]).mean(axis=0)
    assert difference.value == pytest.approx((points[1] - points[0]).mean())
    assert difference[1:] == pytest.approx(tuple(np.quantile(of_both, [0.025, 0.975])))
    near = resample({"a": method(near=50)}, seed=0, count=300)
    assert near.mean("auroc", "a")[1:] == near.intervals("a", "near")["auroc"]


def test_pairing_makes_differences_of_like_methods_sharp() -> None:
    found = resample({"a": method(400, near=400), "b": method(400, noise=0.2, near=400)}, seed=0, count=400)
    paired = found.paired_difference("auroc", "a", "b")
    low, high = found.intervals("a", "near")["auroc"]
    assert paired.high - paired.low < 0.5 * (high - low)


@pytest.mark.parametrize("score", [0.0, np.inf, -np.inf])
def test_one_image_and_constant_scores_have_an_interval_of_no_width(score: float) -> None:
    one = MethodScores(np.array([score]), np.array([True]), {"near": np.array([score])})
    found = resample({"a": one}, seed=0, count=10).intervals("a", "near")
    assert found == {
        "auroc": (0.5, 0.5),
        "aupr_in": (0.5, 0.5),
        "aupr_out": (0.5, 0.5),
        "fpr95_id": (1, 1),
        "fpr95_ood": (1, 1),
        "id_accuracy": (1, 1),
        "h_score": (pytest.approx(2 / 3), pytest.approx(2 / 3)),
        "oscr": (0.5, 0.5),
    }


def test_intervals_cover_the_truth_about_95_times_in_100() -> None:
    """Known scores are normal about 1.5, those of outliers about 0, so the truth is known in closed form."""
    trials, n = 400, 150
    normal = lambda z: 0.5 * (1 + math.erf(z / math.sqrt(2)))  # noqa: E731
    truth = {"auroc": normal(1.5 / math.sqrt(2)), "id_accuracy": 0.8, "fpr95_id": 1 - normal(1.5 - 1.6448536269514722)}
    truth["oscr"] = 0.8 * truth["auroc"]  # whether an image is right does not depend on its score here
    covered = dict.fromkeys(truth, 0)
    rng = np.random.default_rng(0)
    for trial in range(trials):
        one = MethodScores(rng.normal(1.5, 1, n), rng.random(n) < 0.8, {"near": rng.normal(0, 1, n)})
        intervals = resample({"a": one}, seed=trial, count=400, names=tuple(truth)).intervals("a", "near")
        for name, true in truth.items():
            covered[name] += intervals[name][0] <= true <= intervals[name][1]
    shares = {name: count / trials for name, count in covered.items()}
    # Four standard errors of a share of 0.95 in 400 trials are 0.044.
    assert all(0.906 <= share <= 0.994 for share in shares.values()), shares


@pytest.mark.parametrize(("n", "m"), [(1, 5), (30, 60), (300, 200)])
def test_a_difference_of_shares_is_resampled_as_by_hand_thresholds_and_all(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    feedback = rng.normal(size=n) + 0.7 * rng.normal(size=(2, n)).round(1)
    test = rng.normal(size=m) + 0.7 * rng.normal(size=(2, m)).round(1)
    right = rng.random((2, m)) < 0.9
    methods = [MethodScores(known, good, {}) for known, good in zip(test, right, strict=True)]
    cuts = [Threshold(metrics.threshold_at(scores), scores) for scores in feedback]
    found = right_difference(methods[0], methods[1], (cuts[0], cuts[1]), seed=0, count=4000)
    values = []
    for _ in range(4000):
        drawn, rows = rng.integers(n, size=n), rng.integers(m, size=m)
        shares = [
            np.mean(good[rows] & (known[rows] >= metrics.threshold_at(scores[drawn])))
            for scores, known, good in zip(feedback, test, right, strict=True)
        ]
        values.append(shares[0] - shares[1])
    assert found.value == np.mean(right[0] & (test[0] >= cuts[0].value)) - np.mean(
        right[1] & (test[1] >= cuts[1].value)
    )
    low, high = np.quantile(values, (0.025, 0.975))
    assert low - 3.7 / m <= found.low <= low + 0.5 / m
    assert high - 0.5 / m <= found.high <= high + 3.7 / m


def test_a_difference_of_shares_needs_the_same_images() -> None:
    a, b = method(n=60), method(n=61)
    with pytest.raises(SetupError, match="60 known images, the other 61"):
        right_difference(a, b, seed=0)
    thresholds = (Threshold(0.0, a.known), Threshold(0.0, b.known))
    with pytest.raises(SetupError, match="pairing needs the same"):
        right_difference(a, a, thresholds, seed=0)


def test_memory_does_not_grow_with_the_number_of_replicates() -> None:
    one = method(20_000, near=20_000)

    def peak(count: int) -> int:
        tracemalloc.start()
        resample({"a": one}, seed=0, count=count)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(10), peak(100)
    assert many < 1.1 * few
    assert many < 64 * 2**20


# ---- bad input


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({}, "no method to resample"),
        ({"a": MethodScores(np.zeros(2), np.ones(2, bool), {})}, "'a' was measured on no outlier set"),
        ({"a": method(near=5), "b": method(far=5)}, "'a' and 'b' were measured on different outlier sets"),
        ({"a": method(5, near=5), "b": method(6, near=5)}, "'a' has 5 known images, 'b' 6"),
        ({"a": method(near=5), "b": method(near=6)}, "'a' has 5 images of 'near', 'b' 6"),
        ({"a": MethodScores(np.array([np.nan, 1]), np.ones(2, bool), {"near": np.ones(1)})}, "known scores are NaN"),
        ({"a": MethodScores(np.zeros(2), np.ones(2, bool), {"near": np.zeros(0)})}, "no outlier scores"),
        ({"a": MethodScores(np.zeros(2), np.ones(3, bool), {"near": np.zeros(1)})}, "one bool per known image"),
        ({"a": MethodScores(np.zeros(2), np.ones(2), {"near": np.zeros(1)})}, "one bool per known image"),
    ],
)
def test_what_cannot_be_resampled_is_refused(scores: Mapping[str, MethodScores], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        resample(scores, seed=0, count=2)


def test_names_that_were_not_resampled_are_refused() -> None:
    found = resample({"mcm": method()}, seed=0, count=2)
    with pytest.raises(SetupError, match="no method 'mcn' was resampled"):
        found.intervals("mcn", "near")
    with pytest.raises(SetupError, match="no outlier set 'nearer' was resampled"):
        found.intervals("mcm", "nearer")

"""Weibull thresholds: they accept the share they say, better than the order statistic where scores are few."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from evaluation.metrics import threshold_at
from evaluation.scores.paper.thresholds import (
    LEAST,
    ClassThresholds,
    Weibull,
    class_thresholds,
    fit_weibull,
    tail_threshold,
)
from immuno_core.errors import SetupError

TARGET = 0.95
SCORES: dict[str, Any] = {
    "normal": stats.norm(0.3, 0.05),
    "heavy tails": stats.t(5),
    "left-skewed": stats.weibull_min(1.2),
    "Weibull": stats.weibull_min(2.0),
    "right-skewed": stats.weibull_min(5.0),
    "gamma": stats.gamma(3.0),
}
BELOW_A_TOP = ("left-skewed", "Weibull", "right-skewed", "gamma")
"""Distributions of the distance from a top score."""


def drawn(name: str, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    values = SCORES[name].rvs(n, random_state=rng)
    return np.asarray(1 - values if name in BELOW_A_TOP else values)


def acceptance(name: str, tau: float) -> float:
    """The share of all scores of that distribution that reach tau."""
    return float(SCORES[name].cdf(1 - tau) if name in BELOW_A_TOP else SCORES[name].sf(tau))


def realised(
    name: str, n: int, rule: Callable[[NDArray[np.float64], float], float], target: float = TARGET, times: int = 150
) -> NDArray[np.float64]:
    rng = np.random.default_rng(n)
    return np.array([acceptance(name, rule(drawn(name, n, rng), target)) for _ in range(times)])


def error(shares: NDArray[np.float64], target: float = TARGET) -> float:
    return float(np.sqrt(np.mean((shares - target) ** 2)))


@pytest.mark.parametrize("name", list(SCORES))
@pytest.mark.parametrize(("n", "off", "spread"), [(10, 0.05, 0.1), (20, 0.03, 0.065), (200, 0.01, 0.02)])
def test_realised_acceptance_is_near_the_target(name: str, n: int, off: float, spread: float) -> None:
    """`off` bounds the mean over 150 draws (standard error: the spread / 12), `spread` the root mean squared error."""
    shares = realised(name, n, tail_threshold)
    assert abs(shares.mean() - TARGET) < off
    assert error(shares) < spread


@pytest.mark.parametrize("name", list(SCORES))
@pytest.mark.parametrize("n", [5, 10, 20, 50, 200])
def test_it_is_nearer_to_the_target_than_the_order_statistic(name: str, n: int) -> None:
    mine, raw = error(realised(name, n, tail_threshold)), error(realised(name, n, threshold_at))
    assert mine < (0.95 * raw if n <= 20 else 1.05 * raw)


def test_a_class_that_is_two_populations_is_not_a_weibull_and_loses_some_points() -> None:
    """One image in ten scores far below the rest: the limit of the model."""
    rng = np.random.default_rng(0)

    def of_two(n: int) -> NDArray[np.float64]:
        return np.where(rng.random(n) < 0.1, rng.normal(-4, 1, n), rng.normal(0, 1, n))

    shares = []
    for _ in range(100):
        tau = tail_threshold(of_two(200), TARGET)
        shares.append(0.9 * stats.norm.sf(tau) + 0.1 * stats.norm.sf(tau, -4))
    assert 0.91 < np.mean(shares) < 0.95


@pytest.mark.parametrize("target", [0.5, 0.8, 0.9, 0.99])
def test_other_targets_are_reached_too(target: float) -> None:
    for name in ("normal", "Weibull"):
        assert realised(name, 400, tail_threshold, target, times=60).mean() == pytest.approx(target, abs=0.02)


def test_a_higher_target_has_a_lower_threshold() -> None:
    scores = drawn("normal", 30, np.random.default_rng(0))
    taus = [tail_threshold(scores, target) for target in (0.5, 0.8, 0.95, 0.99, 0.9999)]
    assert taus == sorted(taus, reverse=True)
    assert len(set(taus)) == 5


@given(st.integers(0, 10**6), st.integers(3, 60), st.sampled_from([0.5, 1.0, 2.0, 8.0]), st.sampled_from([1e-3, 1.0]))
def test_the_fit_is_scipy_s_maximum_likelihood(seed: int, n: int, shape: float, scale: float) -> None:
    y = scale * np.random.default_rng(seed).weibull(shape, n)
    found = fit_weibull(y)
    assert found is not None

    def likelihood(shape: float, scale: float) -> float:
        return float(stats.weibull_min.logpdf(y, shape, scale=scale).sum())

    best = likelihood(*found)
    for factor in (0.97, 1.03):
        assert likelihood(found.shape * factor, found.scale) <= best
        assert likelihood(found.shape, found.scale * factor) <= best
    assert found.exceeded_by(0.05) == pytest.approx(stats.weibull_min.isf(0.05, found.shape, scale=found.scale))


def test_the_fit_agrees_with_scipy_s_fitter() -> None:
    y = np.random.default_rng(0).weibull(2.0, 300)
    found = fit_weibull(y)
    shape, _, scale = stats.weibull_min.fit(y, floc=0)
    assert found == pytest.approx((shape, scale), rel=1e-3)
    assert Weibull(2.0, 3.0).exceeded_by(1.0) == pytest.approx(0, abs=1e-100)


@pytest.mark.parametrize(
    "scores",
    [
        [0.3],
        [0.3] * 40,
        [0.3] * 400,
        [0.3, 0.3 + 1e-17, 0.3],
        [1e-300, 1e-300],
        [0.0, 0.0],
        [0.2] * 30 + [0.3] * 70,
        [0.2] * 100 + [0.3] * 100,
    ],
)
def test_where_ties_leave_no_tail_the_threshold_is_the_order_statistic(scores: list[float]) -> None:
    assert tail_threshold(np.array(scores), TARGET) == pytest.approx(threshold_at(np.array(scores)), abs=1e-15)
    assert (np.array(scores) >= tail_threshold(np.array(scores), TARGET)).all()


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.5]) | st.floats(-1, 1), min_size=1, max_size=120),
    st.sampled_from([0.5, 0.9, 0.95, 0.999]),
)
def test_any_scores_give_a_finite_threshold_that_moves_and_stretches_with_them(
    scores: list[float], target: float
) -> None:
    values = np.array(scores)
    tau = tail_threshold(values, target)
    assert math.isfinite(tau)
    assert tau <= values.max()
    assert tail_threshold(values[::-1], target) == tau
    # Powers of two change no mantissa, so ties stay ties.
    assert tail_threshold(values * 4, target) == pytest.approx(4 * tau, rel=1e-6, abs=1e-9)


def thresholds(**changes: Any) -> ClassThresholds:
    rng = np.random.default_rng(0)
    classes = np.repeat([0, 1, 3], [200, 200, LEAST - 1])
    scores = rng.normal(np.array([0.3, 0.6, 0, 0.4])[classes], 0.05)
    return class_thresholds(**({"scores": scores, "classes": classes, "count": 4} | changes))


def test_each_class_has_its_own_threshold_and_one_with_too_few_scores_that_of_all_together() -> None:
    found = thresholds()
    assert found.own.tolist() == [True, True, False, False]
    assert found.fell_back.tolist() == [2, 3]
    assert found.counts.tolist() == [200, 200, 0, LEAST - 1]
    assert found.tau[0] == pytest.approx(0.3 - 1.645 * 0.05, abs=0.02)
    assert found.tau[1] == pytest.approx(0.6 - 1.645 * 0.05, abs=0.02)
    assert found.tau[2] == found.tau[3] == found.shared
    assert thresholds(least=LEAST - 1).fell_back.tolist() == [2]
    assert thresholds(least=1000).fell_back.tolist() == [0, 1, 2, 3]
    assert thresholds(target=0.99).tau[0] < found.tau[0]


def test_a_class_s_threshold_does_not_depend_on_the_order_of_the_scores() -> None:
    rng = np.random.default_rng(3)
    scores, classes = rng.normal(size=100), rng.integers(0, 3, 100)
    order = rng.permutation(100)
    one = class_thresholds(scores, classes, count=3)
    assert class_thresholds(scores[order], classes[order], count=3).tau.tolist() == one.tau.tolist()


def test_a_score_is_accepted_from_the_threshold_of_its_class_on() -> None:
    found = thresholds()
    scores, classes = np.array([0.4, 0.4, found.tau[1], found.shared]), np.array([0, 1, 1, 2])
    assert (found.margin(scores, classes) >= 0).tolist() == [True, False, True, True]
    assert found.margin(scores, classes)[0] == 0.4 - found.tau[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scores": np.zeros(0), "classes": np.zeros(0, np.int64)}, "no known scores"),
        ({"scores": np.array([0.1, np.nan]), "classes": np.array([0, 1])}, "1 of 2 known scores are NaN or infinite"),
        ({"scores": np.array([0.1, -np.inf]), "classes": np.array([0, 1])}, "NaN or infinite"),
        ({"classes": np.zeros(3, np.int64)}, "labels of shape"),
        ({"count": 3}, "labels from 0 to 3 where there are 3 classes"),
        ({"target": 1.0}, "target = 1.0"),
        ({"target": 0.0}, "target = 0.0"),
        ({"least": 0}, "least = 0"),
    ],
)
def test_what_cannot_give_thresholds_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        thresholds(**changes)


def test_scores_of_unknown_classes_are_refused() -> None:
    with pytest.raises(SetupError, match="labels from 0 to 4"):
        thresholds().margin(np.zeros(2), np.array([0, 4]))

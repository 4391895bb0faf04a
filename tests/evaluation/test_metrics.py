"""Metrics agree with scikit-learn and with a naive count over all pairs, with ties and with a single image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from evaluation import metrics
from evaluation.metrics import Scores
from immuno_core.errors import SetupError

from . import reference

# Few different values, so that ties within and between the two sides are the rule.
tied = st.lists(st.integers(-4, 4).map(lambda v: v / 8), min_size=1, max_size=60).map(np.array)
spread = st.lists(st.floats(-1, 1, allow_nan=False, width=32), min_size=1, max_size=60).map(
    lambda values: np.array(values, dtype=np.float64)
)
scores = tied | spread
PAIRWISE: list[Callable[[Scores, Scores], float]] = [
    metrics.auroc,
    metrics.aupr_in,
    metrics.aupr_out,
    metrics.fpr95_id,
    metrics.fpr95_ood,
]


def truth_and_scores(known: Scores, outliers: Scores) -> tuple[NDArray[np.float64], Scores]:
    return np.r_[np.ones(known.size), np.zeros(outliers.size)], np.r_[known, outliers]


@given(scores, scores)
def test_auroc_and_aupr_agree_with_scikit_learn(known: Scores, outliers: Scores) -> None:
    truth, both = truth_and_scores(known, outliers)
    assert metrics.auroc(known, outliers) == pytest.approx(roc_auc_score(truth, both), abs=1e-12)
    assert metrics.aupr_in(known, outliers) == pytest.approx(average_precision_score(truth, both), abs=1e-12)
    assert metrics.aupr_out(known, outliers) == pytest.approx(average_precision_score(1 - truth, -both), abs=1e-12)


@given(scores, scores)
def test_fpr95_agrees_with_the_roc_curve_of_scikit_learn(known: Scores, outliers: Scores) -> None:
    truth, both = truth_and_scores(known, outliers)
    fpr, tpr, _ = roc_curve(truth, both, drop_intermediate=False)
    assert metrics.fpr95_id(known, outliers) == pytest.approx(fpr[np.argmax(tpr >= 0.95)], abs=1e-12)
    fpr, tpr, _ = roc_curve(1 - truth, -both, drop_intermediate=False)
    assert metrics.fpr95_ood(known, outliers) == pytest.approx(fpr[np.argmax(tpr >= 0.95)], abs=1e-12)


@settings(max_examples=50)
@given(scores, scores, st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 1.0]))
def test_metrics_agree_with_counting_pairs(known: Scores, outliers: Scores, share: float) -> None:
    assert metrics.auroc(known, outliers) == pytest.approx(reference.auroc(list(known), list(outliers)), abs=1e-12)
    assert metrics.threshold_at(known, share) == reference.threshold(list(known), share)
    assert metrics.fpr95_id(known, outliers, share) == reference.fpr95_id(list(known), list(outliers), share)
    assert metrics.fpr95_ood(known, outliers, share) == reference.fpr95_ood(list(known), list(outliers), share)


@given(st.integers(1, 5000), st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]))
def test_the_threshold_accepts_the_share_and_not_one_more_than_it_must(n: int, share: float) -> None:
    distinct = np.arange(n, dtype=np.float64)
    accepted = int((distinct >= metrics.threshold_at(distinct, share)).sum())
    exact = n * round(share * 1000)
    assert accepted == -(-exact // 1000)


def test_the_threshold_is_the_order_statistic_and_not_an_interpolated_quantile() -> None:
    assert metrics.threshold_at(np.array([0.9, 0.1, 0.5, 0.7])) == 0.1
    assert metrics.threshold_at(np.arange(100.0)) == 5.0
    assert metrics.threshold_at(np.array([0.3])) == 0.3


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 7), (30, 10)])
def test_a_score_that_is_the_same_everywhere_has_documented_metrics(n: int, m: int) -> None:
    known, outliers = np.full(n, 0.25), np.full(m, 0.25)
    assert metrics.auroc(known, outliers) == 0.5
    assert metrics.fpr95_id(known, outliers) == 1
    assert metrics.fpr95_ood(known, outliers) == 1
    assert metrics.aupr_in(known, outliers) == n / (n + m)
    assert metrics.aupr_out(known, outliers) == m / (n + m)


def test_higher_means_known_and_a_sign_error_shows() -> None:
    known, outliers = np.array([0.8, 0.9, 0.7]), np.array([0.1, 0.2])
    assert [metric(known, outliers) for metric in PAIRWISE] == pytest.approx([1, 1, 1, 0, 0])
    assert metrics.auroc(-known, -outliers) == 0
    assert metrics.fpr95_id(-known, -outliers) == 1


def test_infinite_scores_rank_like_any_other() -> None:
    known, outliers = np.array([np.inf, 0.5]), np.array([-np.inf, 0.7])
    assert metrics.auroc(known, outliers) == 0.75


@pytest.mark.parametrize("metric", PAIRWISE)
def test_nan_and_empty_scores_are_refused(metric: Callable[[Scores, Scores], float]) -> None:
    good, empty, nan = np.array([0.1, 0.2]), np.zeros(0), np.array([0.1, np.nan])
    for known, outliers, said in (
        (empty, good, "known scores"),
        (good, empty, "outlier scores"),
        (nan, good, "1 of 2 known scores are NaN"),
        (good, nan, "1 of 2 outlier scores are NaN"),
        (np.zeros((2, 2)), good, "shape"),
    ):
        with pytest.raises(SetupError, match=said):
            metric(known, outliers)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_outside_zero_to_one_is_refused(share: float) -> None:
    with pytest.raises(SetupError, match="acceptance"):
        metrics.threshold_at(np.array([0.1]), share)


def test_id_accuracy_is_the_share_of_right_predictions() -> None:
    assert metrics.id_accuracy(np.array([0, 1, 2, 1]), np.array([0, 1, 1, 1])) == 0.75
    with pytest.raises(SetupError, match="a prediction per image"):
        metrics.id_accuracy(np.array([0, 1]), np.array([0]))
    with pytest.raises(SetupError, match="a prediction per image"):
        metrics.id_accuracy(np.zeros(0, np.int64), np.zeros(0, np.int64))


# ---- H-score, OSCR, and what is deployed (the agreement with references is in test_metric_agreement.py)


def test_h_score_is_the_harmonic_mean() -> None:
    assert metrics.h_score(0.5, 1.0) == pytest.approx(2 / 3)
    assert metrics.h_score(0.8, 0.8) == pytest.approx(0.8)
    assert (metrics.h_score(0.0, 1.0), metrics.h_score(1.0, 0.0), metrics.h_score(0.0, 0.0)) == (0, 0, 0)


def test_oscr_by_hand() -> None:
    """Known 0.9 (right), 0.6 (wrong), 0.4 (right); outliers 0.5, 0.1: 2 + 0 + 1 pairs won of 6."""
    known, right, outliers = np.array([0.9, 0.6, 0.4]), np.array([True, False, True]), np.array([0.5, 0.1])
    assert metrics.oscr(known, right, outliers) == 0.5
    assert metrics.oscr(np.full(3, 0.5), right, np.full(2, 0.5)) == pytest.approx(2 / 3 / 2), "half the accuracy"


@given(scores, scores, st.randoms(use_true_random=False))
def test_oscr_lies_below_accuracy_and_is_auroc_where_all_are_right(known: Scores, outliers: Scores, rng: Any) -> None:
    right = np.array([rng.random() < 0.5 for _ in known])
    assert metrics.oscr(known, right, outliers) <= right.mean() + 1e-12
    assert metrics.oscr(known, np.ones(known.size, bool), outliers) == metrics.auroc(known, outliers)
    assert metrics.oscr(known, np.zeros(known.size, bool), outliers) == 0


def test_deployed_counts_what_reaches_the_threshold() -> None:
    known, right, outliers = np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, True]), np.array([0.5, 0.4])
    assert metrics.deployed(known, right, outliers, 0.5) == (0.5, 0.75, 0.5, 2 / 3)
    assert metrics.deployed(known, right, outliers, 2.0) == (2.0, 0, 1, None), "none is accepted: no accuracy"
    assert metrics.deployed(known, right, outliers, -np.inf) == (-np.inf, 1, 0, 0.75)


def test_at_the_threshold_of_the_same_images_deployed_is_fpr95() -> None:
    rng = np.random.default_rng(0)
    known, outliers = rng.normal(1, 1, 200), rng.normal(0, 1, 100)
    found = metrics.deployed(known, np.ones(200, bool), outliers, metrics.threshold_at(known))
    assert (found.acceptance, 1 - found.rejection) == (0.95, pytest.approx(metrics.fpr95_id(known, outliers)))


def test_what_is_deployed_needs_a_threshold_and_a_bool_per_known_image() -> None:
    good = np.array([0.1, 0.2])
    with pytest.raises(SetupError, match="threshold is NaN"):
        metrics.deployed(good, np.ones(2, bool), good, float("nan"))
    for right in (np.ones(3, bool), np.ones(2), np.ones((2, 1), bool)):
        with pytest.raises(SetupError, match="one bool per known image"):
            metrics.deployed(good, right, good, 0.1)
        with pytest.raises(SetupError, match="one bool per known image"):
            metrics.oscr(good, right, good)
    for known, outliers in ((np.array([np.nan, 1]), good), (good, np.array([np.nan]))):
        with pytest.raises(SetupError, match="are NaN"):
            metrics.oscr(known, np.ones(2, bool), outliers)
        with pytest.raises(SetupError, match="are NaN"):
            metrics.deployed(known, np.ones(2, bool), outliers, 0.1)


def test_a_product_that_a_float_misses_is_still_a_rank() -> None:
    """0.07 * 100 is 7.000000000000001, 0.29 * 100 is 28.999999999999996."""
    assert [metrics.rank_of_share(percent / 100, 100) for percent in range(1, 101)] == list(range(1, 101))


def test_accuracy_on_the_accepted_is_not_their_share() -> None:
    scored = metrics.Scored(
        known=np.array([3.0, 2.0, 1.0]), right=np.array([True, False, True]), outliers=np.array([0.0]), threshold=2.0
    )
    measured = metrics.measure(scored)
    assert (measured["acceptance"], measured["accepted_accuracy"], measured["rejection"]) == (2 / 3, 0.5, 1.0)


def test_the_worst_class_is_that_of_which_most_are_accepted_among_those_with_enough_images() -> None:
    known = np.arange(100.0)  # accepted from 5 up
    outliers = np.r_[
        np.full(5, 9.0), np.full(5, 0.0), np.full(8, 9.0), np.full(2, 0.0), np.full(9, 9.0), np.full(3, 9.0)
    ]
    classes = ("a",) * 10 + ("b",) * 10 + ("few",) * 9 + ("",) * 3
    found = metrics.fpr95_by_class(known, outliers, classes)
    assert found == {"a": (0.5, 10), "b": (0.8, 10)}

    def worst(classes: tuple[str, ...]) -> float | None:
        scored = metrics.Scored(known, np.ones(100, dtype=bool), outliers, classes=classes)
        return metrics.measure(scored)["fpr95_worst_class"]

    assert worst(classes) == 0.8
    assert worst(()) is None
    assert worst(("a",) * 32) is None
    assert worst(("",) * 32) is None

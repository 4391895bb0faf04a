"""`immuno.evaluate` and `make_space`: the figures are those of the metrics' own functions, and bad input is told."""

from __future__ import annotations

import json

import numpy as np
import pytest

import immuno
from evaluation import metrics
from evaluation.metrics import METRICS
from immuno_core.errors import SetupError
from tests.evaluation.synthetic import make_space


def test_every_metric_is_measured_with_its_interval() -> None:
    random = np.random.default_rng(0)
    known, outliers, right = random.normal(1, 1, 200), random.normal(0, 1, 150), random.random(200) < 0.8
    found = immuno.evaluate(known, outliers, right=right, threshold=0.3)
    assert list(found.metrics) == list(METRICS)
    assert found["auroc"] == metrics.auroc(known, outliers)
    assert found["fpr95_ood"] == metrics.fpr95_ood(known, outliers)
    assert found["oscr"] == metrics.oscr(known, right, outliers)
    assert found["id_accuracy"] == right.mean()
    assert found["acceptance"] == np.mean(known >= 0.3)
    assert set(found.intervals) == {name for name, metric in METRICS.items() if metric.resampled}
    for name, (low, high) in found.intervals.items():
        value = found[name]
        assert value is not None
        assert low <= value <= high
    as_dict = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (as_dict["known"], as_dict["outliers"], as_dict["auroc"]) == (200, 150, found["auroc"])
    assert as_dict["intervals"]["auroc"] == list(found.intervals["auroc"])
    for name, value in found.metrics.items():
        assert (METRICS[name].title in repr(found)) == (value is not None)
    # The same seed gives the same numbers, and lists do as well as arrays.
    assert immuno.evaluate(list(known), list(outliers), right=list(right), threshold=0.3) == found


def test_what_looks_at_predicted_classes_is_undefined_without_them() -> None:
    found = immuno.evaluate([2.0, 3.0, 1.0], [0.0, 1.5], replicates=50)
    undefined = {name for name, value in found.metrics.items() if value is None}
    assert undefined == {
        *("oscr", "h_score", "id_accuracy"),
        *("threshold", "acceptance", "rejection", "accepted_accuracy"),
        *("fpr95_worst_class", "fired_known", "known_used", "outliers_used"),
    }
    assert found["auroc"] == pytest.approx(5 / 6)
    deployed = immuno.evaluate([2.0, 3.0, 1.0], [0.0, 1.5], threshold=1.2, replicates=50)
    assert (deployed["acceptance"], deployed["rejection"]) == (pytest.approx(2 / 3), 0.5)
    assert deployed["accepted_accuracy"] is None


@pytest.mark.parametrize(
    ("known", "outliers", "right", "said"),
    [
        ([], [1.0], None, "no known scores"),
        ([1.0], [[1.0]], None, "no outlier scores"),
        ([1.0, float("nan")], [1.0], None, "1 of 2 known scores are NaN"),
        ([1.0, 2.0], [1.0], [True], "one bool per known image"),
        ([1.0, 2.0], [1.0], [1, 0], "one bool per known image"),
    ],
)
def test_bad_scores_are_told(known: list[float], outliers: list[float], right: list[bool] | None, said: str) -> None:
    with pytest.raises(SetupError, match=said):
        immuno.evaluate(known, outliers, right=right)


def test_a_space_of_arrays_is_the_space_of_records() -> None:
    space = make_space(0)
    assert space.fit is not None
    x = space.fit.features
    made = immuno.make_space(
        space.texts.astype(np.float64),
        classes=space.classes,
        fit=x,
        fit_labels=space.fit_labels,
        antibodies=space.bank.vectors,
    )
    for name in ("mcm", "mahalanobis", "calibrated", "s_dis"):
        score = immuno.make_score(name)
        assert score.fit(made).score(x).tolist() == score.fit(space).score(x).tolist()
    assert immuno.make_space(space.texts, antibodies=space.bank).bank is space.bank
    assert len(immuno.make_space(space.texts).bank) == 0
    for bad, said in (
        ({"fit": x}, "fit images and their labels go together"),
        ({"antibodies": x[:, :3]}, "vectors of 3 dimensions|unit norm"),
        ({"classes": ["one"]}, "1 class name"),
        ({"fit": x, "fit_labels": np.full(len(x), 9)}, "9 where there are 5 classes"),
    ):
        with pytest.raises(SetupError, match=said):
            immuno.make_space(space.texts, **bad)  # type: ignore[arg-type]
    with pytest.raises(SetupError, match="not of unit norm"):
        immuno.make_space(2 * space.texts)

"""Distances of fit images to what the others make, and the fused base that uses them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.metrics import fpr95_id
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.scores.features.distances import ClassSpread
from evaluation.scores.registry import make_score
from evaluation.space import Space
from immuno_core.features import FloatArray, IntArray
from tests.evaluation import reference
from tests.evaluation.synthetic import make_space, outliers, unit_rows


def left_out(features: FloatArray, labels: IntArray, i: int, shrinkage: float) -> float:
    """D^2 of image i, by making the mean of its class and the covariance anew without it."""
    x, own = features.astype(np.float64), labels[i]
    others = np.arange(len(x)) != i
    means = {int(k): x[labels == k].mean(axis=0) for k in np.unique(labels)}

    def inverse(rows: Any, centres: dict[int, Any]) -> Any:
        around = [x[j] - centres[int(labels[j])] for j in rows]
        scatter = sum((np.outer(one, one) for one in around), np.zeros((x.shape[1], x.shape[1]))) / len(x)
        return np.linalg.inv((1 - shrinkage) * scatter + shrinkage * scale * np.eye(x.shape[1]))

    whole = sum(np.outer(one, one) for one in x - np.array([means[int(k)] for k in labels])) / len(x)
    scale = np.trace(whole) / x.shape[1]
    without = dict(means)
    if (labels == own).sum() > 1:
        without[int(own)] = x[others & (labels == own)].mean(axis=0)
    rest = inverse(np.flatnonzero(others), without)
    found = [
        float((x[i] - m) @ rest @ (x[i] - m)) for k, m in without.items() if k != own or others[labels == own].any()
    ]
    return min(found, default=np.inf)


@settings(max_examples=40)
@given(
    st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 6), st.integers(6, 20), st.sampled_from([0.05, 0.5, 1.0])
)
def test_each_fit_image_is_measured_as_if_it_had_not_been_one(
    seed: int, classes: int, dim: int, n: int, shrinkage: float
) -> None:
    rng = np.random.default_rng(seed)
    features, labels = unit_rows(rng, n, dim), rng.integers(0, classes, n)
    found = ClassSpread.of(features, labels, shrinkage=shrinkage).left_out(features, labels).squared
    np.testing.assert_allclose(found, [left_out(features, labels, i, shrinkage) for i in range(n)], rtol=1e-6)


def test_the_only_image_of_the_only_class_is_nobodys() -> None:
    x = np.eye(3, dtype=np.float32)[:1]
    spread = ClassSpread.of(x, np.zeros(1, dtype=np.int64))
    assert spread.left_out(x, np.zeros(1, dtype=np.int64)).squared.tolist() == [np.inf]
    assert spread.squared(x.astype(np.float64)).tolist() == [0.0]


def test_left_out_distances_are_those_of_new_images_where_images_are_few() -> None:
    """24 images in 32 dimensions: measured with themselves among the fit images they look far nearer than new ones."""
    space, more = (
        make_space(1, classes=2, dim=32, fit=24, spread=0.3),
        make_space(1, classes=2, dim=32, fit=4000, spread=0.3),
    )
    assert space.fit is not None
    assert space.fit_labels is not None
    assert more.fit is not None
    spread = ClassSpread.of(space.fit.features, space.fit_labels)
    new = np.sqrt(spread.squared(more.fit.features[24:].astype(np.float64))).mean()
    within = np.sqrt(spread.squared(space.fit.features.astype(np.float64))).mean()
    without = np.sqrt(spread.left_out(space.fit.features, space.fit_labels).squared).mean()
    assert within < 0.85 * new
    assert without == pytest.approx(new, rel=0.1)


def fused(space: Space, **params: float) -> FittedCalibrated:
    fitted = make_score("calibrated", beta=0.0, **params).fit(space)
    assert isinstance(fitted, FittedCalibrated)
    return fitted


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.35, 1.0]), st.sampled_from([0.25, 0.75, 1.0]))
def test_typicality_joins_the_fused_base_on_the_scale_of_closeness(seed: int, w: float, v: float) -> None:
    space = make_space(seed, classes=3, dim=5, fit=20, spread=0.4)
    assert space.fit is not None
    assert space.fit_labels is not None
    images, labels = space.fit.features, space.fit_labels
    x = outliers(space, seed, 9).features
    p = reference.leave_one_out(space.texts, images, list(labels), 0.9, 3.0)
    spread = ClassSpread.of(images, labels)
    m = list(-np.sqrt(spread.left_out(images, labels).squared))
    slope = reference.deviation(p) / reference.deviation(m)
    typical = reference.mean(p) + slope * (-np.sqrt(spread.squared(x.astype(np.float64))) - reference.mean(m))
    without = fused(space, w=w, v=0.0, xi=3.0).score(x)
    np.testing.assert_allclose(fused(space, w=w, v=v, xi=3.0).score(x), (1 - v) * without + v * typical, atol=1e-9)


def test_typicality_tells_what_closeness_cannot() -> None:
    """Outliers as near to a class's text as its images are, in a direction in which those do not vary."""
    rng = np.random.default_rng(0)
    space = make_space(0, classes=2, dim=8, fit=400, spread=0.0)
    assert space.fit is not None
    assert space.fit_labels is not None

    def images(labels: IntArray, direction: int) -> FloatArray:
        away = np.zeros((len(labels), 8))
        away[:, direction] = 0.5 * rng.standard_normal(len(labels))
        off = away + 0.05 * rng.standard_normal(away.shape)
        rows = space.texts[labels] + off
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    known = images(space.fit_labels, 2)
    varied = replace(space, fit=replace(space.fit, features=known))
    x, odd = images(space.fit_labels[:200], 2), images(space.fit_labels[:200], 5)
    plain, typical = fused(varied, w=1.0, v=0.0), fused(varied, w=1.0, v=1.0)
    assert fpr95_id(plain.score(x), plain.score(odd)) > 0.7
    assert fpr95_id(typical.score(x), typical.score(odd)) < 0.4

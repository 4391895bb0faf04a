"""KNN and Mahalanobis: distances to fit images agree with their formulas and with other libraries."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pytorch_ood.detector import KNN
from pytorch_ood.detector import Mahalanobis as OodMahalanobis
from sklearn.covariance import ledoit_wolf
from sklearn.neighbors import NearestNeighbors

from evaluation.scores.features import distances as knn
from evaluation.scores.registry import make_score
from evaluation.space import Space
from immuno_core import arrays as blocks
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray, IntArray
from tests.evaluation.synthetic import feature_set, make_space, outliers, unit_rows

Array = NDArray[np.float64]


def kth_distance(x: Any, fit: Any, k: int) -> float:
    distances = sorted(math.dist([float(v) for v in x], [float(v) for v in f]) for f in fit)
    return -distances[min(k, len(distances)) - 1]


def fit_of(space: Space) -> tuple[FloatArray, IntArray]:
    assert space.fit is not None
    assert space.fit_labels is not None
    return space.fit.features, space.fit_labels


def centred(features: FloatArray, labels: IntArray) -> tuple[Array, dict[int, Array]]:
    rows = features.astype(np.float64)
    means = {int(k): rows[labels == k].mean(axis=0) for k in np.unique(labels)}
    return np.array([row - means[int(k)] for row, k in zip(rows, labels, strict=True)]), means


def mahalanobis(x: Array, features: FloatArray, labels: IntArray, shrinkage: float) -> float:
    around, means = centred(features, labels)
    covariance = sum(np.outer(row, row) for row in around) / len(around)
    mixed = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / len(x) * np.eye(len(x))
    if np.trace(covariance) < 1e-15:
        mixed = np.eye(len(x))
    return -min(float((x - m) @ np.linalg.solve(mixed, x - m)) for m in means.values())


shapes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "classes": st.integers(1, 6),
        "dim": st.integers(2, 12),
        "fit": st.sampled_from([1, 2, 37]),
    }
)


@settings(max_examples=40)
@given(shapes, st.sampled_from([0, 1, 12]), st.sampled_from([1, 2, 5, 50]))
def test_knn_is_the_distance_to_the_kth_nearest_fit_image(shape: dict[str, int], n: int, k: int) -> None:
    space = make_space(**shape)
    x, (fit, _) = outliers(space, 0, n).features, fit_of(space)
    fitted = make_score("knn", k=k).fit(space)
    assert fitted.chosen == {"k": min(k, len(fit))}
    np.testing.assert_allclose(fitted.score(x), [kth_distance(v, fit, k) for v in x], atol=1e-7)


@pytest.mark.parametrize("count", [1, 37, 1000])
def test_knn_of_tied_images_and_of_the_fit_images_themselves(count: int) -> None:
    space = make_space(4, fit=20)
    fit, labels = fit_of(space)
    assert space.fit is not None
    repeated = np.tile(np.arange(20), 50)[:count]
    tied = replace(space, fit=feature_set(fit[repeated], split="fit"), fit_labels=labels[repeated])
    for k in (1, 3, 50):
        found = make_score("knn", k=k).fit(tied).score(fit)
        np.testing.assert_allclose(found, [kth_distance(v, fit[repeated], k) for v in fit], atol=1e-7)


def test_knn_agrees_with_scikit_learn_and_pytorch_ood() -> None:
    space = make_space(5, dim=16, fit=300)
    x, (fit, labels) = outliers(space, 0, 100).features, fit_of(space)
    found = make_score("knn").fit(space).score(x)
    distances, _ = NearestNeighbors(n_neighbors=50, algorithm="brute").fit(fit.astype(np.float64)).kneighbors(x)
    np.testing.assert_allclose(found, -distances[:, -1], atol=1e-7)
    theirs = KNN(None, k=50).fit_features(torch.from_numpy(fit), torch.from_numpy(labels))
    np.testing.assert_allclose(found, -theirs.predict_features(torch.from_numpy(x)).numpy(), atol=1e-6)


def test_knn_is_the_same_however_the_fit_images_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    space = make_space(6, fit=90)
    x = outliers(space, 0, 40).features
    whole = make_score("knn", k=7).fit(space).score(x)
    for rows in (1, 6, 7, 64):
        monkeypatch.setattr(knn, "FIT_ROWS", rows)
        np.testing.assert_allclose(make_score("knn", k=7).fit(space).score(x), whole, atol=1e-14)


@settings(max_examples=40)
@given(shapes, st.sampled_from([0, 1, 12]), st.sampled_from([0.05, 0.5, 1.0]))
def test_mahalanobis_is_its_formula(shape: dict[str, int], n: int, shrinkage: float) -> None:
    space = make_space(**shape)
    x, (fit, labels) = outliers(space, 0, n).features, fit_of(space)
    fitted = make_score("mahalanobis", shrinkage=shrinkage).fit(space)
    assert fitted.chosen == {"shrinkage": shrinkage}
    expected = [mahalanobis(v.astype(np.float64), fit, labels, shrinkage) for v in x]
    np.testing.assert_allclose(fitted.score(x), expected, rtol=1e-7, atol=1e-9)


@settings(max_examples=40)
@given(shapes)
def test_the_shrinkage_is_that_of_ledoit_and_wolf(shape: dict[str, int]) -> None:
    space = make_space(**shape)
    around, _ = centred(*fit_of(space))
    fitted = make_score("mahalanobis").fit(space)
    if (around**2).sum() < 1e-12:  # nothing to estimate a covariance from
        assert fitted.chosen["shrinkage"] in (0.0, 1.0)
        return
    expected = ledoit_wolf(around, assume_centered=True)[1]
    assert fitted.chosen["shrinkage"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n", [1, 37, 1000])
def test_mahalanobis_agrees_with_pytorch_ood_where_the_covariance_is_sound(n: int) -> None:
    space = make_space(7, classes=3, dim=6, fit=1000, spread=0.5)
    x, (fit, labels) = outliers(space, 0, n).features, fit_of(space)
    theirs = OodMahalanobis(None).fit_features(torch.from_numpy(fit), torch.from_numpy(labels))
    # They give half the distance under the sum of the outer products, in float32; we the distance under their mean.
    expected = -2 * len(fit) * theirs.predict_features(torch.from_numpy(x)).numpy()
    found = make_score("mahalanobis", shrinkage=0.0).fit(space).score(x)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_mahalanobis_stays_sound_with_fewer_images_than_dimensions() -> None:
    space = make_space(8, classes=4, dim=64, fit=12, spread=0.05)
    x, (fit, labels) = outliers(space, 0, 50).features, fit_of(space)
    fitted = make_score("mahalanobis").fit(space)
    shrinkage = fitted.chosen["shrinkage"]
    assert 0 < shrinkage <= 1
    expected = [mahalanobis(v.astype(np.float64), fit, labels, shrinkage) for v in x]
    np.testing.assert_allclose(fitted.score(x), expected, rtol=1e-7)
    bare = make_score("mahalanobis", shrinkage=0.0).fit(space).score(x)
    assert np.isfinite(bare).all()
    assert (bare < 0).all()


def test_without_any_spread_mahalanobis_is_the_squared_distance_to_the_nearest_mean() -> None:
    space = make_space(9, fit=5)
    fit, _ = fit_of(space)
    each = replace(space, fit=feature_set(np.repeat(fit, 2, axis=0), split="fit"), fit_labels=np.arange(5).repeat(2))
    x = outliers(space, 0, 20).features
    expected = [-min(math.dist(v.astype(float), f.astype(float)) ** 2 for f in fit) for v in x]
    np.testing.assert_allclose(make_score("mahalanobis").fit(each).score(x), expected, atol=1e-9)


def test_a_class_without_fit_images_is_nobodys_nearest_but_can_be_predicted() -> None:
    space = make_space(10, classes=4, fit=40)
    fit, labels = fit_of(space)
    kept = labels != 2
    fewer = replace(space, fit=feature_set(fit[kept], split="fit"), fit_labels=labels[kept])
    fitted = make_score("mahalanobis", shrinkage=0.1).fit(fewer)
    expected = [mahalanobis(v.astype(np.float64), fit[kept], labels[kept], 0.1) for v in fit]
    np.testing.assert_allclose(fitted.score(fit), expected, rtol=1e-7)
    assert fitted.predict(space.texts).tolist() == [0, 1, 2, 3]


def test_mahalanobis_is_the_same_however_the_images_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    space = make_space(11, fit=90)
    x = outliers(space, 0, 40).features
    whole = make_score("mahalanobis").fit(space).score(x)
    monkeypatch.setattr(blocks, "MOST_ELEMENTS", 100)
    np.testing.assert_allclose(make_score("mahalanobis").fit(space).score(x), whole, rtol=1e-9)


@pytest.mark.parametrize("name", ["knn", "mahalanobis"])
def test_without_fit_images_the_error_names_the_section(name: str) -> None:
    with pytest.raises(SetupError, match=rf"'{name}' needs fit images: give \[data.fit\]"):
        make_score(name).fit(make_space(0, fit=0))


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("knn", {"k": 0}, "k = 0"),
        ("knn", {"k": 5.5}, "k = 5.5"),
        ("knn", {"K": 5}, "no parameter 'K'; did you mean 'k'"),
        ("mahalanobis", {"shrinkage": 1.5}, "shrinkage = 1.5"),
    ],
)
def test_wrong_parameters_are_refused(name: str, params: dict[str, Any], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        make_score(name, **params)


def test_images_of_another_dimension_are_refused() -> None:
    for name in ("knn", "mahalanobis"):
        with pytest.raises(SetupError, match="5 dimensions where the class texts have 8"):
            make_score(name).fit(make_space(0)).score(unit_rows(np.random.default_rng(0), 3, 5))

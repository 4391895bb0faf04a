"""The rivals of fit images, and GEN: each is its paper's formula, one image at a time, and agrees with pytorch-ood."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytorch_ood.detector import GEN, RMD, NNGuide, ViM, fDBD
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from evaluation.scores.registry import make_score
from evaluation.space import Space
from immuno_core import arrays
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray, IntArray
from tests.evaluation.reference import cosines, softmax
from tests.evaluation.synthetic import make_space, outliers

Array = NDArray[Any]


def world(seed: int = 0, **shape: Any) -> tuple[Space, FloatArray, FloatArray, IntArray]:
    """A space, images to score, and its fit images with their classes."""
    space = make_space(seed, **{"classes": 4, "dim": 6, "fit": 200, "spread": 0.5, **shape})
    assert space.fit is not None
    assert space.fit_labels is not None
    return space, outliers(space, 0, 30).features, space.fit.features, space.fit_labels


def logits(space: Space, x: Array) -> list[float]:
    return [space.logit_scale * c for c in cosines(x, space.texts)]


def energy(space: Space, x: Array) -> float:
    top = max(logits(space, x))
    return top + math.log(math.fsum(math.exp(one - top) for one in logits(space, x)))


def gen(space: Space, x: Array, gamma: float, most: int) -> float:
    p = sorted(softmax(logits(space, x)))[-most:]
    return -math.fsum(one**gamma * (1 - one) ** gamma for one in p)


def relative_mahalanobis(x: Array, fit: Array, labels: Array) -> float:
    means = {k: fit[labels == k].mean(axis=0, dtype=np.float64) for k in set(labels.tolist())}
    around = np.array([row - means[k] for row, k in zip(fit.astype(np.float64), labels.tolist(), strict=True)])
    shared, whole = around.T @ around / len(fit), np.cov(fit.astype(np.float64).T, bias=True)
    own = min(float((x - m) @ np.linalg.inv(shared) @ (x - m)) for m in means.values())
    off = x - fit.mean(axis=0, dtype=np.float64)
    return float(off @ np.linalg.inv(whole) @ off) - own


def vim(space: Space, x: Array, fit: Array, kept: int) -> float:
    values, vectors = np.linalg.eigh(fit.astype(np.float64).T @ fit.astype(np.float64))
    rest = vectors[:, np.argsort(values)[: fit.shape[1] - kept]]
    largest = np.mean([max(logits(space, f)) for f in fit])
    alpha = largest / np.mean([math.sqrt(sum((f @ rest) ** 2)) for f in fit.astype(np.float64)])
    return float(energy(space, x) - alpha * math.sqrt(sum((x @ rest) ** 2)))


def nnguide(space: Space, x: Array, fit: Array, k: int) -> float:
    near = sorted((energy(space, f) * float(x.astype(float) @ f.astype(float)) for f in fit), reverse=True)[:k]
    return energy(space, x) * math.fsum(near) / len(near)


def fdbd(space: Space, x: Array, fit: Array) -> float:
    c = cosines(x, space.texts)
    y = c.index(max(c))
    ways = [(c[y] - c[k]) / math.dist(space.texts[y], space.texts[k]) for k in range(len(c)) if k != y]
    return math.fsum(ways) / len(ways) / math.dist(x, fit.mean(axis=0, dtype=np.float64))


def neco(space: Space, x: Array, fit: Array, kept: int) -> float:
    """As the authors' code has it."""
    scaler = StandardScaler().fit(fit.astype(np.float64))
    z = scaler.transform(x[None].astype(np.float64))
    reduced = PCA(fit.shape[1]).fit(scaler.transform(fit.astype(np.float64))).transform(z)[0, :kept]
    return float(np.linalg.norm(reduced) / np.linalg.norm(z) * max(logits(space, x)))


@pytest.mark.parametrize("dim", [5, 6])
@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("gen", {}, lambda s, x, f, y: gen(s, x, 0.1, 100)),
        ("gen", {"gamma": 0.5, "most": 2}, lambda s, x, f, y: gen(s, x, 0.5, 2)),
        ("relative_mahalanobis", {}, lambda s, x, f, y: relative_mahalanobis(x, f, y)),
        ("vim", {"principal": 0.34}, lambda s, x, f, y: vim(s, x, f, 2)),
        ("nnguide", {}, lambda s, x, f, y: nnguide(s, x, f, 10)),
        ("nnguide", {"k": 1}, lambda s, x, f, y: nnguide(s, x, f, 1)),
        ("nnguide", {"k": 500}, lambda s, x, f, y: nnguide(s, x, f, 500)),
        ("fdbd", {}, lambda s, x, f, y: fdbd(s, x, f)),
        ("neco", {"principal": 0.34}, lambda s, x, f, y: neco(s, x, f, 2)),
    ],
)
def test_each_is_its_formula(name: str, params: dict[str, Any], expected: Callable[..., float], dim: int) -> None:
    space, x, fit, labels = world(dim=dim)
    space_ = Space(space.classes, space.texts, 20.0, space.fit, space.fit_labels, space.bank)
    found = make_score(name, **params).fit(space_).score(x)
    np.testing.assert_allclose(found, [expected(space_, v, fit, labels) for v in x], rtol=1e-6, atol=1e-9)


def test_they_agree_with_pytorch_ood() -> None:
    space, x, fit, labels = world(1)
    head = torch.nn.Linear(6, 4, bias=False)
    head.weight.data = space.logit_scale * torch.from_numpy(space.texts)
    images, classes, tested = (torch.from_numpy(array) for array in (fit, labels, x))

    def ours(name: str, **params: Any) -> Array:
        return make_score(name, **params).fit(space).score(x)

    found = {
        "vim": ViM(None, 3, head.weight, torch.zeros(4)).fit_features(images, classes).predict_features(tested),
        "nnguide": NNGuide(None, head).fit_features(images, classes).predict_features(tested),
        "fdbd": fDBD(None, head).fit_features(images).predict_features(tested),
    }
    for name, theirs in found.items():
        np.testing.assert_allclose(ours(name), -theirs.detach().numpy(), rtol=2e-4, err_msg=name)
    # They give the distance under the sum of the outer products, with a little added to its diagonal.
    relative = RMD(None).fit_features(images, classes).predict_features(tested)
    np.testing.assert_allclose(ours("relative_mahalanobis"), -len(fit) * relative.numpy(), rtol=1e-2, atol=0.05)
    # They give the mean over the classes, and keep probabilities from 0 by 1e-7: mild logits leave that aside.
    mild = Space(space.classes, space.texts, 5.0, None, None, space.bank)
    expected = GEN(None, M=3).predict_logits(5 * tested @ torch.from_numpy(space.texts).T)
    np.testing.assert_allclose(make_score("gen", most=3).fit(mild).score(x), -3 * expected.numpy(), rtol=1e-5)


def test_mahalanobis_without_shrinkage_is_mahalanobis_plus_plus() -> None:
    """Means and a shared covariance of unit features, by scikit-learn."""
    space, x, fit, labels = world(2)
    rows = fit.astype(np.float64) / np.linalg.norm(fit.astype(np.float64), axis=1, keepdims=True)
    means = np.array([rows[labels == k].mean(axis=0) for k in range(4)])
    covariance = EmpiricalCovariance(assume_centered=True).fit(rows - means[labels])
    expected = [-covariance.mahalanobis(v.astype(np.float64) - means).min() for v in x]
    np.testing.assert_allclose(make_score("mahalanobis", shrinkage=0.0).fit(space).score(x), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["relative_mahalanobis", "vim", "nnguide", "fdbd", "neco"])
def test_without_fit_images_the_error_names_the_section(name: str) -> None:
    with pytest.raises(SetupError, match=rf"'{name}' needs fit images: give \[data.fit\]"):
        make_score(name).fit(make_space(0, fit=0))


def test_a_single_class_has_no_boundary() -> None:
    with pytest.raises(SetupError, match="there is only one"):
        make_score("fdbd").fit(make_space(0, classes=1))


def test_one_image_and_twin_classes_leave_every_score_finite() -> None:
    space, x, *_ = world(3, fit=1)
    twins = Space(space.classes, space.texts[[0, 0, 1, 2]], 100.0, space.fit, space.fit_labels, space.bank)
    for name in ("gen", "relative_mahalanobis", "vim", "nnguide", "fdbd", "neco"):
        assert np.isfinite(make_score(name).fit(twins).score(np.concatenate([x, twins.texts]))).all(), name


def test_nnguide_is_the_same_however_the_images_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    space, x, *_ = world(4)
    whole = make_score("nnguide", k=7).fit(space).score(x)
    monkeypatch.setattr("evaluation.scores.features.guidance.FIT_ROWS", 3)
    monkeypatch.setattr(arrays, "MOST_ELEMENTS", 100)
    np.testing.assert_allclose(make_score("nnguide", k=7).fit(space).score(x), whole, rtol=1e-12)

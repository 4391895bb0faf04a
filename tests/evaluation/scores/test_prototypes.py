"""Prototypes: the formula, the cap, the concentration, and what a class without images gets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import vonmises_fisher

from evaluation.scores.prototypes import leave_one_out, prototypes
from immuno_core.errors import SetupError
from tests.evaluation import reference
from tests.evaluation.synthetic import around, unit, unit_rows

alphas = st.sampled_from([0.0, 0.3, 0.85, 0.9, 1.0])
caps = st.sampled_from([0.0, 0.05, 0.3, math.pi / 4, math.pi])


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(2, 9), st.integers(0, 25), alphas, caps)
def test_prototypes_and_leave_one_out_agree_with_the_formula(
    seed: int, k: int, d: int, n: int, alpha: float, xi: float
) -> None:
    rng = np.random.default_rng(seed)
    texts = unit_rows(rng, k, d)
    labels = rng.integers(0, k, n)
    images = around(rng, texts, labels, 0.5)
    found = prototypes(texts, images, labels, alpha=alpha, xi=xi)
    expected = reference.prototypes(texts, images, list(labels), alpha, xi)
    # Texts are of norm 1 in float32 only, which the two ways of going round the sphere see differently.
    np.testing.assert_allclose(found.mu, expected, atol=1e-6)
    left_out = leave_one_out(texts, images, labels, alpha=alpha, xi=xi).cosine
    np.testing.assert_allclose(left_out, reference.leave_one_out(texts, images, list(labels), alpha, xi), atol=1e-6)


def test_a_prototype_lies_between_text_and_images() -> None:
    text, image = np.eye(2, dtype=np.float32)[:1], np.eye(2, dtype=np.float32)[1:]
    label = np.array([0])
    assert prototypes(text, image, label, alpha=0.5).mu[0] == pytest.approx([math.sqrt(0.5)] * 2)
    assert prototypes(text, image, label, alpha=0.8, xi=math.pi).mu[0] == pytest.approx(
        reference.normalise(np.array([0.8, 0.2]))
    )


@pytest.mark.parametrize("alpha", [0.0, 0.4, 0.9])
def test_the_cap_moves_a_prototype_along_the_great_circle_to_xi(alpha: float) -> None:
    rng = np.random.default_rng(3)
    texts = unit_rows(rng, 6, 16)
    labels = np.repeat(np.arange(6), 10)
    images = unit(unit_rows(rng, 6, 16)[labels] + 0.3 * rng.standard_normal((60, 16)))
    free = prototypes(texts, images, labels, alpha=alpha, xi=math.pi)
    angles = np.arccos(np.einsum("ij,ij->i", free.mu, texts))
    xi = float(np.median(angles)) + 1e-4
    capped = prototypes(texts, images, labels, alpha=alpha, xi=xi)
    assert (angles > xi).any()
    now = np.arccos(np.einsum("ij,ij->i", capped.mu, texts))
    np.testing.assert_allclose(now, np.minimum(angles, xi), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(capped.mu, axis=1), 1, atol=1e-12)
    # On the great circle through text and prototype: the three are in one plane.
    for mu, text, before in zip(capped.mu, texts, free.mu, strict=True):
        assert np.linalg.matrix_rank(np.stack([mu, text, before]), tol=1e-5) <= 2


def test_the_weight_of_the_text_and_a_class_without_images_give_the_text_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    texts = unit_rows(rng, 4, 8)
    labels = np.array([0, 0, 2])
    images = around(rng, texts, labels, 0.3)
    assert (prototypes(texts, images, labels, alpha=1.0).mu == texts.astype(np.float64)).all()
    found = prototypes(texts, images, labels, alpha=0.5)
    assert (found.mu[[1, 3]] == texts[[1, 3]].astype(np.float64)).all()
    assert not (found.mu[[0, 2]] == texts[[0, 2]]).any(axis=1).any()
    nothing = prototypes(texts, np.zeros((0, 8), np.float32), np.zeros(0, np.int64))
    assert (nothing.mu == texts.astype(np.float64)).all()
    assert nothing.kappa.tolist() == [0, 0, 0, 0]


def test_images_that_cancel_out_give_the_text() -> None:
    texts = np.eye(3, dtype=np.float32)[:1]
    opposite = np.array([[0, 1, 0], [0, -1, 0]], dtype=np.float32)
    assert prototypes(texts, opposite, np.array([0, 0]), alpha=0.2).mu[0].tolist() == [1, 0, 0]
    # Half text, half its opposite: no direction is left, and no great circle to move along.
    for alpha in (0.5, 0.0):
        found = prototypes(texts, -texts, np.array([0]), alpha=alpha, xi=0.3)
        assert found.mu[0] == pytest.approx([1, 0, 0])


def test_kappa_is_the_closed_form_of_the_mean_resultant_length() -> None:
    rng = np.random.default_rng(1)
    texts, labels = unit_rows(rng, 3, 32), np.repeat(np.arange(3), 40)
    images = around(rng, texts, labels, 0.2)
    for k, kappa in enumerate(prototypes(texts, images, labels).kappa):
        r = np.linalg.norm(images[labels == k].astype(np.float64).mean(axis=0))
        assert kappa == pytest.approx(r * (32 - r**2) / (1 - r**2), rel=1e-9)


def test_kappa_recovers_the_concentration_of_a_von_mises_fisher_sample() -> None:
    texts = np.eye(16, dtype=np.float32)[:1]
    images = unit(vonmises_fisher(texts[0].astype(np.float64), 60).rvs(4000, random_state=0))
    assert prototypes(texts, images, np.zeros(4000, np.int64)).kappa[0] == pytest.approx(60, rel=0.03)


def test_a_class_that_shows_no_spread_takes_the_median_concentration() -> None:
    rng = np.random.default_rng(2)
    texts = unit_rows(rng, 4, 8)
    labels = np.array([0] * 9 + [1] * 9 + [2, 3, 3])
    images = around(rng, texts, labels, 0.3)
    images[-1] = images[-2]
    kappa = prototypes(texts, images, labels).kappa
    assert np.isfinite(kappa).all()
    assert kappa[2] == kappa[3] == pytest.approx(np.median(kappa[:2]))


def test_leaving_an_image_out_lowers_its_own_closeness() -> None:
    rng = np.random.default_rng(4)
    texts, labels = unit_rows(rng, 3, 64), np.repeat(np.arange(3), 4)
    images = around(rng, texts, labels, 0.3)
    mu = prototypes(texts, images, labels, alpha=0.5).mu
    with_itself = (images.astype(np.float64) @ mu.T).max(axis=1)
    assert (leave_one_out(texts, images, labels, alpha=0.5).cosine < with_itself).all()


def test_arrays_that_do_not_fit_and_parameters_out_of_range_are_refused() -> None:
    rng = np.random.default_rng(0)
    texts, labels = unit_rows(rng, 3, 8), np.array([0, 1])
    images = unit_rows(rng, 2, 8)
    broken = images.copy()
    broken[1, 0] = np.nan
    for arguments, said in (
        ((texts, unit_rows(rng, 2, 5), labels), "5 dimensions"),
        ((texts, broken, labels), "row 1"),
        ((texts, images * 0, labels), "unit norm"),
        ((texts, images, np.array([0, 3])), "there are 3 classes"),
        ((texts, images, np.array([0])), "not 2 class indices"),
    ):
        with pytest.raises(SetupError, match=said):
            prototypes(*arguments)
    for parameters, said in (({"alpha": 1.1}, "alpha"), ({"alpha": -0.1}, "alpha"), ({"xi": 4.0}, "xi")):
        with pytest.raises(SetupError, match=said):
            prototypes(texts, images, labels, **parameters)
        with pytest.raises(SetupError, match=said):
            leave_one_out(texts, images, labels, **parameters)


def test_left_out_images_name_their_nearest_prototype_and_adapted_ones_are_compared_in_their_place() -> None:
    rng = np.random.default_rng(0)
    texts, labels = unit_rows(rng, 3, 8), rng.integers(0, 3, 20)
    x, adapted = unit_rows(rng, 20, 8), unit_rows(rng, 20, 8)
    found = leave_one_out(texts, x, labels, alpha=0.3, xi=3.0, adapted=adapted)
    for i in range(20):
        others = [j for j in range(20) if j != i]
        mu = reference.prototypes(texts, x[others], list(labels[others]), 0.3, 3.0)
        cosines = reference.cosines(adapted[i], mu)
        assert found.nearest[i] == int(np.argmax(cosines))
        assert found.cosine[i] == pytest.approx(max(cosines), abs=1e-6)
    with pytest.raises(SetupError, match="adapted images of shape"):
        leave_one_out(texts, x, labels, adapted=adapted[:5])

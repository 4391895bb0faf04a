"""The residual adapter: its losses are the paper's, it stops by a held-out part, and one seed gives one adapter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from evaluation.scores.paper.vaccination import Adapter, AdapterSettings, Vaccination, vaccinate
from evaluation.scores.prototypes import prototypes
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray, IntArray
from tests.evaluation import reference
from tests.evaluation.synthetic import around, unit, unit_rows

Task = tuple[FloatArray, FloatArray, IntArray, FloatArray]


def task(*, shots: int = 12, classes: int = 6, dim: int = 24, antibodies: int = 10) -> Task:
    """Class texts that all share a direction images do not have, images, labels, antibodies near the texts."""
    rng = np.random.default_rng(0)
    centres = unit_rows(rng, classes, dim)
    labels = np.repeat(np.arange(classes), shots)
    texts = unit(centres + 1.2 * unit_rows(rng, 1, dim) + 0.08 * rng.standard_normal((classes, dim)))
    near = unit(texts[rng.integers(0, classes, antibodies)] + 0.1 * rng.standard_normal((antibodies, dim)))
    return texts, around(rng, centres, labels, 0.16), labels, near


def trained(*given: Any, **settings: Any) -> Vaccination:
    return vaccinate(*(given or task()), settings=AdapterSettings(**({"most_kappa": 20.0, "hidden": 16} | settings)))


def random_adapter(dim: int = 8, hidden: int = 5) -> Adapter:
    rng = np.random.default_rng(0)
    return Adapter(
        *(
            (0.3 * rng.standard_normal(shape)).astype(np.float32)
            for shape in ((dim, hidden), (hidden,), (hidden, dim), (dim,))
        )
    )


# ---- the adapter


def test_the_adapter_is_its_formula() -> None:
    adapter = random_adapter()
    x = unit_rows(np.random.default_rng(1), 20, 8)
    expected = []
    for z in x.astype(float):
        inner = [max(0.0, reference.cos(z, w) + float(b)) for w, b in zip(adapter.w1.T, adapter.b1, strict=True)]
        expected.append(reference.normalise(z + [reference.cos(inner, w) for w in adapter.w2.T] + adapter.b2))  # type: ignore[arg-type]
    found = adapter.apply(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(adapter.block(x.astype(float)), expected, atol=1e-12)
    assert adapter.apply(x[:0]).shape == (0, 8)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, x = random_adapter(), unit_rows(np.random.default_rng(1), 50, 8)
    whole = adapter.apply(x)
    monkeypatch.setattr("immuno_core.arrays.MOST_ELEMENTS", 100)
    np.testing.assert_allclose(adapter.apply(x), whole, atol=1e-7)


def test_the_identity_changes_no_bit() -> None:
    x = unit_rows(np.random.default_rng(1), 20, 8)
    identity = Adapter.identity(8)
    assert identity.is_identity
    assert (identity.apply(x) == x).all()
    assert (identity.block(x.astype(float)) == x).all()
    assert not random_adapter().is_identity


def test_an_embedding_that_its_residual_cancels_stays_where_it_was() -> None:
    x = np.eye(3, dtype=np.float32)
    cancels = Adapter(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), -np.eye(3, dtype=np.float32), -x[0] * 0)
    assert (cancels.apply(x) == x).all()


def test_arrays_that_make_no_adapter_are_refused() -> None:
    good = dict(zip(("w1", "b1", "w2", "b2"), random_adapter().arrays, strict=True))
    for changes, said in (
        ({"w2": good["w1"]}, "an adapter's arrays are"),
        ({"w1": good["b1"]}, "an adapter's arrays are"),
        ({"b1": good["b1"].astype(np.float64)}, "b1 are not finite float32"),
        ({"b2": np.full(8, np.nan, np.float32)}, "b2 are not finite float32"),
    ):
        with pytest.raises(SetupError, match=said):
            Adapter(**good | changes)


def test_images_of_another_space_are_refused() -> None:
    x = unit_rows(np.random.default_rng(1), 3, 8)
    for images, said in ((x[:, :5], "5 dimensions"), (2 * x, "unit norm")):
        with pytest.raises(SetupError, match=said):
            random_adapter().apply(images)


# ---- the losses


@pytest.mark.parametrize("most_kappa", [5.0, 1e9])
@pytest.mark.parametrize("alpha", [0.0, 0.9])
def test_validation_losses_are_the_paper_s_on_the_held_out_images(most_kappa: float, alpha: float) -> None:
    texts, x, labels, antibodies = task()
    found = vaccinate(
        texts,
        x,
        labels,
        antibodies,
        alpha=alpha,
        settings=AdapterSettings(most_kappa=most_kappa, lambda_push=3.0, margin=0.1, epochs=2),
    )
    rest = np.setdiff1d(np.arange(len(x)), found.held_out)
    mu = reference.prototypes(texts, x[rest], list(labels[rest]), alpha, math.pi / 4)
    kappa = np.minimum(prototypes(texts, x[rest], labels[rest]).kappa, most_kappa)
    for epoch, adapter in ((0, Adapter.identity(24)), (found.epoch, found.adapter)):
        pulls, pushes = [], []
        for z, k in zip(adapter.apply(x[found.held_out]), labels[found.held_out], strict=True):
            logits = [float(kk) * c for kk, c in zip(kappa, reference.cosines(z, mu), strict=True)]
            top = max(logits)
            pulls.append(top + math.log(math.fsum(math.exp(v - top) for v in logits)) - logits[k])
            pushes += [max(0.0, c - 0.1) ** 2 for c in reference.cosines(z, antibodies)]
        expected = reference.mean(pulls), reference.mean(pushes)
        assert found.validation[epoch][:2] == pytest.approx(expected, rel=1e-4)
        assert found.validation[epoch].total == pytest.approx(expected[0] + 3 * expected[1], rel=1e-4)


def test_the_pull_brings_held_out_images_to_their_class() -> None:
    texts, x, labels, antibodies = task()
    found = trained(texts, x, labels, antibodies)
    assert 0 < found.epoch < len(found.validation)
    assert found.validation[found.epoch].total < 0.5 * found.validation[0].total
    assert found.validation[found.epoch].total <= 1.02 * min(one.total for one in found.validation)
    mu = prototypes(texts, x, labels).mu
    held = found.held_out
    before, after = ((z @ mu.T).argmax(axis=1) == labels[held] for z in (x[held], found.adapter.apply(x[held])))
    assert after.mean() > before.mean()


def test_the_push_lowers_cosines_to_antibodies() -> None:
    _, x, _, antibodies = task()

    def nearest(found: Vaccination) -> float:
        return float((found.adapter.apply(x[found.held_out]) @ antibodies.T).max(axis=1).mean())

    without, mild, strong = (nearest(trained(lambda_push=push)) for push in (0.0, 1.0, 100.0))
    assert strong < mild < without
    assert all(one.push == 0 for one in trained(lambda_push=0.0).validation)


def test_antibodies_beyond_the_margin_are_left_alone() -> None:
    plain, beyond = trained(lambda_push=0.0), trained(margin=1.0, lambda_push=50.0)
    np.testing.assert_allclose(beyond.adapter.w2, plain.adapter.w2, atol=1e-6)


def test_without_antibodies_there_is_no_push() -> None:
    texts, x, labels, antibodies = task()
    found = trained(texts, x, labels, antibodies[:0], margin_quantile=0.9)
    assert found.epoch > 0
    assert found.margin == 0.2
    assert all(one.push == 0 for one in found.validation)


def test_the_margin_can_be_a_quantile_of_the_cosines_of_training_images_and_antibodies() -> None:
    _, x, _, antibodies = task()
    found = trained(margin_quantile=0.75)
    rest = np.setdiff1d(np.arange(len(x)), found.held_out)
    assert found.margin == pytest.approx(np.quantile(x[rest] @ antibodies.T, 0.75))
    assert trained().margin == 0.2


def test_eta_keeps_the_weights_small() -> None:
    sizes = [sum(float((a**2).sum()) for a in trained(eta=eta).adapter.arrays) for eta in (0.0, 0.01)]
    assert sizes[1] < 0.9 * sizes[0]


def test_a_large_bank_is_pushed_from_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, x, labels, _ = task()
    rng = np.random.default_rng(1)
    many = unit(texts[rng.integers(0, 6, 300)] + 0.1 * rng.standard_normal((300, 24)))
    in_parts = trained(texts, x, labels, many, lambda_push=20.0)
    monkeypatch.setattr("evaluation.scores.paper.vaccination.MOST_ANTIBODIES", 300)
    at_once = trained(texts, x, labels, many, lambda_push=20.0)
    # Validation is over all of them in both.
    assert in_parts.validation[0] == at_once.validation[0]
    assert in_parts.validation[in_parts.epoch].push < 0.7 * in_parts.validation[0].push
    assert in_parts.validation[1].total == pytest.approx(at_once.validation[1].total, rel=0.1)


# ---- what is held out, and when to stop


def test_a_share_of_every_class_is_held_out_and_of_one_image_none() -> None:
    texts, x, labels, antibodies = task(shots=8, classes=4)
    counts = [8, 4, 2, 1]
    rows = np.concatenate([np.flatnonzero(labels == k)[:n] for k, n in enumerate(counts)])
    found = trained(texts, x[rows], labels[rows], antibodies, held_out=0.25)
    assert np.bincount(labels[rows][found.held_out], minlength=4).tolist() == [2, 1, 1, 0]
    assert sorted(set(found.held_out.tolist())) == found.held_out.tolist()
    almost = trained(texts, x[rows], labels[rows], antibodies, held_out=0.99)
    assert np.bincount(labels[rows][almost.held_out], minlength=4).tolist() == [7, 3, 1, 0]


def test_where_nothing_improves_on_the_identity_the_adapter_is_the_identity() -> None:
    texts, x, labels, antibodies = task()
    found = trained(texts, x, labels, antibodies, learning_rate=50.0, patience=2)
    assert found.epoch == 0
    assert len(found.validation) == 1 + 2
    assert found.adapter.is_identity


def test_training_ends_patience_epochs_after_the_best_one_and_restores_it() -> None:
    long = trained(epochs=200, patience=2)
    assert len(long.validation) == 1 + long.epoch + 2
    again = trained(epochs=long.epoch)
    assert all((a == b).all() for a, b in zip(long.adapter.arrays, again.adapter.arrays, strict=True))


def test_where_nothing_can_be_held_out_the_adapter_is_the_identity() -> None:
    texts, x, labels, antibodies = task(shots=1)
    found = trained(texts, x, labels, antibodies)
    assert found.adapter.is_identity
    assert (found.epoch, found.validation, len(found.held_out)) == (0, (), 0)


def test_two_images_of_each_class_are_enough_and_then_kappa_is_the_cap() -> None:
    texts, x, labels, antibodies = task(shots=2)
    found = trained(texts, x, labels, antibodies)
    assert np.bincount(labels[found.held_out]).tolist() == [1] * 6
    assert all(math.isfinite(one.total) for one in found.validation)
    mu = prototypes(texts, np.delete(x, found.held_out, axis=0), np.delete(labels, found.held_out)).mu
    logits = 20.0 * x[found.held_out] @ mu.T
    expected = -np.log(np.exp(logits)[np.arange(6), labels[found.held_out]] / np.exp(logits).sum(axis=1)).mean()
    assert found.validation[0].pull == pytest.approx(expected, rel=1e-4)


# ---- one seed, one adapter


def test_one_seed_gives_one_adapter_whatever_torch_s_own_state_and_threads() -> None:
    threads = torch.get_num_threads()
    first = trained()
    try:
        torch.manual_seed(1)
        torch.set_num_threads(1 if threads > 1 else 2)
        again = trained()
    finally:
        torch.set_num_threads(threads)
    assert first.epoch == again.epoch
    assert first.held_out.tolist() == again.held_out.tolist()
    for a, b in zip(first.adapter.arrays, again.adapter.arrays, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    other = trained(seed=1)
    assert other.held_out.tolist() != first.held_out.tolist()


def test_training_leaves_torch_s_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained(epochs=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: (t[0], t[1][:0], t[2][:0], t[3]), "vaccination needs fit images"),
        (lambda t: (t[0][:1], t[1], t[2] * 0, t[3]), "at least 2 classes"),
        (lambda t: (t[0], t[1], t[2], t[3][:, :5]), "antibody vectors: vectors of 5 dimensions"),
        (lambda t: (t[0], t[1][:, :5], t[2], t[3]), "5 dimensions"),
        (lambda t: (t[0], t[1], t[2] + 1, t[3]), "labels from 1 to 6"),
        (lambda t: (t[0], t[1] * np.nan, t[2], t[3]), "NaN"),
    ],
)
def test_what_cannot_train_an_adapter_is_refused(change: Any, said: str) -> None:
    with pytest.raises(SetupError, match=said):
        trained(*change(task()))


@pytest.mark.parametrize(
    "settings",
    [{"eta": -1.0}, {"margin": 2.0}, {"held_out": 1.0}, {"epochs": 0}, {"lambda_push": math.nan}, {"lamda_push": 1.0}],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AdapterSettings(**settings)

"""The map in two dimensions: what lies apart in the space lies apart on it, and each kind of points is centred."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.effects.plane import MOST_IMAGES, plane
from immuno_core.bank import Bank
from immuno_core.features import FeatureSet, Floats
from immuno_core.records import VISUAL, Antibody

DIM = 6


def unit(rows: Floats) -> Floats:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def images(name: str, rows: Floats) -> FeatureSet:
    names = tuple(str(k) for k in range(len(rows)))
    return FeatureSet(name, "test", unit(rows), names, ("",) * len(rows), names)


def along(axis: int, count: int, noise: float, seed: int) -> Floats:
    rows = noise * np.random.default_rng(seed).normal(size=(count, DIM))
    rows[:, axis] += 1
    return rows


KNOWN = images("id", along(0, 3 * MOST_IMAGES, 0.05, 0))
OUTLIERS = [images("near", along(0, 40, 0.05, 1)), images("far", along(1, 7, 0.05, 2))]
TEXTS = unit(along(2, 4, 0.05, 3))
BANK = Bank(
    (Antibody("a thing", "look_alike", id="a"), Antibody("", VISUAL, id="b")),
    np.concatenate([unit(along(2, 1, 0.05, 4)), unit(along(1, 1, 0.05, 5))]),
)


def test_outliers_that_lie_apart_lie_apart_on_the_map_and_visual_antibodies_with_their_images() -> None:
    found = plane(TEXTS, BANK, KNOWN, OUTLIERS)
    assert (len(found.classes), found.kinds) == (4, ("look_alike", VISUAL))
    assert {name: len(points) for name, points in found.outliers.items()} == {"near": 40, "far": 7}
    assert len(found.known) == MOST_IMAGES
    for points in (found.classes, found.known):
        assert np.mean(points, axis=0) == pytest.approx([0, 0], abs=1e-3)
    known, near, far = (np.mean(points, axis=0) for points in (found.known, *found.outliers.values()))
    assert np.linalg.norm(far - known) > 10 * np.linalg.norm(near - known)
    text, seen = np.array(found.antibodies)
    assert np.linalg.norm(seen - far) < 0.2
    assert np.linalg.norm(text) < 0.2
    assert 0.5 < found.shares[0] <= sum(found.shares) <= 1
    assert plane(TEXTS, BANK, KNOWN, OUTLIERS) == found


def test_one_class_no_antibody_and_one_dimension_are_drawn_too() -> None:
    flat = images("id", np.ones((3, 1)))
    found = plane(np.ones((1, 1), np.float32), Bank.empty(1), flat, [images("near", -np.ones((2, 1)))])
    assert found.classes == ((0.0, 0.0),)
    assert found.antibodies == ()
    assert [abs(x) for x, _ in found.outliers["near"]] == [2.0, 2.0]

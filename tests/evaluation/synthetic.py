"""Small random spaces: classes as directions, images scattered around them, antibodies and outliers anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.scores.calibrated import FittedCalibrated
from evaluation.scores.registry import make_score
from evaluation.space import Bank, Space
from immuno_core.features import FeatureSet, FloatArray, IntArray
from immuno_core.records import Antibody, AntibodyKind, Split


def unit(array: NDArray[Any]) -> FloatArray:
    """The rows, float32, of norm 1."""
    rows = np.asarray(array, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def unit_rows(rng: np.random.Generator, n: int, d: int) -> FloatArray:
    """n random directions."""
    return unit(rng.standard_normal((n, d)))


def around(rng: np.random.Generator, centres: FloatArray, labels: IntArray, spread: float) -> FloatArray:
    """One image per label, scattered around its centre."""
    return unit(centres[labels] + spread * rng.standard_normal((len(labels), centres.shape[1])))


def feature_set(features: FloatArray, *, split: Split = "feedback", name: str = "set", label: str = "") -> FeatureSet:
    """A set whose samples are called 0, 1, ..."""
    ids = tuple(str(i) for i in range(len(features)))
    return FeatureSet(name, split, features, ids, (label,) * len(ids), ids)


def named(images: FeatureSet, labels: IntArray) -> FeatureSet:
    """The set with the labels "class 0", "class 1", ..."""
    return replace(images, label_names=tuple(f"class {k}" for k in labels))


def bank_of(vectors: FloatArray) -> Bank:
    """Antibodies a0, a1, ... that guard class 0."""
    return Bank(tuple(Antibody(f"text {j}", guards="class 0", id=f"a{j}") for j in range(len(vectors))), vectors)


def with_rows(space: Space, rows: Iterable[int]) -> Space:
    """The space with these antibodies of its bank, in this order."""
    return replace(space, bank=space.bank.take(np.fromiter(rows, dtype=np.int64)))


def fit_calibrated(space: Space, **params: Any) -> FittedCalibrated:
    """The calibrated score, fitted."""
    fitted = make_score("calibrated", **params).fit(space)
    assert isinstance(fitted, FittedCalibrated)
    return fitted


def guarding(space: Space, *guards: str, kind: AntibodyKind = "look_alike") -> Space:
    """The space with these classes for its antibodies to guard, one each, and antibodies of this kind."""
    pairs = zip(space.bank.antibodies, guards, strict=True)
    antibodies = tuple(replace(antibody, kind=kind, guards=name) for antibody, name in pairs)
    return replace(space, bank=Bank(antibodies, space.bank.vectors))


def make_space(
    seed: int, *, classes: int = 5, dim: int = 8, antibodies: int = 7, fit: int = 60, spread: float = 0.25
) -> Space:
    """A space with `fit` images in all (0: none)."""
    rng = np.random.default_rng(seed)
    texts = unit_rows(rng, classes, dim)
    labels = rng.integers(0, classes, fit)
    return Space(
        classes=tuple(f"class {k}" for k in range(classes)),
        texts=texts,
        logit_scale=100.0,
        fit=feature_set(around(rng, texts, labels, spread), split="fit", name="fit") if fit else None,
        fit_labels=labels if fit else None,
        bank=bank_of(unit_rows(rng, antibodies, dim)),
    )


def held_out(space: Space, seed: int, n: int, spread: float = 0.25) -> tuple[FeatureSet, IntArray]:
    """Known images of a space that are not in its fit set, with their labels."""
    rng = np.random.default_rng([seed, 1])
    labels = rng.integers(0, len(space.classes), n)
    return named(feature_set(around(rng, space.texts, labels, spread), name="id"), labels), labels


def outliers(space: Space, seed: int, n: int, name: str = "outliers") -> FeatureSet:
    """Half anywhere, half between a class and an antibody, where antibodies are for."""
    rng = np.random.default_rng([seed, 2])
    anywhere = rng.standard_normal((n, space.dim))
    if len(space.bank):
        near = (
            space.bank.vectors[rng.integers(0, len(space.bank), n)] + space.texts[rng.integers(0, len(space.texts), n)]
        )
        anywhere = np.where(np.arange(n)[:, None] % 2 == 0, near + 0.2 * anywhere, anywhere)
    return feature_set(unit(anywhere), name=name)

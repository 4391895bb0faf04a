"""What a score may be fitted on: known classes, ID fit images, a bank, and feedback images. Never the sealed test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Self

import numpy as np

from immuno_core.arrays import check_labels, check_unit_rows
from immuno_core.bank import Bank
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.features import FeatureSet, FloatArray, IntArray

__all__ = ["Bank", "Feedback", "Space"]
PARTS = 5
"""Of cross-fitting: each fit then has four fifths of the images."""


@dataclass(frozen=True, slots=True, eq=False)
class Feedback:
    """Images of the feedback split: `known` with class indices `labels` (n,), and `outliers` by set name, unalterable.

    Raises SetupError for images of another split, and for an empty set.
    """

    known: FeatureSet
    labels: IntArray
    outliers: Mapping[str, FeatureSet]
    parts: IntArray | None = None
    """Where the known images are those of the fit split, row for row: the part of it (n,), from 0, that each is in.
    What a score says of one counts only where it was fitted without its part (evaluation.scores.base.held_out)."""

    def __post_init__(self) -> None:
        for images in (self.known, *self.outliers.values()):
            if images.split != "feedback":
                raise SetupError(f"set '{images.name}' is of the split {images.split}; feedback takes feedback images")
            if not len(images):
                raise SetupError(f"the feedback set '{images.name}' has no image that could be read")
        object.__setattr__(self, "outliers", MappingProxyType(dict(self.outliers)))

    @classmethod
    def cross_fitted(cls, fit: FeatureSet, labels: IntArray, outliers: Mapping[str, FeatureSet], *, seed: int) -> Self:
        """Return feedback whose known images are the fit images, in `PARTS` parts with as much of each class."""
        drawn = np.random.default_rng(seed).permutation(len(labels))
        parts = np.empty(len(labels), dtype=np.int64)
        parts[drawn[np.argsort(labels[drawn], kind="stable")]] = np.arange(len(labels)) % min(PARTS, len(labels))
        return cls(replace(fit, split="feedback", skipped=()), labels, outliers, parts)


@dataclass(frozen=True, slots=True)
class Space:
    """The shared image-text space with what is known of it.

    `texts` (K, d) unit rows, the class texts t_k; `fit` ID images of the fit split with `fit_labels` (n,) indices into
    `classes`, both None where there are none; `bank` the antibodies (A >= 0).
    Raises SetupError for no class, repeated classes, wrong shapes or labels, NaN, rows that are not of unit norm, a
    logit scale that is not positive, and for images of another split than the one they stand for.
    """

    classes: tuple[str, ...]
    texts: FloatArray
    logit_scale: float
    fit: FeatureSet | None
    fit_labels: IntArray | None
    bank: Bank
    feedback: Feedback | None = None
    """For scores that make choices on it (`Score.uses_feedback`); the others do not look."""

    def __post_init__(self) -> None:
        check_unit_rows(self.texts, what="class texts")
        if not self.classes or len(self.classes) != len(self.texts):
            raise SetupError(f"{len(self.classes)} class name(s) with {len(self.texts)} text embedding(s)")
        if len(set(self.classes)) < len(self.classes):
            raise SetupError("the class list names a class twice; drop one of them")
        if not (math.isfinite(self.logit_scale) and self.logit_scale > 0):
            raise SetupError(f"the encoder's logit scale is {self.logit_scale}; it must be positive")
        check_unit_rows(self.bank.vectors, what="antibody vectors", dim=self.dim)
        if (self.fit is None) != (self.fit_labels is None):
            raise SetupError("fit images and their labels go together; give both or neither")
        if self.fit is not None and self.fit_labels is not None:
            what = f"fit set '{self.fit.name}'"
            if self.fit.split != "fit":
                split = "sealed test split" if self.fit.split == "test" else "feedback split"
                raise SetupError(f"{what} is of the {split}; a score is fitted on data.fit only")
            if not len(self.fit.features):
                raise SetupError(f"{what} has no images; leave out [data.fit] to go without")
            check_unit_rows(self.fit.features, what=what, dim=self.dim)
            check_labels(self.fit_labels, what=what, samples=len(self.fit.features), classes=len(self.classes))
        if self.feedback is not None:
            for images in (self.feedback.known, *self.feedback.outliers.values()):
                check_unit_rows(images.features, what=f"feedback set '{images.name}'", dim=self.dim)
            known = self.feedback.known
            check_labels(
                self.feedback.labels, what=f"set '{known.name}'", samples=len(known), classes=len(self.classes)
            )
            if self.feedback.parts is not None and (self.fit is None or self.feedback.parts.shape != (len(self.fit),)):
                raise SetupError("feedback in parts has the fit images as its known images; give both")

    def without(self, part: int) -> Space:
        """Return the space without a part of the fit images, which are the known feedback images as well."""
        if self.feedback is None or self.feedback.parts is None or self.fit is None or self.fit_labels is None:
            raise ImmunoError("only fit images that are the known feedback images too have parts")
        rows = np.flatnonzero(self.feedback.parts != part)
        feedback = Feedback(self.feedback.known.take(rows), self.feedback.labels[rows], self.feedback.outliers)
        return replace(self, fit=self.fit.take(rows), fit_labels=self.fit_labels[rows], feedback=feedback)

    @property
    def dim(self) -> int:
        """Dimensions d of the space."""
        return int(self.texts.shape[1])

"""What a score may be fitted on: known classes, ID fit images, a bank, and feedback images. Never the sealed test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from immuno_core.arrays import check_labels, check_unit_rows
from immuno_core.bank import Bank
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, FloatArray, IntArray

__all__ = ["Bank", "Feedback", "Space"]


@dataclass(frozen=True, slots=True, eq=False)
class Feedback:
    """Images of the feedback split: `known` with class indices `labels` (n,), and `outliers` by set name, unalterable.

    Raises SetupError for images of another split, and for an empty set.
    """

    known: FeatureSet
    labels: IntArray
    outliers: Mapping[str, FeatureSet]

    def __post_init__(self) -> None:
        for images in (self.known, *self.outliers.values()):
            if images.split != "feedback":
                raise SetupError(f"set '{images.name}' is of the split {images.split}; feedback takes feedback images")
            if not len(images):
                raise SetupError(f"the feedback set '{images.name}' has no image that could be read")
        object.__setattr__(self, "outliers", MappingProxyType(dict(self.outliers)))


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

    @property
    def dim(self) -> int:
        """Dimensions d of the space."""
        return int(self.texts.shape[1])

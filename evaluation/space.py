"""What a score may be fitted on: known classes, ID fit images, a bank, and feedback images. Never the sealed test."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from immuno_core.arrays import check_labels, check_unit_rows
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, FloatArray, IntArray
from immuno_core.records import AntibodyKind, ProposedAntibody


@dataclass(frozen=True, slots=True)
class Bank:
    """Antibodies used together, A of them. `vectors` (A, d) float32 unit rows; everything else has A entries in the
    same order.

    `guards` names the known class an antibody guards; "" where it guards no class in particular. Raises SetupError
    where lengths differ, ids repeat, or vectors are not finite unit rows.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    kinds: tuple[AntibodyKind, ...]
    guards: tuple[str, ...]
    vectors: FloatArray

    def __post_init__(self) -> None:
        check_unit_rows(self.vectors, what="antibody vectors")
        lengths = {len(self.ids), len(self.texts), len(self.kinds), len(self.guards), len(self.vectors)}
        if len(lengths) > 1:
            raise SetupError(
                f"a bank of {len(self.ids)} ids, {len(self.texts)} texts, {len(self.kinds)} kinds, "
                f"{len(self.guards)} guards and {len(self.vectors)} vectors; give each antibody one of each"
            )
        if len(set(self.ids)) < len(self.ids):
            repeated = next(one for i, one in enumerate(self.ids) if one in self.ids[:i])
            raise SetupError(f"two antibodies of a bank have the id '{repeated}'; drop one of them")

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def empty(cls, dim: int) -> Bank:
        """Return a bank without antibodies for embeddings of `dim` dimensions."""
        return cls((), (), (), (), np.zeros((0, dim), np.float32))

    @classmethod
    def of(cls, proposals: Sequence[ProposedAntibody], vectors: FloatArray) -> Bank:
        """Return the bank of texts from a file with their embeddings (A, d); their positions become their ids."""
        return cls(
            ids=tuple(str(i) for i in range(len(proposals))),
            texts=tuple(one.text for one in proposals),
            kinds=tuple(one.kind for one in proposals),
            guards=tuple(one.guards for one in proposals),
            vectors=vectors,
        )

    def take(self, rows: IntArray) -> Bank:
        """Return the antibodies of the given rows, in that order."""
        return Bank(
            ids=tuple(self.ids[i] for i in rows),
            texts=tuple(self.texts[i] for i in rows),
            kinds=tuple(self.kinds[i] for i in rows),
            guards=tuple(self.guards[i] for i in rows),
            vectors=self.vectors[rows],
        )

    def without(self, ids: Collection[str]) -> Bank:
        """Return the bank without the antibodies of these ids; ids that it does not have change nothing."""
        gone = frozenset(ids)
        return self.take(np.array([row for row, one in enumerate(self.ids) if one not in gone], dtype=np.int64))

    def concat(self, other: Bank) -> Bank:
        """Return this bank followed by another one. Raises SetupError for a repeated id or another dimension."""
        check_unit_rows(other.vectors, what="antibody vectors", dim=self.vectors.shape[1])
        return Bank(
            ids=self.ids + other.ids,
            texts=self.texts + other.texts,
            kinds=self.kinds + other.kinds,
            guards=self.guards + other.guards,
            vectors=np.concatenate([self.vectors, other.vectors]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Feedback:
    """Images of the feedback split: `known` with class indices `labels` (n,), and `outliers` by set name.

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


@dataclass(frozen=True, slots=True)
class Space:
    """The shared image-text space with what is known of it.

    `texts` (K, d) unit rows, the class texts t_k; `fit` ID images of the fit split with `fit_labels` (n,) indices into
    `classes`, both None where there are none; `bank` the antibodies (A >= 0).
    Raises SetupError for no class, repeated classes, wrong shapes or labels, NaN, rows that are not of unit norm, a
    logit scale that is not positive, and for images of the sealed test split.
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
            if self.fit.split == "test":
                raise SetupError(f"{what} is of the sealed test split; a score is fitted on data.fit only")
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

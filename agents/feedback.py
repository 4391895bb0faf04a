"""What the loop may measure on: the fit and feedback splits, embedded. The sealed test cannot get in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from evaluation.bank import Bank
from evaluation.features import FeatureSet, FloatArray, IntArray
from evaluation.space import Space
from immuno.errors import ImmunoError, SetupError


@dataclass(frozen=True, slots=True)
class FeedbackData:
    """Everything that a refinement session measures on.

    `texts` (K, d) unit rows; `known` are ID images with `known_labels` (n,); `outliers` maps set name to images.
    Raises ImmunoError when a set comes from the sealed test split, SetupError when there is nothing to measure on.
    """

    classes: tuple[str, ...]
    texts: FloatArray
    logit_scale: float
    fit: FeatureSet
    fit_labels: IntArray
    known: FeatureSet
    known_labels: IntArray
    outliers: Mapping[str, FeatureSet]
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Other names of classes, which no antibody may be."""

    def __post_init__(self) -> None:
        feedback = (self.known, *self.outliers.values())
        for images, split in ((self.fit, "fit"), *((one, "feedback") for one in feedback)):
            if images.split != split:
                raise ImmunoError(
                    f"set '{images.name}' is of the split '{images.split}', not '{split}': the loop sees no other split"
                )
        if not self.outliers:
            raise SetupError("the loop needs outliers to learn from; add at least one [[data.feedback]] set")
        object.__setattr__(self, "outliers", MappingProxyType(dict(self.outliers)))

    def space(self, bank: Bank) -> Space:
        """Return what a score is fitted on, with this bank."""
        return Space(
            classes=self.classes,
            texts=self.texts,
            logit_scale=self.logit_scale,
            fit=self.fit,
            fit_labels=self.fit_labels,
            bank=bank,
        )

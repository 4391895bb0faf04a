"""The image sets of the fit and feedback splits, and a fit set in halves. The sealed test is not to be had here.

Where images come from: evaluation.sources. The sealed test: evaluation.sealed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from evaluation.sources import Role, label_names, miniworld, read_source
from immuno.config import SourceConfig
from immuno.errors import ImmunoError, SetupError
from immuno.records import ImageSet, Sample, text_digest

__all__ = ["Halves", "OpenSplit", "Role", "hold_out", "label_names", "miniworld", "read_images"]

OpenSplit = Literal["fit", "feedback"]
"""The splits that the loop may see."""


def read_images(
    source: SourceConfig, *, name: str, role: Role, split: OpenSplit, seed: int, classes: Sequence[str] = ()
) -> ImageSet:
    """List the images of one source as a set of this name, role and split; see `evaluation.sources.read_source`.

    Raises SetupError as that does, and ImmunoError for the sealed test.
    """
    if split not in get_args(OpenSplit):
        raise ImmunoError(f"the split '{split}' is sealed; evaluation.sealed.SealedTest opens it, and keeps a record")
    return read_source(source, name=name, role=role, split=split, seed=seed, classes=classes)


class Halves(NamedTuple):
    """A fit set in two."""

    fit: ImageSet
    held_out: ImageSet
    """Of the split `feedback`."""


def hold_out(images: ImageSet, *, seed: int) -> Halves:
    """Set half of each label's images aside for feedback; the same ones for the same seed, whatever their order.

    Of an odd number, fit keeps one more. Raises SetupError where nothing is left to set aside (one image per label).
    """
    by_label: dict[str, list[Sample]] = {}
    for sample in images.samples:
        by_label.setdefault(sample.label, []).append(sample)
    kept: set[str] = set()
    for samples in by_label.values():
        drawn = sorted(sample.id for sample in samples)
        drawn.sort(key=lambda sample_id: text_digest(str(seed), sample_id))
        kept.update(drawn[: math.ceil(len(drawn) / 2)])
    held_out = tuple(sample for sample in images.samples if sample.id not in kept)
    if not held_out:
        raise SetupError(
            f"set '{images.name}' has one image per class, so none can be held out for feedback; "
            "add images, or give [data.feedback_id]"
        )
    fit = tuple(sample for sample in images.samples if sample.id in kept)
    return Halves(
        ImageSet(images.name, images.split, images.role, fit, _half_digest(images, seed, "fit")),
        ImageSet(images.name, "feedback", images.role, held_out, _half_digest(images, seed, "held out")),
    )


def _half_digest(images: ImageSet, seed: int, half: str) -> str:
    return text_digest(images.digest, "half", str(seed), half)

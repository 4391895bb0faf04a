"""Thresholds from a user's own known images, and what changes between two shields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evaluation.shield.thresholds import Thresholds
from evaluation.shield.verdicts import ShieldVerdict
from immuno.shield.shield import Embedded, Shield
from immuno_core.arrays import in_blocks
from immuno_core.errors import SetupError
from immuno_core.text import count

_THE_SAME = 1 - 1e-5
"""Cosine from which on two embeddings are of one image."""


class Recalibrated(NamedTuple):
    """A shield with new thresholds, and what is to be said of the images that set them."""

    shield: Shield
    warnings: tuple[str, ...]


def recalibrate(
    shield: Shield, images: Embedded, *, accept: float | None = None, per_class: bool = False, today: str
) -> Recalibrated:
    """Set the thresholds on known images; `accept` is the share to accept, by default the shield's own.

    Raises SetupError where none of them could be read.
    """
    artefact, before = shield.artefact, shield.manifest.thresholds
    if not len(images.features):
        why = next(iter(images.failures.values()), "no image")
        raise SetupError(f"none of the known images could be read ({why}); thresholds stay as they are")
    judged = artefact.head.judge(images.features)
    accept = before.accept if accept is None else accept
    thresholds = Thresholds.of(judged, shield.classes, accept=accept, review=before.review, per_class=per_class)
    warnings = []
    if images.failures:
        warnings.append(f"{count(len(images.failures), 'image')} could not be read and count for nothing")
    known = artefact.known
    if known is not None and known.fit is not None and len(known.fit):
        fit = known.fit.astype(np.float64)
        nearest = in_blocks(images.features, len(fit) + fit.shape[1], lambda x: (x @ fit.T).max(axis=1))
        if same := int(np.count_nonzero(nearest > _THE_SAME)):
            warnings.append(
                f"{count(same, 'image')} of {len(nearest)} made the shield themselves and score better than new ones "
                "would: the threshold is too high; give others"
            )
    change = f"{today}: thresholds set on {count(len(judged.score), 'known image')} to accept {100 * accept:g} %"
    return Recalibrated(shield.with_artefact(artefact.calibrated(judged, thresholds, change)), tuple(warnings))


@dataclass(frozen=True, slots=True)
class Change:
    """An image of which two shields do not say the same."""

    image: str
    before: ShieldVerdict
    after: ShieldVerdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two shields say of the same images; `moves` counts them by outcome before and after."""

    images: int
    moves: dict[tuple[str, str], int]
    relabelled: int
    """Of those that both accept, how many they take for different classes."""
    changes: tuple[Change, ...]
    """Where the outcome or the class of an accepted image is another, the largest change of typicality first."""


def compare(before: Sequence[ShieldVerdict], after: Sequence[ShieldVerdict]) -> Comparison:
    """Return what changes from the verdicts of one shield to those of another on the same images."""
    pairs = list(zip(before, after, strict=True))
    relabelled = [one for one in pairs if one[0].accepted and one[1].accepted and one[0].label != one[1].label]
    changed = [one for one in pairs if one[0].outcome != one[1].outcome] + relabelled

    def size(pair: tuple[ShieldVerdict, ShieldVerdict]) -> float:
        return -abs((pair[0].typicality or 0.0) - (pair[1].typicality or 0.0))

    return Comparison(
        images=len(pairs),
        moves=dict(Counter((one.outcome, other.outcome) for one, other in pairs)),
        relabelled=len(relabelled),
        changes=tuple(Change(one.image, one, other) for one, other in sorted(changed, key=size)),
    )

"""The feedback split in two halves: the loop learns from the first, and has what it learnt confirmed on the second.

Which half an image belongs to is drawn once per session, by the session's seed, the name of its set and its id: it does
not depend on the order of the images, and a resumed session draws the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agents.feedback import FeedbackData
from evaluation.features import FeatureSet, IntArray
from immuno.errors import SetupError
from immuno.records import text_digest


@dataclass(frozen=True, slots=True)
class Half:
    """Rows of the known feedback images, and of each outlier set, in ascending order."""

    known: IntArray
    outliers: Mapping[str, IntArray]


@dataclass(frozen=True, slots=True)
class Halves:
    """`first`: shown to the model, matures antibodies, proposes what to keep. `second`: only ever confirms."""

    first: Half
    second: Half


def halve(data: FeedbackData, *, seed: int) -> Halves:
    """Return the halves; of an odd number the first has one more. Raises SetupError for a set of a single image."""
    known = _halves_of(data.known, seed)
    outliers = {name: _halves_of(images, seed) for name, images in data.outliers.items()}
    first, second = (Half(known[i], {name: rows[i] for name, rows in outliers.items()}) for i in (0, 1))
    return Halves(first, second)


def _halves_of(images: FeatureSet, seed: int) -> tuple[IntArray, IntArray]:
    if len(images) < 2:
        raise SetupError(
            f"the feedback set '{images.name}' has {len(images)} image(s); the loop needs two at least, one to learn "
            "from and one to confirm on"
        )
    drawn = sorted(range(len(images)), key=lambda i: text_digest(str(seed), images.name, images.ids[i]))
    middle = (len(images) + 1) // 2
    return np.sort(np.array(drawn[:middle], np.int64)), np.sort(np.array(drawn[middle:], np.int64))

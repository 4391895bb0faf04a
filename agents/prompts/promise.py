"""What words promise as antibodies: which mis-accepted images each would reject, measured before anybody says it.

Nearness is a worse guide: what is near to an outlier is often near to known images too, and gets a radius that keeps it
silent. So every word is fitted as an antibody of its own, and counts for the images that it would push below the
threshold beside the bank in force, each outlier set with the same weight. Only images of the first half of the feedback
have a say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from agents.feedback import Boundary, feedback_of
from evaluation.antibodies.mining import mine
from evaluation.scores import configured_score
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.space import Bank, Space
from immuno_core.arrays import blocks, product
from immuno_core.config.methods import MethodConfig
from immuno_core.features import FloatArray, IntArray
from immuno_core.records import Antibody

Sample = tuple[str, int]
"""An outlier: the name of its set, and its row there."""
_DECIMALS = 9


class Promise:
    """Ranks words by what they would reject."""

    def __init__(self, space: Space, words: Sequence[str], vectors: FloatArray, score: MethodConfig) -> None:
        """`vectors` (W, d) are the words' embeddings as antibodies, which act on every class."""
        self._outliers = feedback_of(space).outliers
        bank = Bank.of([Antibody(word) for word in words], vectors)
        fitted = configured_score(score).fit(replace(space, bank=bank, feedback=None))
        self._form = fitted.form if isinstance(fitted, FittedCalibrated) else None
        self.far: IntArray = mine(vectors, space.texts, keep=1.0)
        """All words, those farthest from the known classes first."""

    def ranked(
        self, boundary: Boundary, mistakes: Mapping[str, Sequence[Sample]], classes: Collection[str]
    ) -> dict[str, IntArray]:
        """Return for each of the classes the words that would reject any mistake, of all classes, best first.

        First come those that reject more of its own mistakes than of another's, then those that reject none of any of
        these classes', then what is better for another of them; among equal ones, those that reject most of all.
        """
        every_mistake = [one for samples in mistakes.values() for one in samples]
        rejected, start, gains = self._rejected(boundary, every_mistake), 0, {}
        for name, samples in mistakes.items():
            weight = np.array([1 / len(self._outliers[of]) for of, _ in samples])
            gains[name] = (weight @ rejected[start : start + len(samples)]).round(_DECIMALS)
            start += len(samples)
        every = np.sum(list(gains.values()), axis=0).round(_DECIMALS)
        most = np.max([gains[name] for name in classes], axis=0)
        found = {}
        for name in classes:
            whose = np.where(most == 0, 1, np.where(gains[name] == most, 0, 2))
            order = np.lexsort((-every, -gains[name], whose))
            found[name] = order[every[order] > 0]
        return found

    def _rejected(self, boundary: Boundary, samples: Sequence[Sample]) -> NDArray[np.bool_]:
        """(s, W) which outliers each word would reject."""
        form, rejected = self._form, np.zeros((len(samples), len(self.far)), dtype=np.bool_)
        if form is None or not samples:
            return rejected
        features = np.stack([self._outliers[name].features[row] for name, row in samples])
        spare = np.array([boundary.outlier_scores[name][row] for name, row in samples]) - boundary.threshold
        now = boundary.fitted.exceedance(features).largest if form.combine == "max" else np.zeros(len(samples))
        for rows in blocks(len(samples), 2 * len(self.far)):
            images = form.images(features[rows].astype(np.float64))
            beyond = product(images.points, form.antibodies) - images.near[:, None] - form.radii
            rejected[rows] = form.weight * np.maximum(0, beyond - now[rows, None]) > spare[rows, None]
        return rejected

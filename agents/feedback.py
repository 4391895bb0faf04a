"""What the loop may measure on (fit and feedback, never the sealed test), and the boundary that a bank gives there.

Which half an image belongs to is drawn once per session, by the session's seed, the name of its set and its id: it does
not depend on the order of the images, and a resumed session draws the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.bootstrap import MethodScores
from evaluation.scores import configured_score
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.space import Bank, Feedback, Space
from immuno_core.config.methods import MethodConfig
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, IntArray
from immuno_core.records import text_digest


def fit_of(space: Space) -> tuple[FeatureSet, IntArray]:
    """Return the fit images of the loop's space, and their class indices. Raises SetupError where there are none."""
    if space.fit is None or space.fit_labels is None:
        raise SetupError("refining needs known images: add [data.fit] to the configuration")
    return space.fit, space.fit_labels


def feedback_of(space: Space) -> Feedback:
    """Return what the loop measures on. Raises SetupError where that is nothing."""
    if space.feedback is None:
        raise SetupError("refining needs known images: add [data.fit] to the configuration")
    if not space.feedback.outliers:
        raise SetupError("the loop needs outliers to learn from; add at least one [[data.feedback]] set")
    return space.feedback


def check_space(space: Space) -> None:
    """Raise SetupError where the loop has nothing to be fitted or measured on."""
    fit_of(space)
    feedback_of(space)


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


def halve(feedback: Feedback, *, seed: int) -> Halves:
    """Return the halves; of an odd number the first has one more. Raises SetupError for a set of a single image."""
    known = _halves_of(feedback.known, seed)
    outliers = {name: _halves_of(images, seed) for name, images in feedback.outliers.items()}
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


Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Boundary:
    """A fitted score with what it does to the feedback images; accept iff score >= `threshold`."""

    fitted: FittedCalibrated
    threshold: float
    known_scores: Scores
    right: NDArray[np.bool_]
    """Whether a known image is given its own class."""
    outlier_scores: Mapping[str, Scores]
    fpr95: Mapping[str, float]
    auroc: Mapping[str, float]

    @property
    def mean_fpr95(self) -> float:
        """The mean over the outlier sets, each counting once whatever its size."""
        return float(np.mean(list(self.fpr95.values())))

    @property
    def worst_fpr95(self) -> float:
        """That of the outlier set which the boundary accepts most of."""
        return max(self.fpr95.values())

    @property
    def mean_auroc(self) -> float:
        """The mean over the outlier sets."""
        return float(np.mean(list(self.auroc.values())))

    @property
    def id_accuracy(self) -> float:
        """The share of known images that are given their own class, accepted or not."""
        return float(np.mean(self.right))

    def as_metrics(self) -> dict[str, Any]:
        """Return the measured shares as plain JSON values."""
        return {
            "fpr95": dict(self.fpr95),
            "mean_fpr95": self.mean_fpr95,
            "worst_fpr95": self.worst_fpr95,
            "auroc": dict(self.auroc),
            "id_accuracy": self.id_accuracy,
            "threshold": self.threshold,
        }

    def on(self, half: Half) -> MethodScores:
        """Return the scores of a half's images."""
        return MethodScores(
            self.known_scores[half.known],
            self.right[half.known],
            {name: scores[half.outliers[name]] for name, scores in self.outlier_scores.items()},
        )

    def mis_accepted(self, name: str, half: Half) -> NDArray[np.int64]:
        """Return the rows of an outlier set, of one half, that the boundary wrongly accepts, highest score first."""
        rows, scores = half.outliers[name], self.outlier_scores[name]
        accepted = rows[scores[rows] >= self.threshold]
        return accepted[np.argsort(-scores[accepted], kind="stable")]


def measure(space: Space, bank: Bank, score: MethodConfig, acceptance: float) -> Boundary:
    """Fit the score with this bank on the fit split alone, and measure it on the feedback split."""
    feedback = feedback_of(space)
    fitted = configured_score(score).fit(replace(space, bank=bank, feedback=None))
    if not isinstance(fitted, FittedCalibrated):
        raise SetupError(f"refine.score is '{score.name}'; the loop needs a score with radii: use 'calibrated'")
    known = fitted.score(feedback.known.features)
    outliers = {name: fitted.score(images.features) for name, images in feedback.outliers.items()}
    return Boundary(
        fitted=fitted,
        threshold=metrics.threshold_at(known, acceptance),
        known_scores=known,
        right=fitted.predict(feedback.known.features) == feedback.labels,
        outlier_scores=outliers,
        fpr95={name: metrics.fpr95_id(known, scores) for name, scores in outliers.items()},
        auroc={name: metrics.auroc(known, scores) for name, scores in outliers.items()},
    )

"""The boundary that a bank gives, measured on the feedback split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.feedback import FeedbackData
from agents.halves import Half
from evaluation import metrics
from evaluation.bank import Bank
from evaluation.bootstrap import MethodScores
from evaluation.scores import FittedCalibrated, make_score
from immuno.config import MethodConfig
from immuno.errors import SetupError

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


def measure(data: FeedbackData, bank: Bank, score: MethodConfig, acceptance: float) -> Boundary:
    """Fit the score with this bank on the fit split, and measure it on the feedback split."""
    fitted = make_score(score.name, **score.params).fit(data.space(bank))
    if not isinstance(fitted, FittedCalibrated):
        raise SetupError(f"refine.score is '{score.name}'; the loop needs a score with radii: use 'calibrated'")
    known = fitted.score(data.known.features)
    outliers = {name: fitted.score(images.features) for name, images in data.outliers.items()}
    return Boundary(
        fitted=fitted,
        threshold=metrics.threshold_at(known, acceptance),
        known_scores=known,
        right=fitted.predict(data.known.features) == data.known_labels,
        outlier_scores=outliers,
        fpr95={name: metrics.fpr95_id(known, scores) for name, scores in outliers.items()},
        auroc={name: metrics.auroc(known, scores) for name, scores in outliers.items()},
    )

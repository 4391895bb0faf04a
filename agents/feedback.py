"""What the loop may measure on (fit and feedback, never the sealed test), and the boundary that a bank gives there.

Which half an image belongs to is drawn once per session, by the session's seed, the name of its set and its id: it does
not depend on the order of the images, and a resumed session draws the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation import metrics
from evaluation.bootstrap import MethodScores
from evaluation.effects.antibody_effects import AntibodyEffect, JudgedSets, antibody_effects, exposed_effects
from evaluation.effects.exposed import Exposed, ExposedInTurn
from evaluation.scores import configured_score
from evaluation.scores.calibrated import Calibrated, FittedCalibrated, Makings
from evaluation.space import Bank, Feedback, Space
from immuno_core.config.methods import MethodConfig
from immuno_core.errors import ImmunoError, SetupError
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
    judged: JudgedSets
    right: NDArray[np.bool_]
    """Whether a known image is given its own class."""
    fpr95: Mapping[str, float]
    auroc: Mapping[str, float]

    @property
    def known_scores(self) -> Scores:
        """Of the known images."""
        return self.judged.known.scores

    @property
    def outlier_scores(self) -> Mapping[str, Scores]:
        """By set."""
        return {name: judged.scores for name, judged in self.judged.outliers.items()}

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


def crosses(score: MethodConfig) -> bool:
    """Return whether the loop can measure a score on the images that it is fitted on, each left out (Feedback.parts).

    Others take what is measured on from the fit images. Raises SetupError for a score that cannot be made.
    """
    made = configured_score(score)
    return type(made) is Calibrated and made.combine == "max"


class Gauge:
    """Measures banks on one space: a score is fitted on the fit split alone, and measured on the feedback split.

    Where the known feedback images are the fit images (Feedback.parts), each is judged by the score without its part.
    Of the calibrated score, what no bank changes is computed once, and each antibody meets each image once.
    """

    def __init__(self, space: Space, score: MethodConfig, acceptance: float) -> None:
        self._feedback = feedback_of(space)
        crossed = self._feedback.parts is not None
        if crossed and not crosses(score):
            raise ImmunoError(f"the score '{score.name}' is not measured on the images that it is fitted on")
        self._space = space if crossed else replace(space, feedback=None)
        self._score, self._acceptance = score, acceptance
        score_made = configured_score(score)
        self._fit = _Fit(score_made, self._space) if type(score_made) is Calibrated else None
        self._exposed: _Exposures | None = None

    def measure(self, bank: Bank) -> Boundary:
        """Return the boundary that a bank gives. Raises SetupError for a score without radii."""
        feedback = self._feedback
        fitted = (
            configured_score(self._score).fit(replace(self._space, bank=bank))
            if self._fit is None
            else self._fit.with_bank(bank)
        )
        if not isinstance(fitted, FittedCalibrated):
            raise SetupError(
                f"refine.score is '{self._score.name}'; the loop needs a score with radii: use 'calibrated'"
            )
        exposed = self._exposures(fitted)
        judged = (
            JudgedSets.by(fitted, feedback.known, feedback.outliers)
            if exposed is None
            else JudgedSets(
                exposed.known.under(fitted), {name: one.under(fitted) for name, one in exposed.outliers.items()}
            )
        )
        known, outliers = judged.known.scores, {name: one.scores for name, one in judged.outliers.items()}
        return Boundary(
            fitted=fitted,
            threshold=metrics.threshold_at(known, self._acceptance),
            judged=judged,
            right=judged.known.nearest == feedback.labels,
            fpr95={name: metrics.fpr95_id(known, scores) for name, scores in outliers.items()},
            auroc={name: metrics.auroc(known, scores) for name, scores in outliers.items()},
        )

    def effects(self, fitted: FittedCalibrated, half: Half | None = None) -> tuple[AntibodyEffect, ...]:
        """Return what each antibody of a boundary's score does to the feedback images, or to those of a half."""
        feedback, acceptance, exposed = self._feedback, self._acceptance, self._exposures(fitted)
        labels = feedback.labels if half is None else feedback.labels[half.known]
        if exposed is not None:
            some = exposed if half is None else exposed.take(half)
            return exposed_effects(fitted, some.known, labels, some.outliers, acceptance=acceptance)
        known, outliers = feedback.known, feedback.outliers
        if half is not None:
            known = known.take(half.known)
            outliers = {name: images.take(half.outliers[name]) for name, images in outliers.items()}
        return antibody_effects(fitted, known, labels, outliers, acceptance=acceptance)

    def _exposures(self, fitted: FittedCalibrated) -> _Exposures | None:
        """The feedback images; None for a score of which more than radii may depend on the bank."""
        if type(fitted) is not FittedCalibrated or fitted.combine != "max":
            return None
        if self._exposed is None:
            known, outliers = self._feedback.known, self._feedback.outliers
            parts = self._feedback.parts
            self._exposed = _Exposures(
                Exposed(known.features, fitted)
                if parts is None or self._fit is None
                else ExposedInTurn(known.features, fitted, parts, self._fit.without_each(int(parts.max()) + 1)),
                {name: Exposed(images.features, fitted) for name, images in outliers.items()},
            )
        return self._exposed


class _Fit:
    """A calibrated score fitted to known images, to which banks that differ are added."""

    def __init__(self, score: Calibrated, space: Space) -> None:
        self._score, self._makings = score, Makings(score, space, crossed=space.feedback is not None)
        self._calibration = self._makings.calibrate(Bank.empty(space.dim))
        self._columns: dict[tuple[bytes, str, str], int] = {}

    def without_each(self, parts: int) -> list[FittedCalibrated]:
        """Return the score without an antibody, and without each part of the fit images."""
        bare = self.with_bank(Bank.empty(self._makings.space.dim))
        found = []
        for part in range(parts):
            base = self._makings.bases.without(part).base(self._score.w, self._score.v)
            vectors = bare.texts if base.prototypes is None else base.prototypes
            found.append(replace(bare, base=base, class_vectors=vectors))
        return found

    def with_bank(self, bank: Bank) -> FittedCalibrated:
        """Return the score with a bank; antibodies that were in none before are calibrated."""
        texts = bank.worded
        keys = list(zip((one.tobytes() for one in texts.vectors), texts.guards, texts.kinds, strict=True))
        new = {key: row for row, key in enumerate(keys) if key not in self._columns}
        if new:
            found = self._makings.calibrate(texts.take(np.array(list(new.values()), dtype=np.int64)))
            self._columns |= {key: len(self._columns) + i for i, key in enumerate(new)}
            self._calibration = self._calibration.concat(found)
        columns = np.array([self._columns[key] for key in keys], dtype=np.int64)
        return self._makings.fitted(self._score, texts, self._calibration.take(columns), bank.visual)


class _Exposures(NamedTuple):
    known: Exposed
    outliers: Mapping[str, Exposed]

    def take(self, half: Half) -> _Exposures:
        return _Exposures(
            self.known.take(half.known), {name: one.take(half.outliers[name]) for name, one in self.outliers.items()}
        )


def measure(space: Space, bank: Bank, score: MethodConfig, acceptance: float) -> Boundary:
    """Return the boundary that one bank gives (Gauge)."""
    return Gauge(space, score, acceptance).measure(bank)

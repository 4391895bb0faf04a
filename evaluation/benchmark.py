"""Every method on every sealed outlier set: embed once, score many.

A method's threshold to deploy accepts 95 % of the known *feedback* images (a score may bring its own instead), so the
shares accepted and rejected at it are what a user would see. 95 % intervals come from one paired bootstrap over all
methods (evaluation.bootstrap).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from evaluation import metrics
from evaluation.arms import Arms
from evaluation.bootstrap import MethodScores, Replicates, resample
from evaluation.features import Embedder, FeatureSet
from evaluation.presets import Planned
from evaluation.scores import make_score
from evaluation.scores.base import FittedScore, Floats, Score
from evaluation.sealed import ID_SET
from evaluation.space import Space
from immuno.config import MethodConfig
from immuno.errors import SetupError
from immuno.records import ResultRow

REPLICATES = 1000
INTERVALS = ("auroc", "fpr95_id", "fpr95_ood", "id_accuracy")
"""The metrics whose intervals a row carries."""


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """One row per method and outlier set, in the order given, and what is behind them.

    `measured` maps a method's label to what it says of the test images, in the order of the feature sets; `fitted` to
    the score as it was fitted, `thresholds` to the one to deploy. `replicates` are the bootstrap's. `left_out` says of
    methods of a preset why they cannot be measured here.
    """

    rows: tuple[ResultRow, ...]
    measured: Mapping[str, MethodScores]
    replicates: Replicates
    fitted: Mapping[str, FittedScore]
    thresholds: Mapping[str, float | None]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, dict[str, Floats]]:
        """Scores by method and set: of the known images under "id", of each outlier set under its name; (n,) each."""
        return {label: {ID_SET: one.known, **one.outliers} for label, one in self.measured.items()}


@dataclass(frozen=True, slots=True)
class _Method:
    """A method that is ready to measure."""

    label: str
    score: Score
    arm: str
    fitted: FittedScore
    antibodies: int
    threshold: float | None


def run_methods(
    arms: Arms,
    methods: Sequence[MethodConfig | Planned],
    known: FeatureSet,
    outliers: Sequence[FeatureSet],
    *,
    seed: int,
    embedder: Embedder | None = None,
    replicates: int = REPLICATES,
    on_method: Callable[[str], None] = lambda _: None,
) -> BenchmarkResult:
    """Fit each method on its arm's space, and measure it on the known test images and on each outlier set.

    `seed` is recorded in the rows, and is the bootstrap's. `embedder` is asked by scores that need patches.
    `on_method` is called with each label before it is measured. Rows carry every parameter in force, defaults included.
    Raises SetupError for unknown methods and parameters, two methods of one label, repeated set names, empty sets, and
    labels of known images that are not classes. A method of a preset that cannot be fitted here is left out instead.
    """
    planned = [one if isinstance(one, Planned) else Planned(one) for one in methods]
    labels = [one.label for one in planned]
    _check_distinct(labels, "methods", "give one of them a label")
    _check_distinct([ID_SET, *(images.name for images in outliers)], "test sets", "rename one of them")
    for images in (known, *outliers):
        if not len(images):
            raise SetupError(f"the test set '{images.name}' has no image that could be read")
    # Nothing is measured unless every method can be made.
    scores = [make_score(one.method.name, **one.method.params) for one in planned]
    classes = known.labels(arms.space("bank", scores[0]).classes)
    local = _LocalAnswers(embedder)
    found: dict[str, MethodScores] = {}
    ready: dict[str, _Method] = {}
    left_out: dict[str, str] = {}
    for one, score in zip(planned, scores, strict=True):
        on_method(one.label)
        try:
            method, space = _prepare(one, score, arms, local)
            of_known = method.fitted.score_set(local.asked(known, score, space))
            of_outliers = {
                images.name: method.fitted.score_set(local.asked(images, score, space)) for images in outliers
            }
        except SetupError as error:
            if not one.optional:
                raise SetupError(f"method '{one.label}': {error}") from None
            left_out[one.label] = str(error)
            continue
        right = method.fitted.predict(known.features) == classes
        found[one.label], ready[one.label] = MethodScores(of_known, right, of_outliers), method
    if not found:
        raise SetupError("no method could be measured: " + "; ".join(f"{k}: {v}" for k, v in left_out.items()))
    resampled = resample(found, seed=seed, count=replicates, names=INTERVALS)
    rows = tuple(
        _row(method, found[label], images, resampled, seed) for label, method in ready.items() for images in outliers
    )
    return BenchmarkResult(
        rows=rows,
        measured=found,
        replicates=resampled,
        fitted={label: method.fitted for label, method in ready.items()},
        thresholds={label: method.threshold for label, method in ready.items()},
        left_out=left_out,
    )


class _LocalAnswers:
    """Image sets with what scores want of their patches; each asked for once."""

    def __init__(self, embedder: Embedder | None) -> None:
        self._embedder = embedder
        self._answers: dict[tuple[str, str, str], Floats] = {}

    def asked(self, images: FeatureSet, score: Score, space: Space) -> FeatureSet:
        request = score.local_request(space)
        if request is None or request.key in images.local:
            return images
        if self._embedder is None:
            raise SetupError("it needs patch embeddings, and so an encoder")
        key = (images.split, images.name, request.key)
        if key not in self._answers:
            self._answers[key] = self._embedder.local_matching(images, request)
        return replace(images, local={**images.local, request.key: self._answers[key]})


def _prepare(one: Planned, score: Score, arms: Arms, local: _LocalAnswers) -> tuple[_Method, Space]:
    if one.method.arm is not None and not score.uses_bank:
        raise SetupError(f"the score '{score.name}' uses no antibodies; leave out arm = \"{one.method.arm}\"")
    arm = one.method.arm or score.default_arm
    space = arms.space(arm, score) if score.uses_bank else arms.space("bank", score)
    fitted = score.fit(space)
    threshold = fitted.own_threshold
    if threshold is None and space.feedback is not None:
        threshold = metrics.threshold_at(fitted.score_set(local.asked(space.feedback.known, score, space)))
    return (
        _Method(
            label=one.label,
            score=score,
            arm=arm if score.uses_bank else "",
            fitted=fitted,
            antibodies=len(space.bank) if score.uses_bank else 0,
            threshold=threshold,
        ),
        space,
    )


def _row(method: _Method, measured: MethodScores, images: FeatureSet, resampled: Replicates, seed: int) -> ResultRow:
    known, right, outliers = measured.known, measured.right, measured.outliers[images.name]
    accuracy, auroc = float(right.mean()), metrics.auroc(known, outliers)
    deployed = None if method.threshold is None else metrics.deployed(known, right, outliers, method.threshold)
    extra: dict[str, Any] = {} if method.label == method.score.name else {"score": method.score.name}
    if method.fitted.chosen:
        extra["chosen"] = method.fitted.chosen
    return ResultRow(
        method=method.label,
        params=method.score.params,
        seed=seed,
        ood=images.name,
        n_id=len(known),
        n_ood=len(outliers),
        auroc=auroc,
        aupr_in=metrics.aupr_in(known, outliers),
        aupr_out=metrics.aupr_out(known, outliers),
        fpr95_id=metrics.fpr95_id(known, outliers),
        fpr95_ood=metrics.fpr95_ood(known, outliers),
        id_accuracy=accuracy,
        antibodies=method.antibodies,
        arm=method.arm,
        h_score=metrics.h_score(accuracy, auroc),
        oscr=metrics.oscr(known, right, outliers),
        threshold=deployed.threshold if deployed else None,
        acceptance=deployed.acceptance if deployed else None,
        rejection=deployed.rejection if deployed else None,
        accepted_accuracy=deployed.accepted_accuracy if deployed else None,
        intervals=resampled.intervals(method.label, images.name),
        extra=extra,
    )


def _check_distinct(names: Sequence[str], what: str, mend: str) -> None:
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise SetupError(f"two {what} are called '{repeated[0]}'; {mend}")

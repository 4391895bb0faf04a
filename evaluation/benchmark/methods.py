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
from evaluation.benchmark.arms import Arms
from evaluation.benchmark.presets import Planned
from evaluation.bootstrap import MethodScores, Replicates, resample
from evaluation.data.sealed import ID_SET
from evaluation.scores.base import FittedScore, Floats, Score
from evaluation.scores.registry import make_score
from evaluation.space import Space
from immuno_core.config.methods import MethodConfig
from immuno_core.errors import SetupError
from immuno_core.features import Embedder, FeatureSet
from immuno_core.records import ResultRow

REPLICATES = 1000


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
class FittedMethod:
    """A method that is ready to measure, in its arm's space; `threshold` is the one to deploy."""

    label: str
    score: Score
    arm: str
    space: Space
    fitted: FittedScore
    threshold: float | None


@dataclass(frozen=True, slots=True)
class FittedMethods:
    """The methods of a run, before the sealed test is opened. `left_out` as in BenchmarkResult."""

    classes: tuple[str, ...]
    methods: tuple[FittedMethod, ...]
    left_out: Mapping[str, str]
    local: _LocalAnswers


def check_methods(methods: Sequence[MethodConfig | Planned]) -> None:
    """Check whatever can be checked of methods before anything is embedded.

    Raises SetupError for unknown scores and parameters, values out of range, an arm for a score without antibodies, and
    two methods of one label.
    """
    planned = _planned(methods)
    _check_distinct([one.label for one in planned], "methods", "give one of them a label")
    for one in planned:
        score = make_score(one.method.name, **one.method.params)
        if one.method.arm is not None and not score.uses_bank:
            raise SetupError(
                f"method '{one.label}': the score '{score.name}' uses no antibodies; "
                f'leave out arm = "{one.method.arm}"'
            )


def fit_methods(
    arms: Arms,
    methods: Sequence[MethodConfig | Planned],
    *,
    embedder: Embedder | None = None,
    on_method: Callable[[str], None] = lambda _: None,
) -> FittedMethods:
    """Fit each method on its arm's space; no test image is needed for that.

    `embedder` is asked by scores that need patches. `on_method` is called with each label before it is fitted.
    Raises SetupError as `check_methods` does, and for a method that cannot be fitted; one of a preset is left out then.
    """
    check_methods(methods)
    local = _LocalAnswers(embedder)
    ready: list[FittedMethod] = []
    left_out: dict[str, str] = {}
    for one in _planned(methods):
        on_method(one.label)
        try:
            ready.append(_fit(one, arms, local))
        except SetupError as error:
            if not one.optional:
                raise SetupError(f"method '{one.label}': {error}") from None
            left_out[one.label] = str(error)
    if not ready:
        raise SetupError("no method could be measured: " + "; ".join(f"{k}: {v}" for k, v in left_out.items()))
    return FittedMethods(ready[0].space.classes, tuple(ready), left_out, local)


def measure_methods(
    fitted: FittedMethods,
    known: FeatureSet,
    outliers: Sequence[FeatureSet],
    *,
    seed: int,
    replicates: int = REPLICATES,
    on_method: Callable[[str], None] = lambda _: None,
) -> BenchmarkResult:
    """Measure fitted methods on the known test images and on each outlier set.

    `seed` is recorded in the rows, and is the bootstrap's. `on_method` is called with each label before it is measured.
    Rows carry every parameter in force, defaults included. Raises SetupError for repeated set names, empty sets, labels
    of known images that are not classes, and embeddings of other dimensions.
    """
    _check_distinct([ID_SET, *(images.name for images in outliers)], "test sets", "rename one of them")
    for images in (known, *outliers):
        if not len(images):
            raise SetupError(f"the test set '{images.name}' has no image that could be read")
    classes = known.labels(fitted.classes)
    found: dict[str, MethodScores] = {}
    for method in fitted.methods:
        on_method(method.label)
        of_known, *of_outliers = (
            method.fitted.score_set(fitted.local.asked(images, method.score, method.space))
            for images in (known, *outliers)
        )
        right = method.fitted.predict(known.features) == classes
        names = (images.name for images in outliers)
        found[method.label] = MethodScores(of_known, right, dict(zip(names, of_outliers, strict=True)))
    with_interval = [name for name, metric in metrics.METRICS.items() if metric.interval]
    resampled = resample(found, seed=seed, count=replicates, names=with_interval)
    rows = tuple(
        _row(method, found[method.label], images, resampled, seed) for method in fitted.methods for images in outliers
    )
    return BenchmarkResult(
        rows=rows,
        measured=found,
        replicates=resampled,
        fitted={method.label: method.fitted for method in fitted.methods},
        thresholds={method.label: method.threshold for method in fitted.methods},
        left_out=fitted.left_out,
    )


def run_methods(
    arms: Arms,
    methods: Sequence[MethodConfig | Planned],
    known: FeatureSet,
    outliers: Sequence[FeatureSet],
    *,
    seed: int,
    embedder: Embedder | None = None,
    replicates: int = REPLICATES,
) -> BenchmarkResult:
    """Fit and measure in one go; see `fit_methods` and `measure_methods`."""
    fitted = fit_methods(arms, methods, embedder=embedder)
    return measure_methods(fitted, known, outliers, seed=seed, replicates=replicates)


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


def _planned(methods: Sequence[MethodConfig | Planned]) -> list[Planned]:
    return [one if isinstance(one, Planned) else Planned(one) for one in methods]


def _fit(one: Planned, arms: Arms, local: _LocalAnswers) -> FittedMethod:
    score = make_score(one.method.name, **one.method.params)
    arm = one.method.arm or score.default_arm
    space = arms.space(arm, score) if score.uses_bank else arms.space("bank", score)
    fitted = score.fit(space)
    threshold = fitted.own_threshold
    if threshold is None and space.feedback is not None:
        threshold = metrics.threshold_at(fitted.score_set(local.asked(space.feedback.known, score, space)))
    return FittedMethod(one.label, score, arm if score.uses_bank else "", space, fitted, threshold)


def _row(
    method: FittedMethod, measured: MethodScores, images: FeatureSet, resampled: Replicates, seed: int
) -> ResultRow:
    outliers = measured.outliers[images.name]
    extra: dict[str, Any] = {} if method.label == method.score.name else {"score": method.score.name}
    if method.fitted.chosen:
        extra["chosen"] = method.fitted.chosen
    return ResultRow(
        method=method.label,
        params=method.score.params,
        seed=seed,
        ood=images.name,
        n_id=len(measured.known),
        n_ood=len(outliers),
        metrics=metrics.measure(metrics.Scored(measured.known, measured.right, outliers, method.threshold)),
        antibodies=len(method.space.bank) if method.score.uses_bank else 0,
        arm=method.arm,
        intervals=resampled.intervals(method.label, images.name),
        extra=extra,
    )


def _check_distinct(names: Sequence[str], what: str, mend: str) -> None:
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise SetupError(f"two {what} are called '{repeated[0]}'; {mend}")

"""Every method on every sealed outlier set: embed once, score many.

A method's threshold to deploy accepts 95 % of the known *feedback* images, unless the score has one of its own, so the
shares accepted and rejected at it are what a user would see. 95 % intervals come from one paired bootstrap over all
methods (evaluation.bootstrap).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from evaluation import metrics
from evaluation.benchmark.arms import Arms
from evaluation.benchmark.presets import Planned
from evaluation.benchmark.settle import FEWEST
from evaluation.bootstrap import REPLICATES, MethodScores, Replicates, Threshold, resample
from evaluation.data.overlap import Disjoint
from evaluation.scores.base import FittedScore, Score, held_out
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.scores.choice import AUTO, choose_settings, free_settings
from evaluation.scores.own import is_own
from evaluation.scores.registry import configured_score, score_class
from evaluation.space import Space
from immuno_core.config.methods import MethodConfig
from immuno_core.errors import SetupError
from immuno_core.features import Embedder, FeatureSet, Floats, IntArray
from immuno_core.records import ID_SET, ResultRow, text_digest


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """One row per method and outlier set, in the order given, and what is behind them.

    `measured` maps a method's label to what it says of the test images, in the order of the feature sets; `fitted` to
    the score as it was fitted, `thresholds` to the one to deploy. `left_out` says of
    methods of a preset, and of users' own scores, why they cannot be measured here.
    """

    rows: tuple[ResultRow, ...]
    measured: Mapping[str, MethodScores]
    fitted: Mapping[str, FittedScore]
    thresholds: Mapping[str, Threshold | None]
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
    threshold: Threshold | None
    params: Mapping[str, Any]
    """Of the score, "auto" for what was chosen on the feedback."""
    figures: Mapping[str, Any]
    """What was chosen so, and why (evaluation.scores.choice.choose_settings)."""

    @property
    def antibodies(self) -> int:
        """How many it was given, and made of outliers without a text of them."""
        seen = len(self.fitted.bank.visual) if isinstance(self.fitted, FittedCalibrated) else 0
        return (len(self.space.bank.worded) if self.score.uses_bank else 0) + seen

    @property
    def uses_feedback(self) -> bool:
        """Whether outliers, told as such, had a say in it."""
        feedback = self.space.feedback
        return bool(self.figures or (self.score.uses_feedback and feedback is not None and feedback.outliers))

    @property
    def used(self) -> metrics.Used:
        """How many labelled images it has seen."""
        fit, feedback = self.space.fit, self.space.feedback if self.uses_feedback else None
        of_fit = len(fit) if fit and (self.score.uses_fit or (feedback and feedback.parts is not None)) else 0
        if feedback is None:
            return metrics.Used(of_fit, 0)
        apart = 0 if feedback.parts is not None else len(feedback.known)
        return metrics.Used(of_fit + apart, sum(map(len, feedback.outliers.values())))


@dataclass(frozen=True, slots=True)
class FittedMethods:
    """The methods of a run, before the sealed test is opened. `left_out` as in BenchmarkResult."""

    classes: tuple[str, ...]
    methods: tuple[FittedMethod, ...]
    left_out: Mapping[str, str]
    local: _LocalAnswers


def check_methods(methods: Sequence[MethodConfig | Planned]) -> None:
    """Check whatever can be checked of methods before anything is embedded.

    Raises SetupError for unknown scores and parameters, values out of range, an arm for a score without antibodies, a
    choice where there is none, and two methods of one label.
    """
    planned = _planned(methods)
    _check_distinct([one.label for one in planned], "methods", "give one of them a label")
    for one in planned:
        score = configured_score(one.method)
        if one.method.arm is not None and not score.uses_bank:
            raise SetupError(
                f"method '{one.label}': the score '{score.name}' uses no antibodies; "
                f'leave out arm = "{one.method.arm}"'
            )
        if one.method.choose:
            free_settings(score, one.method.params)


def fit_methods(
    arms: Arms,
    methods: Sequence[MethodConfig | Planned],
    *,
    embedder: Embedder | None = None,
    on_method: Callable[[str], None] = lambda _: None,
) -> FittedMethods:
    """Fit each method on its arm's space; no test image is needed for that.

    `embedder` is asked by scores that need patches. `on_method` is called with each label before it is fitted.
    Raises SetupError as `check_methods` does, and for a method that cannot be fitted; one of a preset, and a user's own
    score, is left out then.
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
            if not (one.optional or is_own(score_class(one.method.name, one.method.folder))):
                raise SetupError(f"method '{one.label}': {error}") from None
            left_out[one.label] = str(error)
    _check_any(ready, left_out)
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
    of known images that are not classes, and embeddings of other dimensions. A method that does not rank every image is
    left out: what the others measured is not lost for it.
    """
    _check_distinct([ID_SET, *(images.name for images in outliers)], "test sets", "rename one of them")
    for images in (known, *outliers):
        if not len(images):
            raise SetupError(f"the test set '{images.name}' has no image that could be read")
    classes = known.labels(fitted.classes)
    found: dict[str, MethodScores] = {}
    left_out = dict(fitted.left_out)
    for method in fitted.methods:
        on_method(method.label)
        try:
            found[method.label] = _scores(method, fitted.local, known, classes, outliers)
        except SetupError as error:
            left_out[method.label] = str(error)
    _check_any(found, left_out)
    measured = [method for method in fitted.methods if method.label in found]
    with_interval = [name for name, metric in metrics.METRICS.items() if metric.interval]
    resampled = resample(found, seed=seed, count=replicates, names=with_interval)
    rows = tuple(
        _row(method, found[method.label], images, resampled, seed) for method in measured for images in outliers
    )
    return BenchmarkResult(
        rows=rows,
        measured=found,
        fitted={method.label: method.fitted for method in measured},
        thresholds={method.label: method.threshold for method in measured},
        left_out=left_out,
    )


def rehearsal(space: Space, names: Sequence[str]) -> Disjoint:
    """Return sets in the place of the sealed ones of these names, the known one first: a few open images, some twice.

    Without any open image they are random embeddings. What fails on them would fail on the sealed sets.
    """
    feedback = space.feedback
    known = feedback.known if feedback else space.fit
    if known is None:
        rows = np.random.default_rng(0).normal(size=(FEWEST, space.dim))
        ids = tuple(f"rehearsal {i}" for i in range(FEWEST))
        labels = tuple(space.classes[i % len(space.classes)] for i in range(FEWEST))
        unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        known = FeatureSet("rehearsal", "feedback", unit, ids, labels, ids)
    outliers = next(iter(feedback.outliers.values()), known) if feedback else known

    def some(images: FeatureSet, name: str) -> FeatureSet:
        return replace(images.take(np.arange(FEWEST) % len(images)), name=name)

    unnamed = replace(outliers, label_names=("",) * len(outliers))
    return Disjoint(some(known, names[0]), tuple(some(unnamed, name) for name in names[1:]), ())


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
    """Image sets with what scores want of their patches, or of texts made for them; each asked for once."""

    def __init__(self, embedder: Embedder | None) -> None:
        self._embedder = embedder
        self._answers: dict[tuple[str, str, str], dict[str, Floats]] = {}

    def asked(self, images: FeatureSet, score: Score, space: Space) -> FeatureSet:
        answers = self._answers.setdefault((images.split, images.name, text_digest(*images.paths)), {})
        images, request = replace(images, local=answers | dict(images.local)), score.local_request(space)
        if request is not None and request.key not in images.local:
            if self._embedder is None:
                raise SetupError("it needs patch embeddings, and so an encoder")
            answer = self._embedder.local_matching(images, request)
            images = replace(images, local={**images.local, request.key: answer})
        images = score.prepared(images, space, self._embedder)
        answers |= images.local
        return images


def _planned(methods: Sequence[MethodConfig | Planned]) -> list[Planned]:
    return [one if isinstance(one, Planned) else Planned(one) for one in methods]


def _check_any(methods: Collection[Any], left_out: Mapping[str, str]) -> None:
    if not methods:
        raise SetupError("no method could be measured: " + "; ".join(f"{k}: {v}" for k, v in left_out.items()))


def _fit(one: Planned, arms: Arms, local: _LocalAnswers) -> FittedMethod:
    score = configured_score(one.method)
    arm = one.method.arm or score.default_arm
    with _told(score):
        space = arms.space(arm, score) if score.uses_bank else arms.space("bank", score)
        if is_own(type(score)):
            space = _read_only(space)
        params: dict[str, Any] = score.params
        figures: dict[str, Any] = {}
        if one.method.choose:
            params |= dict.fromkeys(free_settings(score, one.method.params), AUTO)
            texts = replace(space, bank=space.bank.unmatured)  # as they are chosen by
            score, figures = choose_settings(
                score, space, given=one.method.params, asked=lambda images, some: local.asked(images, some, texts)
            )
        fitted = score.fit(space)
        threshold = None if fitted.own_threshold is None else Threshold(fitted.own_threshold)
        if threshold is None and space.feedback is not None:
            settled = fitted.settled or score
            known = held_out(
                space,
                lambda some: fitted if some is space else settled.fit(some),
                _ranked,
                local.asked(space.feedback.known, score, space),
            )
            threshold = Threshold(metrics.threshold_at(known), known)
        if is_own(type(score)):
            _check_own(score, fitted, threshold, space)
    return FittedMethod(one.label, score, arm if score.uses_bank else "", space, fitted, threshold, params, figures)


def _scores(
    method: FittedMethod, local: _LocalAnswers, known: FeatureSet, classes: IntArray, outliers: Sequence[FeatureSet]
) -> MethodScores:
    """What a method says of the test images; of a user's own score all of it is checked."""
    own = is_own(type(method.score))
    with _told(method.score):
        sets = [_read_only(images) if own else images for images in (known, *outliers)]
        of_known, *of_outliers = (
            _ranked(method.fitted, local.asked(images, method.score, method.space)) for images in sets
        )
        right = method.fitted.predict(sets[0].features) == classes
        if own:
            for images in sets:
                _check_predicted(method.fitted, images, len(method.space.classes))
        fired = method.fitted.fires(sets[0].features) if isinstance(method.fitted, FittedCalibrated) else None
    by_set = {images.name: of for images, of in zip(outliers, of_outliers, strict=True)}
    return MethodScores(of_known, right, by_set, fired)


@contextmanager
def _told(score: Score) -> Iterator[None]:
    """Turn whatever a user's own score raises into a SetupError, so that the other methods go on."""
    try:
        yield
    except SetupError:
        raise
    except Exception as error:
        if not is_own(type(score)):
            raise
        raise SetupError(f"it raised {type(error).__name__}: {error}") from None


def _read_only(value: Any) -> Any:
    """The record with views of its arrays that cannot be written to: other methods are measured on the same ones."""
    if isinstance(value, np.ndarray):
        view = value.view()
        view.flags.writeable = False
        return view
    if isinstance(value, Mapping):
        return MappingProxyType({key: _read_only(inner) for key, inner in value.items()})
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: _read_only(getattr(value, each.name)) for each in fields(value)})
    return value


def _ranked(fitted: FittedScore, images: FeatureSet) -> Floats:
    """The scores (n,) of a set. Raises SetupError for another shape, and for NaN."""
    scores = np.asarray(fitted.score_set(images), dtype=np.float64)
    if scores.shape != (len(images),):
        raise SetupError(f"it gives scores of shape {scores.shape} for the {len(images)} images of '{images.name}'")
    if bad := int(np.isnan(scores).sum()):
        raise SetupError(f"{bad} of its {len(images)} scores of '{images.name}' are NaN; a score must rank every image")
    return scores


def _check_own(score: Score, fitted: FittedScore, threshold: Threshold | None, space: Space) -> None:
    """Find before the sealed test is opened what would be wrong with a user's own score there."""
    for images in (space.fit, space.feedback.known if space.feedback else None):
        if images is not None:
            _check_predicted(fitted, images, len(space.classes))
    if threshold is not None and not float(threshold.value) == threshold.value:
        raise SetupError(f"its threshold is {threshold.value}; it must be a number")
    try:
        json.dumps([score.params, fitted.chosen], allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SetupError(f"its parameters, and what it says that it chose, must be strict JSON: {error}") from None


def _check_predicted(fitted: FittedScore, images: FeatureSet, classes: int) -> None:
    predicted = np.asarray(fitted.predict(images.features))
    if predicted.shape != (len(images),) or predicted.dtype.kind not in "iu":
        raise SetupError(
            f"it predicts {predicted.dtype} {predicted.shape}, not a class for each of {len(images)} images"
        )
    if len(predicted) and not 0 <= int(predicted.min()) <= int(predicted.max()) < classes:
        raise SetupError(f"it predicts classes that are none of the {classes}")


def _row(
    method: FittedMethod, measured: MethodScores, images: FeatureSet, resampled: Replicates, seed: int
) -> ResultRow:
    outliers = measured.outliers[images.name]
    extra: dict[str, Any] = {} if method.label == method.score.name else {"score": method.score.name}
    if method.uses_feedback:
        extra["uses_feedback"] = True
    if method.fitted.remarks:
        extra["remarks"] = list(method.fitted.remarks)
    if chosen := {**method.fitted.chosen, **method.figures}:
        extra["chosen"] = chosen
    return ResultRow(
        method=method.label,
        params=method.params,
        seed=seed,
        ood=images.name,
        n_id=len(measured.known),
        n_ood=len(outliers),
        metrics=metrics.measure(
            metrics.Scored(
                measured.known,
                measured.right,
                outliers,
                None if method.threshold is None else method.threshold.value,
                method.used,
                images.label_names,
                measured.fired,
            )
        ),
        antibodies=method.antibodies,
        arm=method.arm,
        intervals=resampled.intervals(method.label, images.name),
        extra=extra,
    )


def _check_distinct(names: Sequence[str], what: str, mend: str) -> None:
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise SetupError(f"two {what} are called '{repeated[0]}'; {mend}")

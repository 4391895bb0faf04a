"""Every method on every sealed outlier set: embed once, score many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation import metrics
from evaluation.features import FeatureSet
from evaluation.scores import make_score
from evaluation.scores.base import Floats
from evaluation.sealed import ID_SET
from evaluation.space import Space
from immuno.config import MethodConfig
from immuno.errors import SetupError
from immuno.records import ResultRow


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """One row per method and outlier set, in the order given, and every score behind them.

    `scores` maps a method's label to its scores by set: of the known images under "id", of each outlier set under its
    name; (n,) each, in the order of the feature sets.
    """

    rows: tuple[ResultRow, ...]
    scores: Mapping[str, Mapping[str, Floats]]


def run_methods(
    space: Space, methods: Sequence[MethodConfig], known: FeatureSet, outliers: Sequence[FeatureSet], *, seed: int
) -> BenchmarkResult:
    """Fit each method on the space, and measure it on the known test images and on each outlier set.

    `seed` is recorded in the rows. Rows carry every parameter in force, defaults included. Nothing is measured unless
    every method can be made. Raises SetupError for unknown methods and parameters, two methods of one label, repeated
    set names, empty sets, and labels of known images that are not classes.
    """
    labels = [method.label or method.name for method in methods]
    names = [ID_SET, *(images.name for images in outliers)]
    _check_distinct(labels, "methods", "give one of them a label")
    _check_distinct(names, "test sets", "rename one of them")
    for images in (known, *outliers):
        if not len(images):
            raise SetupError(f"the test set '{images.name}' has no image that could be read")
    classes = known.labels(space.classes)
    scores = {label: make_score(method.name, **method.params) for label, method in zip(labels, methods, strict=True)}
    rows: list[ResultRow] = []
    found: dict[str, dict[str, Floats]] = {}
    for label, score in scores.items():
        fitted = score.fit(space)
        of_known = fitted.score(known.features)
        found[label] = {ID_SET: of_known}
        accuracy = metrics.id_accuracy(fitted.predict(known.features), classes)
        for images in outliers:
            of_outliers = fitted.score(images.features)
            found[label][images.name] = of_outliers
            rows.append(
                ResultRow(
                    method=label,
                    params=score.params,
                    seed=seed,
                    ood=images.name,
                    n_id=len(of_known),
                    n_ood=len(of_outliers),
                    auroc=metrics.auroc(of_known, of_outliers),
                    aupr_in=metrics.aupr_in(of_known, of_outliers),
                    aupr_out=metrics.aupr_out(of_known, of_outliers),
                    fpr95_id=metrics.fpr95_id(of_known, of_outliers),
                    fpr95_ood=metrics.fpr95_ood(of_known, of_outliers),
                    id_accuracy=accuracy,
                    antibodies=len(space.bank) if score.uses_bank else 0,
                    extra={} if label == score.name else {"score": score.name},
                )
            )
    return BenchmarkResult(tuple(rows), found)


def _check_distinct(names: Sequence[str], what: str, mend: str) -> None:
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise SetupError(f"two {what} are called '{repeated[0]}'; {mend}")

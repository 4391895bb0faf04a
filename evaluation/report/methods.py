"""Method by method: every metric averaged over the headline sets, and what the deployed threshold does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from evaluation.report.measured import Cell, Measured
from evaluation.report.model import Row, WithoutLeaks
from evaluation.report.table import by_mean_fpr95

_MEANS: Final[dict[str, tuple[str, Callable[[Cell], float | None]]]] = {
    "FPR95": ("↓", lambda cell: cell.fpr95_id),
    "FPR95, OOD": ("↓", lambda cell: cell.fpr95_ood),
    "AUROC": ("↑", lambda cell: cell.auroc),
    "AUPR in": ("↑", lambda cell: cell.aupr_in),
    "AUPR out": ("↑", lambda cell: cell.aupr_out),
    "OSCR": ("↑", lambda cell: cell.oscr),
    "H-score": ("↑", lambda cell: cell.h_score),
}


@dataclass(frozen=True, slots=True)
class MetricColumn:
    """A metric's title and the arrow of its better direction."""

    title: str
    better: str


@dataclass(frozen=True, slots=True)
class Deployed:
    """The deployed threshold of a method, and what it does to the known test images and, on average, to outliers."""

    threshold: float
    acceptance: float | None
    accepted_accuracy: float | None
    rejection: float | None


@dataclass(frozen=True, slots=True)
class MethodLine:
    """One method: its means in the order of the columns (shares), and its threshold where it has one."""

    method: str
    means: tuple[float | None, ...]
    id_accuracy: float | None
    deployed: Deployed | None


@dataclass(frozen=True, slots=True)
class MethodTable:
    """The table by method. Metrics that no method has are left out."""

    columns: tuple[MetricColumn, ...]
    lines: tuple[MethodLine, ...]
    has_thresholds: bool


def method_table(measured: Measured) -> MethodTable:
    """Average every metric over the headline sets; best mean FPR95 first."""
    sets = measured.headline_sets
    methods = by_mean_fpr95(measured)
    means = {title: [measured.over(m, sets, metric) for m in methods] for title, (_, metric) in _MEANS.items()}
    present = [title for title, values in means.items() if any(value is not None for value in values)]
    lines = tuple(
        MethodLine(
            method=method,
            means=tuple(means[title][i] for title in present),
            id_accuracy=measured.id_accuracy(method),
            deployed=_deployed(measured, method),
        )
        for i, method in enumerate(methods)
    )
    return MethodTable(
        columns=tuple(MetricColumn(title, _MEANS[title][0]) for title in present),
        lines=lines,
        has_thresholds=any(line.deployed for line in lines),
    )


def _deployed(measured: Measured, method: str) -> Deployed | None:
    sets = measured.headline_sets
    cell = next((found for name in measured.sets if (found := measured.cell(method, name)) is not None), None)
    if cell is None or cell.threshold is None:
        return None
    return Deployed(
        threshold=cell.threshold,
        acceptance=cell.acceptance,
        accepted_accuracy=cell.accepted_accuracy,
        rejection=measured.over(method, sets, lambda each: each.rejection),
    )


@dataclass(frozen=True, slots=True)
class LeakLine:
    """A method on one set, with the whole bank and without the antibodies that name an outlier class."""

    method: str
    outlier_set: str
    fpr95: float | None
    auroc: float | None
    without: WithoutLeaks


def leak_lines(rows: Sequence[Row]) -> list[LeakLine]:
    """The rows that were also measured without leaking antibodies, in their order."""
    return [
        LeakLine(row.method, row.ood, row.fpr95_id, row.auroc, row.extra.without_leaks)
        for row in rows
        if row.extra.without_leaks is not None
    ]


def chosen_by(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """What each method chose by a rule while it was fitted (once for all sets); methods that chose nothing left out."""
    return {row.method: row.extra.chosen for row in rows if row.extra.chosen}

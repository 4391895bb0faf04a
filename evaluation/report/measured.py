"""The rows of a benchmark, indexed by method and outlier set, and the means that the headline and the table share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from evaluation.report.model import Interval, Results, Row
from evaluation.table_order import Group, best_without_antibodies, group_of, headline_sets, unseen_of


@dataclass(frozen=True, slots=True)
class Cell:
    """A method on one set: its metrics (shares; None where undefined), averaged over the seeds."""

    auroc: float | None
    fpr95_id: float | None
    fpr95_ood: float | None
    aupr_in: float | None
    aupr_out: float | None
    id_accuracy: float | None
    n_id: int | None
    n_ood: int | None
    seeds: int
    oscr: float | None
    h_score: float | None
    threshold: float | None
    acceptance: float | None
    rejection: float | None
    accepted_accuracy: float | None
    intervals: Mapping[str, Interval]
    """95 % intervals by metric; empty where the cell is a mean over seeds, which has none."""


class Measured:
    """Rows by method and set, both in the order of the file."""

    def __init__(self, results: Results) -> None:
        self._rows = results.rows
        by_key: dict[tuple[str, str], list[Row]] = {}
        for row in results.rows:
            by_key.setdefault((row.method, row.ood), []).append(row)
        self._cells = {key: _average(rows) for key, rows in by_key.items()}
        self._antibodies: dict[str, int] = {}
        for row in results.rows:
            self._antibodies[row.method] = max(row.antibodies, self._antibodies.get(row.method, 0))
        self._arms = {row.method: row.arm for row in results.rows}
        self.methods: tuple[str, ...] = tuple(self._antibodies)
        self.sets: tuple[str, ...] = tuple(dict.fromkeys(row.ood for row in results.rows))
        self.headline_sets: tuple[str, ...] = headline_sets(self.sets)
        self.unseen_sets: tuple[str, ...] = unseen_of(self.sets, results.unseen, _feedback(results))
        self.has_intervals: bool = any(cell.intervals.get("fpr95_id") for cell in self._cells.values())
        self.seeds: int = max((cell.seeds for cell in self._cells.values()), default=0)

    def cell(self, method: str, outlier_set: str) -> Cell | None:
        """The metrics of a method on a set; None where it was not measured."""
        return self._cells.get((method, outlier_set))

    def antibodies(self, method: str) -> int:
        """How many antibodies a method uses; 0 for a method without a bank."""
        return self._antibodies[method]

    def arm(self, method: str) -> str:
        """Which antibodies a method was given; "" where that is not recorded or it uses none."""
        return self._arms[method]

    def group(self, method: str) -> Group:
        """The group of the tables in which a method stands."""
        return group_of(self._arms[method], self._antibodies[method])

    def fpr95(self, method: str, sets: Sequence[str], over: Callable[[Iterable[float]], float] = fmean) -> float | None:
        """Mean (or another summary) of fpr95_id over sets; None unless it was measured on every one of them."""
        return self.over(method, sets, lambda cell: cell.fpr95_id, over)

    def auroc(self, method: str, sets: Sequence[str], over: Callable[[Iterable[float]], float] = fmean) -> float | None:
        """Mean (or another summary) of the AUROC over sets; None unless it was measured on every one of them."""
        return self.over(method, sets, lambda cell: cell.auroc, over)

    def over(
        self,
        method: str,
        sets: Sequence[str],
        metric: Callable[[Cell], float | None],
        over: Callable[[Iterable[float]], float] = fmean,
    ) -> float | None:
        """Mean (or another summary) of a metric over sets; None unless it was measured on every one of them."""
        cells = [self.cell(method, name) for name in sets]
        values = [value for cell in cells if cell is not None and (value := metric(cell)) is not None]
        return over(values) if values and len(values) == len(sets) else None

    def id_accuracy(self, method: str) -> float | None:
        """Mean ID accuracy of a method over its rows (one value, as the known images are the same)."""
        found = [self._cells[key].id_accuracy for key in self._cells if key[0] == method]
        return _mean(found)

    def best_without_antibodies(self, sets: Sequence[str]) -> str | None:
        """The best method without antibodies over the sets (evaluation.table_order); None where there is none."""
        return best_without_antibodies(self._rows, sets)


def _feedback(results: Results) -> set[str]:
    """The names of the sets in the loop's feedback."""
    return {name for g in (results.session.generations if results.session else ()) for name in g.fpr95}


def _average(rows: Sequence[Row]) -> Cell:
    return Cell(
        auroc=_mean(row.auroc for row in rows),
        fpr95_id=_mean(row.fpr95_id for row in rows),
        fpr95_ood=_mean(row.fpr95_ood for row in rows),
        aupr_in=_mean(row.aupr_in for row in rows),
        aupr_out=_mean(row.aupr_out for row in rows),
        id_accuracy=_mean(row.id_accuracy for row in rows),
        n_id=rows[0].n_id,
        n_ood=rows[0].n_ood,
        seeds=len(rows),
        oscr=_mean(row.oscr for row in rows),
        h_score=_mean(row.h_score for row in rows),
        threshold=_mean(row.threshold for row in rows),
        acceptance=_mean(row.acceptance for row in rows),
        rejection=_mean(row.rejection for row in rows),
        accepted_accuracy=_mean(row.accepted_accuracy for row in rows),
        intervals=rows[0].intervals if len(rows) == 1 else {},
    )


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return fmean(present) if present else None

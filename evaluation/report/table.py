"""The results table: methods against outlier sets, the best value of every column marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evaluation.report.measured import Cell, Measured


@dataclass(frozen=True, slots=True)
class Column:
    """One column: an outlier set, or a summary over several."""

    title: str
    kind: str
    """set, mean or worst: only the title of a set is untrusted text."""
    unseen: bool
    sets: tuple[str, ...]
    n_ood: int | None = None
    opens_group: bool = False
    """Whether a rule separates it from the column before."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell: FPR95 and AUROC (shares), each with whether it is the best of its column."""

    fpr95: float | None
    auroc: float | None
    best_fpr95: bool
    best_auroc: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One method."""

    method: str
    antibodies: int
    id_accuracy: float | None
    best_id_accuracy: bool
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class FullLine:
    """One method on one set, with every metric."""

    method: str
    outlier_set: str
    antibodies: int
    cell: Cell


@dataclass(frozen=True, slots=True)
class ResultTable:
    """The table, its lines split by whether a method uses antibodies."""

    columns: tuple[Column, ...]
    without: tuple[Line, ...]
    with_bank: tuple[Line, ...]
    full: tuple[FullLine, ...]

    @property
    def spans(self) -> tuple[tuple[str, int], ...]:
        """The header's groups: (`main`, `unseen` or `over all`, how many columns), without the empty ones."""
        worst = sum(column.kind == "worst" for column in self.columns)
        unseen = sum(column.unseen for column in self.columns)
        counts = (("main", len(self.columns) - unseen - worst), ("unseen", unseen), ("all", worst))
        return tuple((name, count) for name, count in counts if count)


def build_table(measured: Measured) -> ResultTable:
    """Lay the measurements out; percentages that look equal when printed are equally best."""
    columns = _columns(measured)
    fpr95 = [[_fpr95(measured, m, c) for c in columns] for m in measured.methods]
    auroc = [[_auroc(measured, m, c) for c in columns] for m in measured.methods]
    accuracy = [measured.id_accuracy(m) for m in measured.methods]
    lowest = [_marks([line[k] for line in fpr95], min) for k in range(len(columns))]
    highest = [_marks([line[k] for line in auroc], max) for k in range(len(columns))]
    accurate = _marks(accuracy, max)
    lines = [
        Line(
            method=method,
            antibodies=measured.antibodies(method),
            id_accuracy=accuracy[i],
            best_id_accuracy=accurate[i],
            entries=tuple(
                Entry(fpr95[i][k], auroc[i][k], best_fpr95=lowest[k][i], best_auroc=highest[k][i])
                for k in range(len(columns))
            ),
        )
        for i, method in enumerate(measured.methods)
    ]
    return ResultTable(
        columns=columns,
        without=tuple(line for line in lines if not line.antibodies),
        with_bank=tuple(line for line in lines if line.antibodies),
        full=tuple(
            FullLine(method, name, measured.antibodies(method), cell)
            for name in measured.sets
            for method in measured.methods
            if (cell := measured.cell(method, name)) is not None
        ),
    )


def _columns(measured: Measured) -> tuple[Column, ...]:
    seen = tuple(name for name in measured.sets if name not in measured.unseen_sets)
    columns: list[Column] = []
    if len(measured.headline_sets) > 1:
        columns.append(Column("mean", "mean", unseen=False, sets=measured.headline_sets))
    columns += [_set_column(measured, name, unseen=False) for name in seen]
    if len(measured.unseen_sets) > 1:
        columns.append(Column("mean", "mean", unseen=True, sets=measured.unseen_sets, opens_group=True))
    columns += [
        _set_column(measured, name, unseen=True, opens_group=len(measured.unseen_sets) == 1)
        for name in measured.unseen_sets
    ]
    if len(measured.sets) > 1:
        columns.append(Column("worst", "worst", unseen=False, sets=measured.sets, opens_group=True))
    return tuple(columns)


def _set_column(measured: Measured, name: str, *, unseen: bool, opens_group: bool = False) -> Column:
    sizes = [cell.n_ood for method in measured.methods if (cell := measured.cell(method, name)) is not None]
    return Column(name, "set", unseen, (name,), n_ood=sizes[0] if sizes else None, opens_group=opens_group)


def _fpr95(measured: Measured, method: str, column: Column) -> float | None:
    if column.kind == "worst":
        return measured.fpr95(method, column.sets, over=max)
    return measured.fpr95(method, column.sets)


def _auroc(measured: Measured, method: str, column: Column) -> float | None:
    if column.kind == "worst":
        return measured.auroc(method, column.sets, over=min)
    return measured.auroc(method, column.sets)


def _marks(values: Sequence[float | None], choose: Callable[[list[float]], float]) -> list[bool]:
    """Which values print as the best one; nothing is marked where there is nothing to compare."""
    shown = [None if value is None else round(100 * value, 1) for value in values]
    present = [value for value in shown if value is not None]
    if len(present) < 2:
        return [False] * len(values)
    best = choose(present)
    return [value == best for value in shown]

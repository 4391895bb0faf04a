"""The results table: methods against outlier sets, the best value of every column marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from evaluation.report.measured import Cell, Measured
from evaluation.report.model import Interval, Published
from evaluation.table_order import GROUP_TITLES, Group, same_name


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
    """One cell: FPR95 (with its 95 % interval) and AUROC (shares), each with whether it is the best of its column."""

    fpr95: float | None
    auroc: float | None
    interval: Interval = None
    best_fpr95: bool = False
    best_auroc: bool = False
    fpr95_ood: float | None = None
    """The other FPR95, where a paper gives that one."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no figure in it."""
        return self.fpr95 is None and self.auroc is None and self.fpr95_ood is None


@dataclass(frozen=True, slots=True)
class PublishedLine:
    """What a paper gives for a method, in the columns of the table."""

    method: str
    source: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One method, and what papers give for a method of the same name."""

    method: str
    antibodies: int
    arm: str
    id_accuracy: float | None
    best_id_accuracy: bool
    entries: tuple[Entry, ...]
    published: tuple[PublishedLine, ...]


@dataclass(frozen=True, slots=True)
class LineGroup:
    """The methods of one group, best mean FPR95 first."""

    name: Group
    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class FullLine:
    """One method on one set, with every metric."""

    method: str
    outlier_set: str
    antibodies: int
    cell: Cell


@dataclass(frozen=True, slots=True)
class ResultTable:
    """The table, its lines grouped by which antibodies a method uses."""

    columns: tuple[Column, ...]
    groups: tuple[LineGroup, ...]
    published: tuple[PublishedLine, ...]
    """Figures for methods that were not measured here."""
    full: tuple[FullLine, ...]

    @property
    def spans(self) -> tuple[tuple[str, int], ...]:
        """The header's groups: (`main`, `unseen` or `over all`, how many columns), without the empty ones."""
        worst = sum(column.kind == "worst" for column in self.columns)
        unseen = sum(column.unseen for column in self.columns)
        counts = (("main", len(self.columns) - unseen - worst), ("unseen", unseen), ("all", worst))
        return tuple((name, count) for name, count in counts if count)


def build_table(measured: Measured, published: Sequence[Published] = ()) -> ResultTable:
    """Lay the measurements out; percentages that look equal when printed are equally best."""
    columns = _columns(measured)
    methods = by_mean_fpr95(measured)
    fpr95 = [[_fpr95(measured, m, c) for c in columns] for m in methods]
    auroc = [[_auroc(measured, m, c) for c in columns] for m in methods]
    accuracy = [measured.id_accuracy(m) for m in methods]
    lowest = [_marks([line[k] for line in fpr95], min) for k in range(len(columns))]
    highest = [_marks([line[k] for line in auroc], max) for k in range(len(columns))]
    accurate = _marks(accuracy, max)
    quoted = _published_lines(published, columns)
    lines = [
        Line(
            method=method,
            antibodies=measured.antibodies(method),
            arm=measured.arm(method),
            id_accuracy=accuracy[i],
            best_id_accuracy=accurate[i],
            entries=tuple(
                Entry(fpr95[i][k], auroc[i][k], _interval(measured, method, column), lowest[k][i], highest[k][i])
                for k, column in enumerate(columns)
            ),
            published=tuple(line for line in quoted if same_name(line.method, method)),
        )
        for i, method in enumerate(methods)
    ]
    groups = (
        LineGroup(name, title, tuple(line for line in lines if measured.group(line.method) == name))
        for name, title in GROUP_TITLES.items()
    )
    return ResultTable(
        columns=columns,
        groups=tuple(group for group in groups if group.lines),
        published=tuple(line for line in quoted if not any(same_name(line.method, m) for m in methods)),
        full=tuple(
            FullLine(method, name, measured.antibodies(method), cell)
            for name in measured.sets
            for method in methods
            if (cell := measured.cell(method, name)) is not None
        ),
    )


def by_mean_fpr95(measured: Measured) -> list[str]:
    """The methods, lowest mean FPR95 over the headline sets first; those without a mean last."""

    def key(method: str) -> tuple[bool, float]:
        mean = measured.fpr95(method, measured.headline_sets)
        return mean is None, mean or 0.0

    return sorted(measured.methods, key=key)


def _interval(measured: Measured, method: str, column: Column) -> Interval:
    """The interval of a single set. That of a mean over sets cannot be had from theirs: they share the known images."""
    cell = measured.cell(method, column.sets[0]) if column.kind == "set" else None
    return cell.intervals.get("fpr95_id") if cell else None


def _published_lines(published: Sequence[Published], columns: Sequence[Column]) -> tuple[PublishedLine, ...]:
    """One line per method and source that has a figure for a set of the table."""
    lines: dict[tuple[str, str], list[Published]] = {}
    for figure in published:
        lines.setdefault((figure.method, figure.source), []).append(figure)
    shown = (
        PublishedLine(method, source, tuple(_published_entry(figures, column) for column in columns))
        for (method, source), figures in lines.items()
    )
    return tuple(line for line in shown if not all(entry.is_empty for entry in line.entries))


def _published_entry(figures: Sequence[Published], column: Column) -> Entry:
    """A figure for a set, or the mean where the paper gives every set of the column; none for the worst set."""
    if column.kind == "worst":
        return Entry(None, None)
    found = [next((figure for figure in figures if figure.set == name), None) for name in column.sets]

    def mean(metric: Callable[[Published], float | None]) -> float | None:
        values = [value for figure in found if figure is not None and (value := metric(figure)) is not None]
        return fmean(values) if len(values) == len(column.sets) else None

    return Entry(mean(lambda f: f.fpr95_id), mean(lambda f: f.auroc), fpr95_ood=mean(lambda f: f.fpr95_ood))


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

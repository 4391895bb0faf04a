"""The tables of the page: methods against outlier sets, method by method, several seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from evaluation.benchmark.order import Measured, same_name
from evaluation.benchmark.published import Published, by_source
from evaluation.metrics import METRICS, Metric
from immuno_core.records import ResultRow

_MOST_COLUMNS = 10
"""As many as stand side by side on a desk's screen."""


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

    def figure(self, measured: Measured, method: str, metric: str) -> float | None:
        """What stands in it for a method."""
        summary = fmean if self.kind != "worst" else min if METRICS[metric].better == "higher" else max
        return measured.over(method, metric, self.sets, summary)


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell: FPR95 (with its 95 % interval) and AUROC (shares), each with whether it is the best of its column."""

    fpr95: float | None
    auroc: float | None
    interval: tuple[float, float] | None = None
    best_fpr95: bool = False
    best_auroc: bool = False
    fpr95_ood: float | None = None
    """The other FPR95, where a paper gives that one."""


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
    id_accuracy: float | None
    best_id_accuracy: bool
    entries: tuple[Entry, ...]
    published: tuple[PublishedLine, ...]


@dataclass(frozen=True, slots=True)
class ResultTable:
    """The table, its lines by method, grouped as `Measured.groups` says."""

    columns: tuple[Column, ...]
    lines: dict[str, Line]
    published: tuple[PublishedLine, ...]
    """Figures for methods that were not measured here."""
    full: tuple[ResultRow, ...]
    """Every method on every set."""

    @property
    def short_columns(self) -> tuple[int, ...]:
        """The columns of the short table: all of them, or where these are many the summaries alone."""
        summaries = tuple(k for k, column in enumerate(self.columns) if column.kind != "set")
        return summaries if len(self.columns) > _MOST_COLUMNS and summaries else tuple(range(len(self.columns)))

    @property
    def short(self) -> tuple[Column, ...]:
        """Those columns."""
        return tuple(self.columns[k] for k in self.short_columns)


def spans(columns: Sequence[Column]) -> tuple[tuple[str, int], ...]:
    """The header's groups: (`main`, `unseen` or `all`, how many columns), without the empty ones."""
    worst = sum(column.kind == "worst" for column in columns)
    unseen = sum(column.unseen for column in columns)
    counts = (("main", len(columns) - unseen - worst), ("unseen", unseen), ("all", worst))
    return tuple((name, count) for name, count in counts if count)


def build_table(measured: Measured, published: Sequence[Published] = ()) -> ResultTable:
    """Lay the measurements out; percentages that look equal when printed are equally best."""
    columns = _columns(measured)
    methods = [method for group in measured.groups() for method in group.methods]

    def figures(metric: str) -> list[list[tuple[float | None, bool]]]:
        """By column and method, each with whether it is the best."""
        choose = max if METRICS[metric].better == "higher" else min
        return [_marked([column.figure(measured, method, metric) for method in methods], choose) for column in columns]

    fpr95, auroc = figures("fpr95_id"), figures("auroc")
    accuracy = _marked([measured.over(method, "id_accuracy") for method in methods], max)
    quoted = [
        PublishedLine(method, source, tuple(_published_entry(of_sets, column) for column in columns))
        for method, source, of_sets in by_source(published, measured.sets)
    ]
    lines = {
        method: Line(
            method=method,
            id_accuracy=accuracy[i][0],
            best_id_accuracy=accuracy[i][1],
            entries=tuple(
                Entry(
                    *(fpr95[k][i][0], auroc[k][i][0], _interval(measured, method, column)),
                    *(fpr95[k][i][1], auroc[k][i][1]),
                )
                for k, column in enumerate(columns)
            ),
            published=tuple(line for line in quoted if same_name(line.method, method)),
        )
        for i, method in enumerate(methods)
    }
    return ResultTable(
        columns=columns,
        lines=lines,
        published=tuple(line for line in quoted if not any(same_name(line.method, m) for m in methods)),
        full=tuple(
            cell for name in measured.sets for m in measured.ranked() if (cell := measured.cell(m, name)) is not None
        ),
    )


def _interval(measured: Measured, method: str, column: Column) -> tuple[float, float] | None:
    """The interval of a single set. That of a mean over sets cannot be had from theirs: they share the known images."""
    cell = measured.cell(method, column.sets[0]) if column.kind == "set" else None
    return cell.intervals.get("fpr95_id") if cell else None


def _published_entry(figures: Mapping[str, Published], column: Column) -> Entry:
    """A figure for a set, or the mean where the paper gives every set of the column; none for the worst set."""
    if column.kind == "worst":
        return Entry(None, None)
    found = [figures.get(name) for name in column.sets]

    def mean(metric: str) -> float | None:
        values = [value for figure in found if (value := getattr(figure, metric, None)) is not None]
        return fmean(values) if len(values) == len(column.sets) else None

    return Entry(mean("fpr95_id"), mean("auroc"), fpr95_ood=mean("fpr95_ood"))


def _columns(measured: Measured) -> tuple[Column, ...]:
    seen = tuple(name for name in measured.sets if name not in measured.unseen_sets)
    columns: list[Column] = []
    if len(measured.headline_sets) > 1:
        columns.append(Column("mean", "mean", unseen=False, sets=measured.headline_sets))
    columns += [Column(title, "mean", unseen=False, sets=sets) for title, sets in measured.by_distance.items()]
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
    sizes = (cell.n_ood for method in measured.methods if (cell := measured.cell(method, name)) is not None)
    return Column(name, "set", unseen, (name,), n_ood=next(sizes, 0) or None, opens_group=opens_group)


def _marked(values: Sequence[float | None], choose: Callable[[list[float]], float]) -> list[tuple[float | None, bool]]:
    """Each value with whether it prints as the best one; nothing is marked where there is nothing to compare."""
    shown = [None if value is None else round(100 * value, 1) for value in values]
    present = [value for value in shown if value is not None]
    best = choose(present) if len(present) > 1 else None
    return [(value, best is not None and printed == best) for value, printed in zip(values, shown, strict=True)]


@dataclass(frozen=True, slots=True)
class MethodTable:
    """All metrics by method, lowest mean FPR95 first: the columns that anything has, and a figure in each."""

    columns: dict[str, Metric]
    lines: dict[str, dict[str, float | None]]

    @property
    def has_thresholds(self) -> bool:
        """Whether any method has a deployed threshold."""
        return any(metric.deployed for metric in self.columns.values())


def method_table(measured: Measured) -> MethodTable:
    """Means over the headline sets; what is of the known images alone as it is."""
    lines = {method: {name: measured.over(method, name) for name in METRICS} for method in measured.ranked()}
    columns = {
        name: metric for name, metric in METRICS.items() if any(line[name] is not None for line in lines.values())
    }
    return MethodTable(columns, lines)

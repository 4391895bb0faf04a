"""The tables of the page: the numbers at its top, methods against outlier sets, method by method, several seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from evaluation.benchmark.order import (
    GROUP_TITLES,
    Group,
    best_without_antibodies,
    group_of,
    headline_sets,
    same_name,
    unseen_of,
)
from evaluation.report.model import Interval, Published, Results, Row, SeedRow, SeedsSummary, WithoutLeaks


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
        """The best method without antibodies over the sets (evaluation.benchmark.order); None where there is none."""
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


@dataclass(frozen=True, slots=True)
class Contrast:
    """Mean fpr95_id over some sets (shares; None where not measured) for the methods that the page compares."""

    sets: tuple[str, ...]
    before: float | None
    after: float | None
    best: float | None
    best_method: str | None
    """The best method without antibodies, which need not be the one called "before"."""

    @property
    def ratio(self) -> float | None:
        """How many times fewer outliers `after` accepts than the best method without a bank; None where undefined."""
        return self.best / self.after if self.best is not None and self.after else None


@dataclass(frozen=True, slots=True)
class Headline:
    """What the header says."""

    before: str | None
    after: str | None
    main: Contrast
    unseen: Contrast | None
    id_accuracy_before: float | None
    id_accuracy_after: float | None
    antibodies: int
    test_reads: int

    @property
    def id_accuracy_change(self) -> float | None:
        """After minus before, as a share."""
        if self.id_accuracy_before is None or self.id_accuracy_after is None:
            return None
        return self.id_accuracy_after - self.id_accuracy_before


def summarise(results: Results, measured: Measured) -> Headline:
    """Compute the header's numbers from the rows alone."""
    before = results.before if results.before in measured.methods else None
    after = results.after if results.after in measured.methods else None
    unseen = measured.unseen_sets
    return Headline(
        before=before,
        after=after,
        main=_contrast(measured, measured.headline_sets, before, after),
        unseen=_contrast(measured, unseen, before, after) if unseen and unseen != measured.headline_sets else None,
        id_accuracy_before=measured.id_accuracy(before) if before else None,
        id_accuracy_after=measured.id_accuracy(after) if after else None,
        antibodies=measured.antibodies(after) if after else 0,
        test_reads=len(results.test_reads),
    )


def _contrast(measured: Measured, sets: Sequence[str], before: str | None, after: str | None) -> Contrast:
    best = measured.best_without_antibodies(sets)
    return Contrast(
        sets=tuple(sets),
        before=measured.fpr95(before, sets) if before else None,
        after=measured.fpr95(after, sets) if after else None,
        best=measured.fpr95(best, sets) if best else None,
        best_method=best,
    )


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


@dataclass(frozen=True, slots=True)
class SeedLine:
    """One method. `headline` is its mean FPR95 over the headline sets; None where one is missing."""

    method: str
    group: Group
    headline: float | None
    overall: SeedRow | None
    cells: tuple[SeedRow | None, ...]
    """In the order of the sets."""


@dataclass(frozen=True, slots=True)
class SeedTable:
    """The methods by group, lowest headline mean first in each."""

    seeds: tuple[int, ...]
    sets: tuple[str, ...]
    headline_sets: tuple[str, ...]
    """Empty where they are all the sets: then the mean over all says it."""
    lines: tuple[SeedLine, ...]

    @property
    def groups(self) -> list[tuple[str, list[SeedLine]]]:
        """Titles with their lines, without the empty ones."""
        groups = ((title, [line for line in self.lines if line.group == name]) for name, title in GROUP_TITLES.items())
        return [(title, lines) for title, lines in groups if lines]


def seed_table(summary: SeedsSummary | None) -> SeedTable | None:
    """Lay a summary over seeds out; None where there is none."""
    if summary is None:
        return None
    sets = tuple(dict.fromkeys(row.ood for row in summary.rows))
    wanted = headline_sets(sets)
    cells = {(row.method, row.ood): row for row in summary.rows}
    overall = {row.method: row for row in summary.means}
    arms = {row.method: row.arm for row in summary.rows}
    lines = []
    for method, arm in arms.items():
        found = [row.fpr95_id for name in wanted if (row := cells.get((method, name))) is not None]
        means = [one.mean for one in found if one is not None and one.mean is not None]
        lines.append(
            SeedLine(
                method=method,
                group=group_of(arm, 0),
                headline=fmean(means) if len(means) == len(wanted) else None,
                overall=overall.get(method),
                cells=tuple(cells.get((method, name)) for name in sets),
            )
        )
    lines.sort(key=lambda line: (line.headline is None, line.headline or 0.0))
    return SeedTable(summary.seeds, sets, wanted if wanted != sets else (), tuple(lines))

"""Results for the terminal: readable at 100 columns, with every text from outside escaped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from textwrap import wrap
from typing import Any, Final

import click
from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from evaluation.benchmark.order import (
    GROUP_TITLES,
    best_without_antibodies,
    compared,
    group_of,
    headline_sets,
    same_name,
    unseen_of,
)
from evaluation.benchmark.order import Group as MethodGroup
from evaluation.metrics import METRICS
from immuno_core.records import ResultRow


def headline(rows: Sequence[ResultRow], unseen: Collection[str] | None = None) -> list[str]:
    """Return the few lines that a run comes down to: the bank against the best method without antibodies on the sets.

    `unseen` is that of results.json.
    """
    before, after = compared(rows)
    if before == after:
        return []
    by_method: dict[str, dict[str, ResultRow]] = {}
    for row in rows:
        by_method.setdefault(row.method, {})[row.ood] = row
    main = headline_sets(row.ood for row in rows)
    unlike = unseen_of((row.ood for row in rows), unseen)
    lines = []
    for title, sets in ((" + ".join(main), main), ("unseen", unlike if unlike != main else ())):
        best = best_without_antibodies(rows, sets) if sets else None
        if best is not None:
            old, new = (_mean([by_method[method].get(name) for name in sets], "fpr95_id") for method in (best, after))
            shares = f"{_percent(old)} % ({best}) -> {_percent(new)} % ({after})"
            lines.append(f"FPR95, {title}: {shares}, {_ratio(new, old)}")
    old_accuracy, new_accuracy = (
        _percent(next(iter(by_method[method].values())).metrics["id_accuracy"]) for method in (before, after)
    )
    lines.append(f"ID accuracy: {old_accuracy} % -> {new_accuracy} %")
    return lines


def _ratio(new: float | None, old: float | None) -> str:
    if new is None or old is None:
        return "not defined everywhere"
    return f"ratio {new / old:.2f}" if old else "nothing was accepted before"


WIDTH: Final = 100
_LONGEST_LABEL: Final = 26
_SHORTEST_LABEL: Final = 20
"""Longer labels are folded. The smaller limit holds where it lets more outlier sets stand side by side."""
_LONGEST_WORD: Final = 14
"""Longer words in a heading are folded too."""
_TITLE: Final = "italic"
_GAP: Final = 2
"""Blanks between two columns."""


def print_table(table: RenderableType) -> None:
    """Print on stdout, at the terminal's width (100 columns where there is no terminal)."""
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table)


def print_bench(rows: Sequence[ResultRow], results: Mapping[str, Any]) -> None:
    """Print what a benchmark found: the table, the verdict where there is one, and what has to be said beside it."""
    print_table(results_table(rows, results.get("published", ())))
    for line in verdict_lines(results.get("verdict", {})):
        click.echo(line)
    for line in headline(rows, results.get("unseen")):
        click.echo(line)
    for remark in _remarks(results):
        click.echo("\n".join(wrap(remark, WIDTH, subsequent_indent="  ")))


def _remarks(results: Mapping[str, Any]) -> Iterator[str]:
    """What was left out, and what a reader must know of the images and the bank."""
    for label, why in results.get("left_out", {}).items():
        yield f"left out: {label}: {why}"
    if skipped := results.get("skipped"):
        yield f"{len(skipped)} image(s) could not be read and were left out; the report names them"
    for one in results.get("overlap", ()):
        yield f"{one['count']} image(s) of '{one['set']}' were left out: they are in {one['of_set']} too ({one['how']})"
    if leaked := {one["antibody"] for one in results.get("leakage", ())}:
        yield (
            f"{len(leaked)} of {results['leakage_checked']} antibodies name a class of the sealed outliers; "
            "the report lists them, with the figures without them"
        )


@dataclass(frozen=True, slots=True)
class _Method:
    """A method's rows by set, its mean FPR95 (None where a set is missing), and what papers give for its name."""

    label: str
    group: MethodGroup
    rows: Mapping[str, ResultRow]
    mean: float | None


@dataclass(frozen=True, slots=True)
class _Quoted:
    """What one paper gives for a method: cells by outlier set."""

    method: str
    cells: Mapping[str, str]


def results_table(rows: Sequence[ResultRow], published: Sequence[Mapping[str, Any]] = ()) -> Group:
    """Everything measured, in per cent: first a line per method with its means, then its figures set by set.

    `published` holds figures of papers as results.json does. Those of a set that was measured stand, dim, under the
    method of the same name, else at the end. As many sets as fit stand side by side.
    """
    sets = list(dict.fromkeys(row.ood for row in rows))
    methods = _methods(rows)
    cells = {m.label: {name: _cell(row) for name, row in m.rows.items()} for m in methods}
    spread = " ± half of its 95 % interval" if any(row.intervals.get("fpr95_id") for row in rows) else ""
    title = f"FPR95{spread} / AUROC on each outlier set, per cent"
    return Group(*_overview(methods, sets), *_columns(title, methods, sets, cells, _quoted(published, sets)))


def seeds_table(summary: Mapping[str, Any]) -> Group:
    """Several seeds (the JSON of `evaluation.benchmark.seeds.Summary`): mean ± standard deviation, by method and set.

    A mean over some of the sets has no deviation here: that is known of each set, and of all of them together.
    """
    sets = list(dict.fromkeys(row["ood"] for row in summary["rows"]))
    wanted = headline_sets(sets)
    every = f"all {len(sets)} sets"
    cells: dict[str, dict[str, str]] = {}
    means: dict[str, list[float]] = {}
    arms = {row["method"]: row["arm"] for row in summary["rows"]}
    for row in (*summary["rows"], *({**mean, "ood": every} for mean in summary["means"])):
        cells.setdefault(row["method"], {})[row["ood"]] = f"{_spread(row['fpr95_id'])}/{_spread(row['auroc'])}"
        if row["ood"] in wanted and row["fpr95_id"] is not None:
            means.setdefault(row["method"], []).append(row["fpr95_id"]["mean"])
    headline = ", ".join(wanted) if len(wanted) <= 3 else every
    methods = []
    for label, arm in arms.items():
        found = means.get(label, [])
        mean = fmean(found) if found and len(found) == len(wanted) else None
        cells[label][headline] = cells[label].get(headline, _percent(mean))
        methods.append(_Method(label, group_of(arm, 0), {}, mean))
    title = f"FPR95 / AUROC, per cent: mean ± standard deviation over the seeds {', '.join(map(str, summary['seeds']))}"
    columns = list(dict.fromkeys((headline, every, *sets)))
    return Group(*_columns(title, _in_order(methods), columns, cells, ()))


def _methods(rows: Sequence[ResultRow]) -> list[_Method]:
    by_label: dict[str, dict[str, ResultRow]] = {}
    for row in rows:
        by_label.setdefault(row.method, {})[row.ood] = row
    wanted = headline_sets(row.ood for row in rows)
    methods = []
    for label, found in by_label.items():
        first = next(iter(found.values()))
        mean = _mean([found.get(name) for name in wanted], "fpr95_id")
        methods.append(_Method(label, group_of(first.arm, first.antibodies), found, mean))
    return _in_order(methods)


def _in_order(methods: Iterable[_Method]) -> list[_Method]:
    groups = list(GROUP_TITLES)
    return sorted(methods, key=lambda m: (groups.index(m.group), m.mean is None, m.mean or 0.0))


def _overview(methods: Sequence[_Method], sets: Sequence[str]) -> list[RenderableType]:
    """One line per method: its means over the headline sets, ID accuracy, and what its deployed threshold does."""
    wanted = headline_sets(sets)
    label = min(max(map(len, _labels(methods)), default=0), _LONGEST_LABEL)
    over = ", ".join(wanted) if len(wanted) <= 3 else f"the {len(wanted)} outlier sets"
    table = _table(label)
    deployed = any(row.metrics.get("threshold") is not None for m in methods for row in m.rows.values())
    shown = {
        name: metric for name, metric in METRICS.items() if metric.in_terminal and (deployed or not metric.deployed)
    }
    for name, metric in shown.items():
        table.add_column(metric.short or metric.title, justify="right")
        if name == "fpr95_id":
            table.add_column("worst", justify="right")
    for method in _in_groups(table, methods):
        first = next(iter(method.rows.values()))
        shares: list[float | None] = []
        for name, metric in shown.items():
            rows = [first] if metric.of == "known" else [method.rows.get(each) for each in wanted]
            shares.append(_mean(rows, name))
            if name == "fpr95_id":
                defined = [share for row in method.rows.values() if (share := row.metrics.get(name)) is not None]
                shares.append(max(defined, default=None))
        table.add_row(escape(method.label), *map(_percent, shares))
    caption = (
        "FPR95: outliers accepted where 95 % of known images are; worst: the highest of all sets. FPR95 OOD: known "
        "images rejected where 95 % of outliers are."
    )
    if deployed:
        caption += (
            " At the deployed threshold (it accepts 95 % of known feedback images): known test images accepted "
            "(ID kept), accuracy on them, outliers rejected."
        )
    return [Text(f"Sealed test, per cent: means over {over}", _TITLE), table, Text(caption, "dim")]


def _columns(
    title: str,
    methods: Sequence[_Method],
    columns: Sequence[str],
    cells: Mapping[str, Mapping[str, str]],
    quoted: Sequence[_Quoted],
) -> list[RenderableType]:
    """A line per method with a cell per column, in as few tables as it takes, published figures among the lines."""
    labels = [*_labels(methods), *(_published_label(q) for q in quoted)]
    longest = max(map(len, labels), default=0)
    every = [text for line in (*cells.values(), *(q.cells for q in quoted)) for text in line.values()]
    words = [word for name in columns for word in _heading(name).split()]
    width = max([*map(len, every), *(min(len(word), _LONGEST_WORD) for word in words)], default=1)
    parts = _evenly(columns, (WIDTH - min(longest, _SHORTEST_LABEL)) // (width + _GAP))
    shown: list[RenderableType] = []
    for part in parts:
        room = WIDTH - len(part) * (width + _GAP)
        label = min(longest, _LONGEST_LABEL, max(room, _SHORTEST_LABEL))
        shown += ["", Text(title, _TITLE), _part(methods, part, cells, quoted, label, width)]
    if any(text.startswith(_OTHER_FPR95) for text in every):
        about = "FPR95 OOD: known images rejected where 95 % of outliers are; not to be compared."
        shown.append(Text(f"{_OTHER_FPR95} {about}", "dim"))
    return shown


def _part(
    methods: Sequence[_Method],
    columns: Sequence[str],
    cells: Mapping[str, Mapping[str, str]],
    quoted: Sequence[_Quoted],
    label: int,
    width: int,
) -> Table:
    table = _table(label)
    for name in columns:
        table.add_column(escape(_heading(name)), justify="right", width=width, overflow="fold")
    shown = [each for each in quoted if any(name in each.cells for name in columns)]

    def quote(each: _Quoted) -> None:
        table.add_row(escape(_published_label(each)), *(each.cells.get(name, "") for name in columns), style="dim")

    for method in _in_groups(table, methods):
        table.add_row(escape(method.label), *(cells[method.label].get(name, "") for name in columns))
        for each in shown:
            if same_name(each.method, method.label):
                quote(each)
    others = [each for each in shown if not any(same_name(each.method, m.label) for m in methods)]
    if others:
        _add_title(table, "Published only")
    for each in others:
        quote(each)
    return table


def _heading(name: str) -> str:
    """A set's name as a column heading, which can wrap between its words."""
    return name.replace("_", " ")


def _labels(methods: Sequence[_Method]) -> list[str]:
    """What stands in the first column: the methods, and the titles of their groups."""
    return [*(method.label for method in methods), *(GROUP_TITLES[method.group] for method in methods)]


def _in_groups(table: Table, methods: Sequence[_Method]) -> Iterator[_Method]:
    """The methods in turn; before the first of a group, the group's title is added (where there is more than one)."""
    several = len({method.group for method in methods}) > 1
    previous = None
    for method in methods:
        if several and method.group != previous:
            _add_title(table, GROUP_TITLES[method.group])
        previous = method.group
        yield method


def _add_title(table: Table, title: str) -> None:
    table.add_section()
    table.add_row(f"[bold]{escape(title)}[/bold]")


def _quoted(published: Sequence[Mapping[str, Any]], sets: Sequence[str]) -> list[_Quoted]:
    """The figures for sets that were measured, by method and source."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for figure in published:
        if figure["set"] in sets:
            cells = lines.setdefault((figure["method"], figure.get("source") or ""), {})
            other = figure.get("fpr95_ood")
            fpr95 = _percent(figure.get("fpr95_id")) if other is None else f"{_OTHER_FPR95}{_percent(other)}"
            cells[figure["set"]] = f"{fpr95}/{_percent(figure.get('auroc'))}"
    return [_Quoted(method, cells) for (method, _), cells in lines.items()]


_OTHER_FPR95: Final = "*"
"""Before a published FPR95 that is the share of known images rejected where 95 % of outliers are."""


def _published_label(quoted: _Quoted) -> str:
    return f"{quoted.method} (published)"


def _cell(row: ResultRow) -> str:
    interval = row.intervals.get("fpr95_id")
    spread = f"±{100 * (interval[1] - interval[0]) / 2:.1f}" if interval else ""
    return f"{_percent(row.metrics.get('fpr95_id'))}{spread}/{_percent(row.metrics.get('auroc'))}"


def _spread(value: Mapping[str, Any] | None) -> str:
    """A metric over seeds, in per cent."""
    if value is None:
        return "–"
    return f"{100 * value['mean']:.1f}" + ("" if value["sd"] is None else f"±{100 * value['sd']:.1f}")


def _evenly(names: Sequence[str], most: int) -> list[Sequence[str]]:
    """Split names into as few parts of at most `most` as it takes, and those as equal as can be."""
    parts = -(-len(names) // max(most, 1))
    bounds = [round(k * len(names) / parts) for k in range(parts + 1)] if parts else []
    return [names[low:high] for low, high in pairwise(bounds)]


def _table(label: int) -> Table:
    # The divider between two columns is the second blank.
    table = Table(box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("method", width=label, overflow="fold")
    return table


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _mean(rows: Sequence[ResultRow | None], metric: str) -> float | None:
    """The mean of a metric; None where a value is missing or there are none."""
    found = [value for row in rows if row is not None and (value := row.metrics.get(metric)) is not None]
    return fmean(found) if found and len(found) == len(rows) else None


def verdict_lines(verdict: Mapping[str, Any]) -> list[str]:
    """The verdict of `--settle` as plain lines (see evaluation.benchmark.settle); none where there is no verdict.

    Nothing in it is markup: print it as it is.
    """
    if not verdict.get("status"):
        return []
    method = f" ({verdict['method']})" if verdict.get("method") else ""
    lines = [f"verdict: {str(verdict['status']).upper()}{method}"]
    for reason in verdict.get("reasons", ()):
        lines += wrap(reason, WIDTH, initial_indent="  - ", subsequent_indent="    ")
    acceptance, minus = verdict.get("acceptance", {}), verdict.get("bank_minus", {})
    if minus:
        own = f"; the bank: {_estimate(acceptance['bank'])}" if "bank" in acceptance else ""
        lines.append(f"  outliers accepted, per cent [95 % interval]{own}")
        name = max(len(arm) for arm in minus)
        accepted = {arm: _estimate(acceptance[arm]) if arm in acceptance else "–" for arm in minus}
        width = max(len(text) for text in accepted.values())
        for arm, one in minus.items():
            title = f"    {arm.replace('_', ' '):<{name}}  {accepted[arm]:>{width}}"
            compared = verdict.get("references", {}).get(arm, "bank").replace("_", " ")
            lines.append(f"{title}   {compared} minus it: {_estimate(one, signed=True)}")
    for title, key in (("ID accuracy", "id_accuracy"), ("accepted and right", "accepted_and_right")):
        accuracy = verdict.get(key, {})
        if "difference" in accuracy:
            finding = "not inferior" if accuracy.get("non_inferior") else "not shown to be as good"
            margin = f" at a margin of {_percent(verdict['margin'])} points" if "margin" in verdict else ""
            lines.append(
                f"  {title} {_percent(accuracy.get('none'))} -> {_percent(accuracy.get('bank'))}: "
                f"{_estimate(accuracy['difference'], signed=True)}, {finding}{margin}"
            )
    for arm, why in verdict.get("left_out", {}).items():
        lines += wrap(f"  left out: {arm.replace('_', ' ')} ({why})", WIDTH, subsequent_indent="    ")
    return lines


def _estimate(estimate: Mapping[str, Any], *, signed: bool = False) -> str:
    """A share, or with `signed` a difference of shares, in per cent or points with its interval."""
    form = "+.1f" if signed else ".1f"
    value, interval = estimate.get("value"), estimate.get("interval")
    shown = "–" if value is None else f"{100 * value:{form}}"
    return f"{shown} [{100 * interval[0]:{form}}, {100 * interval[1]:{form}}]" if interval else shown

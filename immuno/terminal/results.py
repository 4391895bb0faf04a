"""Results for the terminal: readable at 100 columns, with every text from outside escaped.

Methods stand in the order of the report (evaluation.benchmark.order): by group, lowest mean FPR95 first in each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from textwrap import wrap
from typing import Final

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evaluation.benchmark.order import ABOUT_FEEDBACK, FEEDBACK_MARK, Contrast, Measured, MethodGroup, same_name
from evaluation.benchmark.published import Published, by_source
from evaluation.benchmark.results import PricedArm, Results
from evaluation.benchmark.seeds import Spread, Summary
from evaluation.benchmark.settle import Estimated, Verdict
from evaluation.benchmark.streams import ABOUT, Streamed
from evaluation.metrics import FEWEST_OF_A_CLASS, METRICS
from immuno.terminal.output import GAP, cell, console, fitting, percentage, plain_table, print_table
from immuno_core.records import ResultRow, told
from immuno_core.text import printable


def headline(results: Results) -> list[str]:
    """Return the few lines that a run comes down to: the bank against the best method without antibodies."""
    before, after, main, unseen, *accuracies = results.measured.headline(results.before, results.after)
    if before == after or not before or not after:
        return []
    lines = []
    for title, contrast in ((" + ".join(main.sets), main), ("unseen", unseen)):
        if contrast is not None and contrast.best is not None:
            old, new = percentage(contrast.best), percentage(contrast.after)
            shares = f"{old} % ({contrast.best_method}) -> {new} % ({after})"
            lines.append(f"FPR95, {title}: {shares}, {_ratio(contrast)}")
    lines.append("ID accuracy: {} % -> {} %".format(*map(percentage, accuracies)))
    return lines


def _ratio(contrast: Contrast) -> str:
    if contrast.after is None:
        return "not measured on all"
    return f"ratio {contrast.after / contrast.best:.2f}" if contrast.best else "nothing was accepted before"


_LONGEST_LABEL: Final = 26
_SHORTEST_LABEL: Final = 20
"""Longer labels are folded. The smaller limit holds where it lets more outlier sets stand side by side."""
_LONGEST_WORD: Final = 14
"""Longer words in a heading are folded too."""
_TITLE: Final = "italic"
_NARROWEST: Final = 5
"""Characters of a share in per cent."""


def print_bench(results: Results) -> None:
    """Print what a benchmark found: the table, the verdict where there is one, and what has to be said beside it."""
    print_table(results_table(results.rows, results.published, results.distances))
    if results.test_time:
        print_table(streams_table(results.test_time))
    for line in (*verdict_lines(results.verdict), *_cost_lines(results.priced), *headline(results)):
        click.echo(printable(line))
    for remark in _remarks(results):
        click.echo("\n".join(wrap(printable(remark), console().width, subsequent_indent="  ")))


def _remarks(results: Results) -> Iterator[str]:
    """What was left out, and what a reader must know of the methods, the images and the bank."""
    for warning in results.warnings:
        yield f"warning: {printable(warning)}"
    if results.after and (fired := results.measured.over(results.after, "fired_known")):
        yield (
            f"some antibody fires on {100 * fired:.1f} % of the known test images ({results.after}): radii bound the "
            "harm of each antibody, not of all together"
        )
    for remark, methods in results.measured.remarks().items():
        yield f"{'; '.join(methods)}: {remark}"
    for label, why in results.left_out.items():
        yield f"left out: {label}: {why}"
    if results.skipped:
        yield f"{len(results.skipped):,} image(s) were left out: {'; '.join(map(printable, told(results.skipped)))}"
    for dropped in results.overlap:
        yield (
            f"{dropped.count} image(s) of '{dropped.set}' were left out: they are in {dropped.of_set} too "
            f"({dropped.how})"
        )
    if leaked := {leak.antibody for leak in results.leakage or ()}:
        yield (
            f"{len(leaked)} of {results.leakage_checked} antibodies name a class of the sealed outliers; "
            "the report lists them, with the figures without them"
        )


@dataclass(frozen=True, slots=True)
class _Quoted:
    """What one paper gives for a method: cells by outlier set."""

    method: str
    cells: Mapping[str, str]


def results_table(
    rows: Sequence[ResultRow], published: Sequence[Published] = (), distances: Mapping[str, str] | None = None
) -> Group:
    """Everything measured, in per cent: first a line per method with its means, then its figures set by set.

    Published figures of a set that was measured stand, dim, under the method of the same name, else at the end. As many
    sets as fit stand side by side.
    """
    measured = Measured(rows, distances=distances or {})
    cells = {
        method: {name: _cell(row) for name in measured.sets if (row := measured.cell(method, name)) is not None}
        for method in measured.methods
    }
    spread = " ± half of its 95 % interval" if measured.has_intervals else ""
    title = f"FPR95{spread} / AUROC on each outlier set, per cent"
    quoted = [
        _Quoted(method, {name: _quoted_cell(figure) for name, figure in figures.items()})
        for method, _, figures in by_source(published, measured.sets)
    ]
    groups = measured.groups()
    marked = measured.using_feedback
    return Group(
        *_overview(measured, groups),
        *_columns(title, groups, measured.sets, cells, quoted, marked),
        *([Text(f"{FEEDBACK_MARK} {ABOUT_FEEDBACK}", "dim")] if marked else []),
    )


def seeds_table(summary: Summary) -> Group:
    """Several seeds: mean ± standard deviation, by method and set.

    A mean over some of the sets has no deviation here: that is known of each set, and of all of them together.
    """
    wanted, groups = summary.headline_sets, summary.groups()
    every = f"all {len(summary.sets)} sets"
    headline = ", ".join(wanted) if len(wanted) <= 3 else every
    cells = {}
    for method in (method for group in groups for method in group.methods):
        means = {every: partial(summary.spread, method)}
        means |= {f"all {one}": partial(summary.spread, method, distance=one) for one in summary.distances}
        of_sets = {name: partial(summary.spread, method, ood=name) for name in summary.sets}
        spreads = {
            title: "/".join(_spread(spread(metric)) for metric in ("fpr95_id", "auroc"))
            for title, spread in (means | of_sets).items()
        }
        cells[method] = {headline: percentage(summary.headline(method)), **spreads}
    title = f"FPR95 / AUROC, per cent: mean ± standard deviation over the seeds {', '.join(map(str, summary.seeds))}"
    averages = (headline, every, *(f"all {one}" for one in summary.distances))
    columns, marked = list(dict.fromkeys((*averages, *summary.sets))), summary.using_feedback
    return Group(
        *_columns(title, groups, columns, cells, (), marked),
        *([Text(f"{FEEDBACK_MARK} {ABOUT_FEEDBACK}", "dim")] if marked else []),
    )


def streams_table(streamed: Sequence[Streamed]) -> Group:
    """The test-time methods, apart: FPR95 and AUROC by set, mean ± standard deviation over the orders."""
    cells: dict[str, dict[str, str]] = {}
    for one in streamed:
        cells.setdefault(one.method, {})[one.ood] = f"{_spread(one.fpr95_id)}/{_spread(one.auroc)}"
    sets = tuple(dict.fromkeys(one.ood for one in streamed))
    title = f"Test-time methods, FPR95 / AUROC, per cent: mean ± sd over {streamed[0].orders} orders of the stream"
    return Group(*_columns(title, [MethodGroup("mined", tuple(cells))], sets, cells, (), ()), Text(ABOUT, "dim"))


def _overview(measured: Measured, groups: Sequence[MethodGroup]) -> list[RenderableType]:
    """One line per method: its means over the headline sets, ID accuracy, and what its deployed threshold does."""
    wanted = measured.headline_sets
    over = ", ".join(wanted) if len(wanted) <= 3 else f"the {len(wanted)} outlier sets"
    has = {name: any(measured.worst(method, name) is not None for method in measured.methods) for name in METRICS}
    columns: dict[str, Callable[[str], str]] = {}
    for name, metric in METRICS.items():
        if metric.in_terminal and has[name]:
            columns[metric.short or metric.title] = partial(_overall, measured.over, name)
            if name == "fpr95_id":
                columns["worst"] = partial(_overall, measured.worst, name)
                for distance, sets in measured.by_distance.items():
                    columns[distance] = partial(_overall, partial(measured.over, sets=sets), name)
    marked = measured.using_feedback
    widths = [
        max(_NARROWEST, *map(len, [*title.split(), *map(shown, measured.methods)])) + GAP
        for title, shown in columns.items()
    ]
    width = console().width
    room = max(width - sum(widths), _SHORTEST_LABEL)
    label = min(max(map(len, _labels(groups, marked)), default=0), _LONGEST_LABEL, room)
    shown: list[RenderableType] = [Text(f"Sealed test, per cent: means over {over}", _TITLE)]
    for part in fitting(list(columns), widths, width - label):
        table = _table(label)
        for title in part:
            table.add_column(cell(title), justify="right")
        for method in _in_groups(table, groups):
            table.add_row(cell(_named(method, marked)), *(columns[title](method) for title in part))
        shown.append(table)
    caption = (
        "FPR95: outliers accepted where 95 % of known images are; worst: the highest of all sets. FPR95 OOD: known "
        "images rejected where 95 % of outliers are."
    )
    if has["threshold"]:
        caption += (
            " At the deployed threshold (it accepts 95 % of known feedback images): known test images accepted "
            "(ID kept), accuracy on them, outliers rejected."
        )
    if measured.by_distance:
        caption += " Near, far: means over the sets that are said to be so."
    if has["fpr95_worst_class"]:
        caption += f" Worst class: of outlier classes with at least {FEWEST_OF_A_CLASS} images, mean over the sets."
    if has["known_used"]:
        caption += " ID seen, OOD seen: labelled known images and feedback outliers that it was fitted to or chosen on."
    return [*shown, Text(caption, "dim")]


def _overall(summary: Callable[[str, str], float | None], metric: str, method: str) -> str:
    """A method's figure for a column of the overview."""
    value = summary(method, metric)
    return f"{value:,.0f}" if METRICS[metric].unit == "count" and value is not None else percentage(value)


def _columns(
    title: str,
    groups: Sequence[MethodGroup],
    columns: Sequence[str],
    cells: Mapping[str, Mapping[str, str]],
    quoted: Sequence[_Quoted],
    marked: Collection[str],
) -> list[RenderableType]:
    """A line per method with a cell per column, in as few tables as it takes, published figures among the lines."""
    labels = [*_labels(groups, marked), *(_published_label(q) for q in quoted)]
    longest = max(map(len, labels), default=0)
    every = [text for line in (*cells.values(), *(q.cells for q in quoted)) for text in line.values()]
    words = [word for name in columns for word in _heading(name).split()]
    width = max([*map(len, every), *(min(len(word), _LONGEST_WORD) for word in words)], default=1)
    whole = console().width
    parts = _evenly(columns, (whole - min(longest, _SHORTEST_LABEL)) // (width + GAP))
    shown: list[RenderableType] = []
    for part in parts:
        room = whole - len(part) * (width + GAP)
        label = min(longest, _LONGEST_LABEL, max(room, _SHORTEST_LABEL))
        shown += ["", Text(title, _TITLE), _part(groups, part, cells, quoted, marked, label, width)]
    if any(text.startswith(_OTHER_FPR95) for text in every):
        about = "FPR95 OOD: known images rejected where 95 % of outliers are; not to be compared."
        shown.append(Text(f"{_OTHER_FPR95} {about}", "dim"))
    return shown


def _part(
    groups: Sequence[MethodGroup],
    columns: Sequence[str],
    cells: Mapping[str, Mapping[str, str]],
    quoted: Sequence[_Quoted],
    marked: Collection[str],
    label: int,
    width: int,
) -> Table:
    table = _table(label)
    for name in columns:
        table.add_column(Text(_heading(printable(name))), justify="right", width=width, overflow="fold")
    shown = [each for each in quoted if any(name in each.cells for name in columns)]

    def quote(each: _Quoted) -> None:
        table.add_row(cell(_published_label(each)), *(each.cells.get(name, "") for name in columns), style="dim")

    for method in _in_groups(table, groups):
        table.add_row(cell(_named(method, marked)), *(cells[method].get(name, "") for name in columns))
        for each in shown:
            if same_name(each.method, method):
                quote(each)
    others = [each for each in shown if not any(same_name(each.method, method) for method in cells)]
    if others:
        _add_title(table, "Published only")
    for each in others:
        quote(each)
    return table


def _heading(name: str) -> str:
    """A set's name as a column heading, which can wrap between its words."""
    return name.replace("_", " ")


def _labels(groups: Sequence[MethodGroup], marked: Collection[str]) -> list[str]:
    """What stands in the first column: the methods, and the titles of their groups."""
    return [text for group in groups for text in (group.title, *(_named(method, marked) for method in group.methods))]


def _named(method: str, marked: Collection[str]) -> str:
    """A method's label, with the mark of those that outliers of the feedback had a say in."""
    return method + (f" {FEEDBACK_MARK}" if method in marked else "")


def _in_groups(table: Table, groups: Sequence[MethodGroup]) -> Iterator[str]:
    """The methods in turn; before the first of a group, the group's title is added (where there is more than one)."""
    for group in groups:
        if len(groups) > 1:
            _add_title(table, group.title)
        yield from group.methods


def _add_title(table: Table, title: str) -> None:
    table.add_section()
    table.add_row(Text(printable(title), "bold"))


def _quoted_cell(figure: Published) -> str:
    ours, other = percentage(figure.fpr95_id), figure.fpr95_ood
    return f"{ours if other is None else _OTHER_FPR95 + percentage(other)}/{percentage(figure.auroc)}"


_OTHER_FPR95: Final = "*"
"""Before a published FPR95 that is the share of known images rejected where 95 % of outliers are."""


def _published_label(quoted: _Quoted) -> str:
    return f"{quoted.method} (published)"


def _cell(row: ResultRow) -> str:
    interval = row.intervals.get("fpr95_id")
    spread = f"±{100 * (interval[1] - interval[0]) / 2:.1f}" if interval else ""
    return f"{percentage(row.metrics.get('fpr95_id'))}{spread}/{percentage(row.metrics.get('auroc'))}"


def _spread(spread: Spread | None) -> str:
    """A metric over seeds, in per cent."""
    if spread is None:
        return "–"
    return percentage(spread.mean) + ("" if spread.sd is None else f"±{percentage(spread.sd)}")


def _evenly(names: Sequence[str], most: int) -> list[Sequence[str]]:
    """Split names into as few parts of at most `most` as it takes, and those as equal as can be."""
    parts = -(-len(names) // max(most, 1))
    bounds = [round(k * len(names) / parts) for k in range(parts + 1)] if parts else []
    return [names[low:high] for low, high in pairwise(bounds)]


def _table(label: int) -> Table:
    table = plain_table()
    table.add_column("method", width=label, overflow="fold")
    return table


def verdict_lines(verdict: Verdict) -> list[str]:
    """The verdict of `--settle` as plain lines (see evaluation.benchmark.settle); none where there is no verdict.

    Nothing in it is markup: print it as it is.
    """
    if verdict.status is None:
        return []
    lines = [f"verdict: {verdict.status.upper()}{f' ({verdict.method})' if verdict.method else ''}"]
    for reason in verdict.reasons:
        lines += wrap(reason, console().width, initial_indent="  - ", subsequent_indent="    ")
    if verdict.bank_minus:
        own = f"; the bank: {_estimate(verdict.acceptance['bank'])}" if "bank" in verdict.acceptance else ""
        lines.append(f"  outliers accepted, per cent [95 % interval]{own}")
        name = max(len(arm) for arm in verdict.bank_minus)
        accepted = {arm: _estimate(verdict.acceptance.get(arm, Estimated())) for arm in verdict.bank_minus}
        width = max(map(len, accepted.values()))
        for arm, minus in verdict.bank_minus.items():
            title = f"    {arm.replace('_', ' '):<{name}}  {accepted[arm]:>{width}}"
            compared = verdict.references.get(arm, "bank").replace("_", " ")
            lines.append(f"{title}   {compared} minus it: {_estimate(minus, signed=True)}")
    for title, accuracy in (("ID accuracy", verdict.id_accuracy), ("accepted and right", verdict.accepted_and_right)):
        if accuracy is not None:
            finding = "not inferior" if accuracy.non_inferior else "not shown to be as good"
            margin = f" at a margin of {percentage(verdict.margin)} points" if verdict.margin is not None else ""
            lines.append(
                f"  {title} {percentage(accuracy.none)} -> {percentage(accuracy.bank)}: "
                f"{_estimate(accuracy.difference, signed=True)}, {finding}{margin}"
            )
    for arm, why in verdict.left_out.items():
        lines += wrap(f"  left out: {arm.replace('_', ' ')} ({why})", console().width, subsequent_indent="    ")
    return lines


def _cost_lines(priced: Sequence[PricedArm]) -> Iterator[str]:
    """Texts against pixels, a line each."""
    for one in priced:
        cost = one.cost
        said = [f"FPR95 {percentage(one.fpr95)} %"]
        said += [] if cost.seconds is None else [f"{1000 * cost.seconds:.2f} ms"]
        said += [] if cost.passes is None else [f"{cost.passes:g} pass of the {cost.tower} tower"]
        said += [] if cost.bytes is None else [f"{cost.bytes:,.0f} bytes"]
        said += [] if cost.tokens is None else [f"{cost.tokens:,.0f} tokens of the chat model"]
        yield f"  {one.title} ({one.method}), each antibody: {', '.join(said)}"


def _estimate(estimate: Estimated, *, signed: bool = False) -> str:
    """A share, or with `signed` a difference of shares, in per cent or points with its interval."""
    form = "+.1f" if signed else ".1f"
    shown = "–" if estimate.value is None else f"{100 * estimate.value:{form}}"
    if estimate.interval is None:
        return shown
    low, high = estimate.interval
    return f"{shown} [{100 * low:{form}}, {100 * high:{form}}]"

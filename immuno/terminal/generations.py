"""Generations, one line each: what was decided in a word, and what was measured for it as numbers in columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from immuno.terminal.output import console, is_number, percentage, plain_table, print_table, stacked
from immuno_core.text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from db import GenerationRecord

WORDS = ("gen", "fate")
"""Columns of words; the others are numbers."""
_HALVES = {"first_half": "1st half", "second_half": "2nd half"}
_BARS = "▁▂▃▄▅▆▇█"


def fate(one: GenerationRecord) -> str:
    """What was decided, in a word."""
    return "start" if one.parent is None and not one.bank else "kept" if one.accepted else "lost"


def cells(one: GenerationRecord) -> dict[str, str]:
    """Its figures by heading, "" for what it does not have; shares in per cent, changes in points.

    A change is of the means over the outlier sets, on the half of the feedback that is shown to the model and on the
    one that confirms, with its standard error.
    """
    metrics = one.metrics
    found = {"FPR95": _share(metrics.get("mean_fpr95")), "AUROC": _share(one.mean_auroc)}
    for key, half in _HALVES.items():
        for measure, title, digits in (("auroc", "ΔAUROC", 2), ("fpr95", "ΔFPR95", 1)):
            found[f"{title}\n{half}"] = _change(metrics.get(key), measure, digits)
    matured = metrics.get("maturation")
    kept = isinstance(matured, Mapping) and matured.get("kept")
    found["with-\ndrawn"] = _count(metrics.get("withdrawn"))
    found["ma-\ntured"] = _count(matured.get("antibodies")) if kept and isinstance(matured, Mapping) else ""
    return found


def metric_cells(one: GenerationRecord) -> dict[str, str]:
    """The same, and every other number that was measured, under its own name."""
    found = {head.replace("-\n", "").replace("\n", " "): text for head, text in cells(one).items()}
    others = {name: x for name, x in one.metrics.items() if is_number(x) and name not in ("mean_fpr95", "withdrawn")}
    return found | {name: f"{x:.4g}" for name, x in others.items()}


def _share(value: Any) -> str:
    return percentage(value) if isinstance(value, float) else ""


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and value else ""


def _change(half: Any, measure: str, digits: int) -> str:
    """A change in points with its standard error, as `agents.acceptance.Change` is stored."""
    found = [half.get(name) for name in (measure, f"{measure}_error")] if isinstance(half, Mapping) else []
    numbers = [100 * one for one in found if isinstance(one, float)]
    return f"{numbers[0]:+.{digits}f}±{numbers[1]:.{digits}f}" if len(numbers) == 2 else ""


def generation_tables(generations: Sequence[GenerationRecord], *, verbose: bool = False) -> Iterator[RenderableType]:
    """Yield the table (as many as the width needs); with `verbose` sets, cost and the whole decisions too."""
    from rich.text import Text

    if not generations:
        return
    first: dict[str, Callable[[GenerationRecord], str]] = {
        "gen": lambda one: str(one.number),
        "fate": fate,
        "kept": lambda one: f"{one.kept}/{one.proposed}" if one.proposed else "",
        "bank": lambda one: f"{one.bank:,}",
    }
    columns = {head: [of(one) for one in generations] for head, of in first.items()}
    columns |= _transposed([cells(one) for one in generations])
    if verbose:
        columns |= _transposed([_of_sets(one) for one in generations])
        columns |= _transposed([cost_cells(one) for one in generations])
    about = "Feedback split, per cent; kept: of what was proposed; Δ: points ± standard error"
    yield Text(about, "italic")
    for number, table in enumerate(stacked(columns, words=WORDS, room=console().width)):
        if number:
            yield Text("")
        yield table
    if verbose:
        reasons = plain_table(None, ("gen", "why"))
        for one in generations:
            reasons.add_row(str(one.number), Text(printable(one.reason)))
        yield from (Text(""), reasons)


def _transposed(rows: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    heads = dict.fromkeys(head for row in rows for head in row)
    return {head: [row.get(head, "") for row in rows] for head in heads}


def _of_sets(one: GenerationRecord) -> dict[str, str]:
    """FPR95 by feedback set; imported banks have none."""
    found = one.metrics.get("fpr95")
    return {name: _share(value) for name, value in found.items()} if isinstance(found, Mapping) else {}


def cost_cells(one: GenerationRecord) -> dict[str, str]:
    """What it cost."""
    return {
        "calls": _count(one.calls),
        "tokens\nin": _count(one.prompt_tokens),
        "tokens\nout": _count(one.completion_tokens),
        "cost": money(one.cost_usd),
        "time": time((one.finished_at - one.started_at).total_seconds()),
    }


def sparkline(values: Sequence[float | None]) -> str:
    """Bars from zero to the largest value, a blank for None."""
    highest = max((value for value in values if value is not None), default=0.0) or 1.0
    last = len(_BARS) - 1
    return "".join(" " if value is None else _BARS[round(last * max(value, 0.0) / highest)] for value in values)


def money(dollars: float) -> str:
    """Dollars, "" for nothing."""
    return f"${dollars:,.4f}" if dollars else ""


def time(seconds: float) -> str:
    """Minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def print_generations(generations: Sequence[GenerationRecord]) -> None:
    """Print what a session that has just run came to."""
    from rich.console import Group

    print_table(Group(*generation_tables(generations)))

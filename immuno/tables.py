"""Tables for the terminal: readable at 100 columns, with every text from outside escaped."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from db.records import GenerationRecord
from immuno.records import ResultRow


def print_table(table: Table) -> None:
    """Print on stdout, at the terminal's width (100 columns where there is no terminal)."""
    console = Console()
    (console if console.is_terminal else Console(width=100)).print(table)


def results_table(rows: Sequence[ResultRow]) -> Table:
    """One line per method, one column per outlier set with FPR95 (IDpos) / AUROC in per cent; best mean FPR95 first."""
    sets = list(dict.fromkeys(row.ood for row in rows))
    by_method: dict[str, dict[str, ResultRow]] = {}
    for row in rows:
        by_method.setdefault(row.method, {})[row.ood] = row
    table = Table(
        title="Sealed test: FPR95 (outliers accepted at 95 % ID acceptance) / AUROC, per cent",
        title_justify="left",
        row_styles=["", "dim"],
    )
    table.add_column("method", no_wrap=True)
    for name in sets:
        table.add_column(escape(name.replace("_", " ")), justify="right")
    table.add_column("ID acc.", justify="right")

    def mean_fpr95(method: str) -> float:
        return sum(row.fpr95_id for row in by_method[method].values()) / len(by_method[method])

    for method in sorted(by_method, key=mean_fpr95):
        cells = by_method[method]
        accuracy = next(iter(cells.values())).id_accuracy
        table.add_row(
            escape(method),
            *(f"{100 * cells[s].fpr95_id:.1f}/{100 * cells[s].auroc:.1f}" if s in cells else "" for s in sets),
            f"{100 * accuracy:.1f}",
        )
    return table


def generations_table(generations: Sequence[GenerationRecord]) -> Table:
    """One line per generation: what it proposed and kept, and FPR95 on each feedback set, in per cent."""
    sets = list(generations[0].metrics.get("fpr95", {})) if generations else []
    table = Table(title="Feedback split: FPR95 by generation, per cent", title_justify="left")
    for column in ("generation", "proposed", "kept", "bank"):
        table.add_column(column, justify="right")
    for name in (*sets, "mean"):
        table.add_column(escape(name), justify="right")
    table.add_column("decision")
    for generation in generations:
        metrics = generation.metrics
        table.add_row(
            str(generation.number),
            *(str(count) for count in (generation.proposed, generation.kept, generation.bank)),
            *(f"{100 * metrics['fpr95'][name]:.1f}" for name in sets),
            f"{100 * metrics['mean_fpr95']:.1f}",
            escape(generation.reason),
        )
    return table

"""Rows of results, as the tests of every room build them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from evaluation.metrics import METRICS
from immuno_core.records import ResultRow

ROW_FIELDS = {one.name for one in fields(ResultRow)}
SHARES = ("auroc", "aupr_in", "aupr_out", "fpr95_id", "fpr95_ood", "id_accuracy")


def result_row(method: str = "mcm", ood: str = "near", **changes: Any) -> ResultRow:
    """A row with 0.5 for the first metrics and nothing for the others; `changes` are of fields and metrics alike."""
    own = {"params": {}, "seed": 0, "n_id": 10, "n_ood": 20, "metrics": dict.fromkeys(METRICS)}
    row = ResultRow(method=method, ood=ood, **own)  # type: ignore[arg-type]
    return changed(row, **dict.fromkeys(SHARES, 0.5) | changes)


def changed(row: ResultRow, **changes: Any) -> ResultRow:
    """`dataclasses.replace` for fields and metrics alike."""
    own = {name: value for name, value in changes.items() if name in ROW_FIELDS}
    metrics = {name: value for name, value in changes.items() if name not in ROW_FIELDS}
    return replace(row, **own, metrics={**row.metrics, **metrics})

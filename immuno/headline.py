"""The few lines that a benchmark comes down to."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from evaluation.table_order import headline_sets
from immuno.records import ResultRow

UNSEEN = "_unseen"
"""What the names of sets end with whose categories appear in no other split."""


def compared(rows: Sequence[ResultRow]) -> tuple[str, str]:
    """Return the labels of the two methods that the pictures compare.

    Before: the method without antibodies with the lowest mean FPR95. After: the first method listed that uses the bank,
    else the same one.
    """
    by_method: dict[str, list[ResultRow]] = {}
    for row in rows:
        by_method.setdefault(row.method, []).append(row)
    without = [method for method, lines in by_method.items() if lines[0].antibodies == 0]
    using = [method for method, lines in by_method.items() if lines[0].antibodies > 0 and lines[0].arm in ("", "bank")]
    candidates = without or using
    before = min(candidates, key=lambda method: sum(row.fpr95_id for row in by_method[method]))
    return before, (using or [before])[0]


def headline(rows: Sequence[ResultRow]) -> list[str]:
    """Return the few lines that a run comes down to: the bank against the best method without antibodies."""
    before, after = compared(rows)
    if before == after:
        return []
    by_method = {name: {row.ood: row for row in rows if row.method == name} for name in (before, after)}
    sets = list(by_method[after])
    unseen = [name for name in sets if name.endswith(UNSEEN)]
    main = headline_sets(name for name in sets if name not in unseen)
    lines = []
    for title, chosen in ((" + ".join(main), main), ("unseen", unseen)):
        if chosen:
            old, new = (100 * fmean(by_method[method][name].fpr95_id for name in chosen) for method in (before, after))
            lines.append(f"FPR95, {title}: {old:.1f} % ({before}) -> {new:.1f} % ({after}), {_ratio(new, old)}")
    old_accuracy, new_accuracy = (100 * next(iter(by_method[m].values())).id_accuracy for m in (before, after))
    lines.append(f"ID accuracy: {old_accuracy:.1f} % -> {new_accuracy:.1f} %")
    return lines


def _ratio(new: float, old: float) -> str:
    return f"ratio {new / old:.2f}" if old else "nothing was accepted before"

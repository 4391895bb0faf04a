"""The few lines that a benchmark comes down to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import fmean

from evaluation.table_order import best_without_antibodies, compared, headline_sets, unseen_of
from immuno.records import ResultRow


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
            old, new = (100 * fmean(by_method[method][name].fpr95_id for name in sets) for method in (best, after))
            lines.append(f"FPR95, {title}: {old:.1f} % ({best}) -> {new:.1f} % ({after}), {_ratio(new, old)}")
    old_accuracy, new_accuracy = (100 * next(iter(by_method[m].values())).id_accuracy for m in (before, after))
    lines.append(f"ID accuracy: {old_accuracy:.1f} % -> {new_accuracy:.1f} %")
    return lines


def _ratio(new: float, old: float) -> str:
    return f"ratio {new / old:.2f}" if old else "nothing was accepted before"

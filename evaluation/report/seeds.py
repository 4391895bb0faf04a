"""Several seeds in one table: mean and standard deviation of FPR95 and AUROC, by method and outlier set."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from evaluation.report.model import SeedRow, SeedsSummary
from evaluation.table_order import GROUP_TITLES, Group, group_of, headline_sets


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

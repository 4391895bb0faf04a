"""One benchmark run with several seeds: the mean and the standard deviation of every metric.

`summary.json` is the summary as plain JSON; a spread is {"mean": x, "sd": x}, null where a run did not measure it (or
got no finite number), and its sd is null for a single seed:

    {"seeds": [0, 1, 2],
     "rows":  [{"method": "mcm", "arm": "", "ood": "near", "auroc": {"mean": 0.9, "sd": 0.01}, ...}, ...],
     "means": [{"method": "mcm", "arm": "", "auroc": {...}, ...}, ...],
     "distances": {"near": [{"method": "mcm", ...}, ...], "far": [...]}}

`means` are over the outlier sets, each with the same weight: first over sets, then over seeds; `distances` the same
over those that are said to be near to the known classes and over those said to be far, where any are. The deviation is
that of a sample (n - 1) and says how much a figure changes with the seed; not how much with the test images, which is
what the intervals of evaluation.bootstrap say.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_serializer, model_validator

from evaluation.benchmark.fields import Part, Text
from evaluation.benchmark.order import MethodGroup, group_of, grouped, headline_sets
from evaluation.metrics import METRICS
from immuno_core.errors import SetupError
from immuno_core.files import write_atomically
from immuno_core.records import ResultRow

Distance = Literal["near", "far"]
"""Of outlier sets from the known classes, as the configuration says."""


class Spread(NamedTuple):
    """A metric over seeds."""

    mean: float
    sd: float | None = None
    """Standard deviation of the sample (n - 1); None for a single seed."""


class SeedRow(Part):
    """A method on one outlier set, or over all of them where `ood` is ""."""

    method: str
    arm: Text = ""
    ood: Text = ""
    uses_feedback: bool = False
    """As ResultRow.uses_feedback."""
    spreads: dict[str, Spread | None]
    """By metric of evaluation.metrics.METRICS; None where a run did not measure it."""

    @model_validator(mode="before")
    @classmethod
    def _of_line(cls, line: Any) -> Any:
        """Gather the metrics, which stand in the file as a row has them."""
        if not isinstance(line, Mapping) or "spreads" in line:
            return line
        spreads = {name: line.get(name) for name in METRICS}
        own = ("method", "arm", "ood", "uses_feedback")
        return {name: line[name] for name in own if name in line} | {"spreads": spreads}

    @model_serializer
    def _line(self) -> dict[str, Any]:
        own: dict[str, Any] = {"method": self.method, "arm": self.arm} | ({"ood": self.ood} if self.ood else {})
        own |= {"uses_feedback": True} if self.uses_feedback else {}
        return own | {name: spread and spread._asdict() for name, spread in self.spreads.items()}


class Summary(Part):
    """Several runs in one: `rows` per method and set, `means` per method over the sets, in the order of the runs."""

    seeds: tuple[int, ...]
    rows: tuple[SeedRow, ...] = ()
    means: tuple[SeedRow, ...] = ()
    distances: dict[Distance, tuple[SeedRow, ...]] = Field(default_factory=dict)

    @property
    def sets(self) -> tuple[str, ...]:
        """The outlier sets."""
        return tuple(dict.fromkeys(row.ood for row in self.rows))

    @property
    def headline_sets(self) -> tuple[str, ...]:
        """The sets that `headline` is over."""
        return headline_sets(self.sets)

    @property
    def using_feedback(self) -> frozenset[str]:
        """The methods in whose settings or antibodies outliers of the feedback had a say."""
        return frozenset(row.method for row in self.means if row.uses_feedback)

    def spread(self, method: str, metric: str, ood: str = "", distance: Distance | None = None) -> Spread | None:
        """A metric of a method on a set, over all of them, or over those at a distance; None where not measured."""
        rows = self.distances[distance] if distance else self.rows if ood else self.means
        return next((row.spreads.get(metric) for row in rows if (row.method, row.ood) == (method, ood)), None)

    def headline(self, method: str) -> float | None:
        """The mean FPR95 over the headline sets; None where one is missing.

        It has no deviation: that is known of each set, and of all of them together.
        """
        found = [self.spread(method, "fpr95_id", name) for name in self.headline_sets]
        return statistics.fmean(spread.mean for spread in found if spread) if found and all(found) else None

    def groups(self) -> list[MethodGroup]:
        """The methods by group, lowest headline mean first in each."""
        arms = {row.method: row.arm for row in self.rows}
        return grouped(arms, lambda method: group_of(arms[method], 0), self.headline)

    def save(self, path: Path) -> None:
        """Write `summary.json`, whole or not at all."""
        content = json.dumps(self.model_dump(), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(path, content + "\n")


def summarise(runs: Sequence[Sequence[ResultRow]], distances: Mapping[str, Distance] = MappingProxyType({})) -> Summary:
    """Summarise the rows of runs that differ in nothing but the seed; `distances` says which sets are near or far.

    Raises SetupError for no run, a run without rows or of several seeds, two runs of one seed, and runs whose methods,
    sets or parameters (but for one called seed) differ.
    """
    seeds = tuple(_seed(run) for run in runs)
    if not seeds:
        raise SetupError("no runs to summarise; run the benchmark with at least one seed")
    if len(set(seeds)) < len(seeds):
        raise SetupError(f"two runs have the same seed (of {_listed(seeds)}); give each a seed of its own")
    cells = [{(row.method, row.ood): row for row in run} for run in runs]
    first = cells[0]
    for seed, run, by_cell in zip(seeds, runs, cells, strict=True):
        if len(by_cell) < len(run):
            raise SetupError(f"the run with seed {seed} has a method twice on one set; give one of them a label")
        if missing := sorted(first.keys() ^ by_cell.keys()):
            method, ood = missing[0]
            raise SetupError(
                f"the runs with seeds {seeds[0]} and {seed} differ: only one has '{method}' on '{ood}'; run both with "
                "the same methods and sets"
            )
        for (method, _), row in by_cell.items():
            if _what(first[row.method, row.ood]) != _what(row):
                raise SetupError(
                    f"'{method}' has other parameters or antibodies with seed {seed} than with seed {seeds[0]}; "
                    "run all seeds with one configuration"
                )
    methods = dict.fromkeys(row.method for row in runs[0])
    sets = {method: [row.ood for row in runs[0] if row.method == method] for method in methods}
    one_of = {row.method: row for row in runs[0]}

    def means(distance: Distance | None = None) -> tuple[SeedRow, ...]:
        over = {method: [n for n in sets[method] if distance in (None, distances.get(n))] for method in methods}
        return tuple(_over_seeds(one_of[method], "", cells, over[method]) for method in methods if over[method])

    kinds: tuple[Distance, ...] = ("near", "far")
    return Summary(
        seeds=seeds,
        rows=tuple(_over_seeds(row, row.ood, cells, [row.ood]) for row in runs[0]),
        means=means(),
        distances={distance: found for distance in kinds if (found := means(distance))},
    )


def _seed(run: Sequence[ResultRow]) -> int:
    seeds = {row.seed for row in run}
    if len(seeds) != 1:
        found = f"has rows of the seeds {_listed(sorted(seeds))}" if seeds else "has no rows"
        raise SetupError(f"a run to summarise {found}; hand in each run's own rows")
    return seeds.pop()


def _what(row: ResultRow) -> tuple[str, dict[str, Any]]:
    return row.arm, {name: value for name, value in row.params.items() if name != "seed"}


def _over_seeds(
    one: ResultRow, ood: str, runs: Sequence[dict[tuple[str, str], ResultRow]], sets: Sequence[str]
) -> SeedRow:
    """What the method of a row reaches over the seeds."""
    spreads = {
        name: _spread([[run[one.method, each].metrics.get(name) for each in sets] for run in runs]) for name in METRICS
    }
    return SeedRow(method=one.method, arm=one.arm, ood=ood, uses_feedback=one.uses_feedback, spreads=spreads)


def _spread(values: Sequence[Sequence[float | None]]) -> Spread | None:
    """The spread over seeds of means over sets; None where a number is missing: what is left would be other runs'."""
    means = []
    for of_sets in values:
        measured = [value for value in of_sets if value is not None and math.isfinite(value)]
        if len(measured) < len(of_sets):
            return None
        means.append(statistics.fmean(measured))
    return Spread(statistics.fmean(means), statistics.stdev(means) if len(means) > 1 else None)


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(str(seed) for seed in seeds)

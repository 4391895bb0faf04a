"""The benchmark over several seeds: each into a folder of its own, then mean and standard deviation of everything.

OUT/seed-0/...      what a benchmark of seed 0 writes; its report shows the summary too
OUT/summary.json    evaluation.seeds.Summary
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.report import render_report
from evaluation.results import write_results
from evaluation.seeds import summarise, write_summary
from immuno.bench import bench
from immuno.config import RunConfig
from immuno.workflow import Workplace, with_overrides


@dataclass(frozen=True, slots=True)
class SeveralOutcome:
    """The summary as plain JSON values, each seed's verdict ({} where none was asked for), and the summary's file."""

    summary: dict[str, Any]
    verdicts: dict[int, dict[str, Any]]
    path: Path


def bench_seeds(
    config: RunConfig,
    seeds: Sequence[int],
    *,
    session: str | None,
    out: Path,
    to_settle: bool = False,
    database: str | None = None,
    ray_address: str | None = None,
    progress: str | None = None,
) -> SeveralOutcome:
    """Run the benchmark once per seed and summarise. Seeds that were measured before are not measured again.

    "{seed}" in a session's name is filled in, so that each seed can have a bank of its own.
    """
    session = session or config.antibodies.session
    outcomes = []
    for seed in seeds:
        name = session.replace("{seed}", str(seed)) if session else None
        with Workplace.open(
            with_overrides(config, seed=seed, session=name),
            database=database,
            ray_address=ray_address,
            progress=progress,
        ) as place:
            outcomes.append(bench(place, out=out / f"seed-{seed}", to_settle=to_settle))
    summary = summarise([one.rows for one in outcomes])
    write_summary(out / "summary.json", summary)
    for seed, one in zip(seeds, outcomes, strict=True):
        folder = out / f"seed-{seed}"
        write_results(folder / "results.json", {**one.results, "seeds_summary": summary.as_json()})
        render_report(folder)
    verdicts = {seed: one.results["verdict"] for seed, one in zip(seeds, outcomes, strict=True)}
    return SeveralOutcome(summary.as_json(), verdicts, out / "summary.json")

"""Several seeds: means, deviations, and what cannot be summarised."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.benchmark.seeds import Spread, Summary, summarise
from evaluation.metrics import METRICS
from immuno_core.errors import SetupError
from immuno_core.records import ResultRow
from tests.rows import SHARES, changed, result_row

Run = tuple[ResultRow, ...]
MEASURED = (*SHARES, "h_score", "oscr")


def make_run(seed: int) -> Run:
    """Two methods on two sets, every metric another number."""
    rng = np.random.default_rng(seed)

    def row(method: str, ood: str) -> ResultRow:
        shares = {name: float(rng.random()) for name in MEASURED}
        return result_row(method, ood, params={"w": 0.35, "seed": seed}, seed=seed, arm="bank", **shares)

    return tuple(row(method, ood) for method in ("mcm", "ours") for ood in ("near", "far"))


def test_mean_and_deviation_of_a_method_on_a_set() -> None:
    runs = [make_run(seed) for seed in (0, 1, 2)]
    summary = summarise(runs)
    assert summary.seeds == (0, 1, 2)
    assert [(row.method, row.arm, row.ood) for row in summary.rows] == [
        ("mcm", "bank", "near"),
        ("mcm", "bank", "far"),
        ("ours", "bank", "near"),
        ("ours", "bank", "far"),
    ]
    for name in MEASURED:
        for i, row in enumerate(summary.rows):
            values = np.array([run[i].metrics[name] for run in runs])
            assert row.spreads[name] == pytest.approx((values.mean(), values.std(ddof=1)), abs=1e-12)


def test_over_sets_the_mean_comes_before_the_deviation() -> None:
    runs = [make_run(seed) for seed in (3, 4, 5, 6)]
    found = summarise(runs).means
    assert [(row.method, row.ood) for row in found] == [("mcm", ""), ("ours", "")]
    for name in MEASURED:
        values = np.array([np.mean([row.metrics[name] for row in run[2:]]) for run in runs])
        assert found[1].spreads[name] == pytest.approx((values.mean(), values.std(ddof=1)), abs=1e-12)


def test_near_sets_and_far_ones_have_means_of_their_own() -> None:
    runs = [tuple(replace(row, ood=f"{row.ood}{i}") for i in (1, 2) for row in make_run(seed + i)) for seed in (3, 9)]
    runs = [tuple(replace(row, seed=seed) for row in run) for seed, run in enumerate(runs)]
    summary = summarise(runs, {"near1": "near", "near2": "near", "far1": "far"})
    assert list(summary.distances) == ["near", "far"]
    for method in ("mcm", "ours"):
        of_method = [[row for row in run if row.method == method] for run in runs]
        for distance, sets in (("near", {"near1", "near2"}), ("far", {"far1"})):
            values = [np.mean([r.metrics["auroc"] for r in run if r.ood in sets]) for run in of_method]
            expected = (np.mean(values), np.std(values, ddof=1))
            assert summary.spread(method, "auroc", distance=distance) == pytest.approx(expected, abs=1e-12)
    assert not summarise(runs).distances


def test_the_order_of_rows_within_a_run_does_not_matter() -> None:
    first, second = make_run(0), make_run(1)
    assert summarise([first, second[::-1]]) == summarise([first, second])


def test_one_seed_has_no_deviation() -> None:
    (row, *_) = summarise([make_run(0)]).rows
    assert row.spreads["auroc"] == Spread(make_run(0)[0].metrics["auroc"] or 0.0, None)


def test_what_one_run_did_not_measure_is_not_summarised() -> None:
    first, second = make_run(0), make_run(1)
    without = (changed(second[0], oscr=None), changed(second[1], auroc=math.nan), *second[2:])
    summary = summarise([first, without])
    near, far, *others = summary.rows
    assert near.spreads["oscr"] is None
    assert far.spreads["auroc"] is None
    assert near.spreads["auroc"] is not None
    assert all(row.spreads["oscr"] is not None for row in others)
    assert summary.means[0].spreads["oscr"] is None
    assert summary.means[1].spreads["oscr"] is not None
    assert near.spreads["threshold"] is None


def test_the_file_is_strict_json_of_the_documented_shape(tmp_path: Path) -> None:
    summary = summarise([make_run(0), make_run(1)])
    summary.save(tmp_path / "summary.json")
    read = json.loads((tmp_path / "summary.json").read_text())
    assert Summary.model_validate(read) == summary
    assert list(read) == ["seeds", "rows", "means", "distances"]
    assert list(read["rows"][0]) == ["method", "arm", "ood", *METRICS]
    assert list(read["means"][0]) == ["method", "arm", *METRICS]
    assert set(read["rows"][0]["auroc"]) == {"mean", "sd"}
    assert read["rows"][0]["threshold"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: run[:2], "seeds 0 and 1 differ: only one has 'ours' on 'far'"),
        (lambda run: (*run, replace(run[0], ood="textures")), "only one has 'mcm' on 'textures'"),
        (lambda run: (*run, run[0]), "seed 1 has a method twice on one set"),
        (lambda run: (replace(run[0], params={"w": 0.5}), *run[1:]), "'mcm' has other parameters"),
        (lambda run: (replace(run[0], arm="noise"), *run[1:]), "'mcm' has other parameters or antibodies with seed 1"),
        (lambda run: (replace(run[0], seed=7), *run[1:]), "rows of the seeds 1, 7"),
        (lambda run: tuple(replace(row, seed=0) for row in run), r"two runs have the same seed \(of 0, 0\)"),
        (lambda run: (), "a run to summarise has no rows"),
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_refused(change: Callable[[Run], Run], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        summarise([make_run(0), change(make_run(1))])


def test_there_must_be_a_run() -> None:
    with pytest.raises(SetupError, match="no runs to summarise"):
        summarise([])

"""A new metric is one entry of the table: it is measured, written, stored, drawn and summarised by that alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from db.store import open_store
from evaluation.benchmark.order import Measured
from evaluation.benchmark.results import Results
from evaluation.benchmark.seeds import summarise
from evaluation.metrics import METRICS, Metric
from evaluation.report import render_report
from immuno.terminal.results import print_bench
from tests.evaluation.benchmark.test_benchmark import method, run
from tests.evaluation.report.report_page import read
from tests.rows import ROW_FIELDS

GAP = Metric(
    "Median gap",
    "higher",
    "how far the median known image stands above the median outlier, at most 1",
    lambda scored: float(np.clip(np.median(scored.known) - np.median(scored.outliers), 0, 1)),
    lambda resamples: np.full(len(resamples.known), 0.25),
    interval=True,
)


def test_a_new_metric_is_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(METRICS, "median_gap", GAP)
    measured = run(method("mcm"), method("immuno_vlm"))
    rows = measured.rows
    gaps = [row.metrics["median_gap"] for row in rows]
    of_set = measured.scores["mcm"]
    assert gaps[0] == np.median(of_set["id"]) - np.median(of_set["near"])

    before, after = Measured(rows).compared()
    summary = summarise([rows])
    results = Results(run_id="r", rows=rows, before=before, after=after, seeds_summary=summary)
    results.save(tmp_path)
    lines = json.loads((tmp_path / "results.json").read_text())["rows"]
    found = [(line["median_gap"], line["intervals"]["median_gap"]) for line in lines]
    assert found == [(gap, [0.25, 0.25]) for gap in gaps]
    assert Results.read(tmp_path).rows[0].metrics["median_gap"] == gaps[0]
    with (tmp_path / "results.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert (float(first["median_gap"]), first["median_gap_low"], first["median_gap_high"]) == (gaps[0], "0.25", "0.25")

    with open_store(f"sqlite:///{tmp_path / 'immuno.db'}") as store:
        stored = store.start_run(config={}, config_digest="c" * 64, seed=7, git_sha=None, versions={})
        store.save_results(stored.id, rows)
        assert [row.metrics["median_gap"] for row in store.results(stored.id)] == gaps
        assert store.results(stored.id)[0].intervals["median_gap"] == (0.25, 0.25)

    print_bench(results)
    assert "gap" in capsys.readouterr().out
    page = read(render_report(tmp_path))
    for place in ("by-method-table", "all-metrics"):
        assert "Median gap" in page.words(place)
    assert f"{100 * (gaps[0] or 0):.2f}" in page.words("all-metrics")

    summary.save(tmp_path / "summary.json")
    over_seeds = json.loads((tmp_path / "summary.json").read_text())
    assert over_seeds["rows"][0]["median_gap"] == {"mean": gaps[0], "sd": None}


def test_every_metric_says_what_it_is() -> None:
    for name, metric in METRICS.items():
        assert name.isidentifier()
        assert name not in ROW_FIELDS
        assert metric.title
        assert metric.meaning
        assert metric.resampled or not metric.interval

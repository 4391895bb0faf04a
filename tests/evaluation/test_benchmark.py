"""A benchmark gives one row per method and outlier set, and a results folder that other programs can rely on."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation import metrics
from evaluation.benchmark import BenchmarkResult, run_methods
from evaluation.report.model import Results as ReportedResults
from evaluation.results import read_results, write_results, write_scores
from evaluation.scores import SCORES, make_score
from immuno.config import MethodConfig
from immuno.errors import ImmunoError, SetupError
from immuno.records import ResultRow, SkippedImage

from .synthetic import held_out, make_space, named, outliers

SPACE = make_space(0, fit=80)
KNOWN, LABELS = held_out(SPACE, 0, 60)
NEAR, FAR = outliers(SPACE, 0, 50, "near"), outliers(SPACE, 1, 9, "far")


def method(name: str, label: str | None = None, **params: Any) -> MethodConfig:
    return MethodConfig(name=name, label=label, **params)


def measured() -> BenchmarkResult:
    methods = [method(name) for name in SCORES] + [method("calibrated", "sharp", eps=0.1, base="max_cosine")]
    return run_methods(SPACE, methods, KNOWN, [NEAR, FAR], seed=7)


def test_there_is_a_row_for_every_method_and_set_in_order() -> None:
    rows = measured().rows
    assert [(row.method, row.ood) for row in rows] == [
        (label, ood) for label in (*SCORES, "sharp") for ood in ("near", "far")
    ]
    assert {row.seed for row in rows} == {7}
    assert [(row.n_id, row.n_ood) for row in rows[:2]] == [(60, 50), (60, 9)]
    assert [row.antibodies for row in rows[::2]] == [0, 0, 0, 7, 7, 7, 7, 7]
    assert rows[-1].params == {"eps": 0.1, "beta": 2.5, "base": "max_cosine", "alpha": 0.9, "xi": np.pi / 4, "w": 0.35}
    assert rows[-1].extra == {"score": "calibrated"}


def test_a_row_holds_the_metrics_of_its_scores() -> None:
    result = measured()
    for row in result.rows:
        score = make_score(str(row.extra.get("score", row.method)), **row.params).fit(SPACE)
        known = result.scores[row.method]["id"]
        out = result.scores[row.method][row.ood]
        assert known.tolist() == score.score(KNOWN.features).tolist()
        assert out.tolist() == score.score((NEAR if row.ood == "near" else FAR).features).tolist()
        for key in ("auroc", "aupr_in", "aupr_out", "fpr95_id", "fpr95_ood"):
            assert getattr(row, key) == getattr(metrics, key)(known, out)
        assert row.id_accuracy == np.mean(score.predict(KNOWN.features) == LABELS)


def test_the_same_run_gives_the_same_numbers() -> None:
    assert measured().rows == measured().rows


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": [method("mcm"), method("nope")]}, "no score 'nope'"),
        (
            {"methods": [method("mcm"), method("mcm", temperature=0.1)]},
            "two methods are called 'mcm'; give one of them",
        ),
        ({"outliers": [NEAR, replace(FAR, name="near")]}, "two test sets are called 'near'"),
        ({"outliers": [replace(FAR, name="id")]}, "two test sets are called 'id'"),
        ({"outliers": [FAR.take(np.arange(0))]}, "'far' has no image that could be read"),
        ({"known": KNOWN.take(np.arange(0))}, "'id' has no image"),
        ({"known": named(KNOWN, LABELS + 1)}, "label.* not in the class list .first: 'class 5'"),
        ({"known": replace(KNOWN, features=KNOWN.features[:, :4])}, "4 dimensions"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"methods": [method("mcm")], "known": KNOWN, "outliers": [NEAR]} | changes
    with pytest.raises(SetupError, match=said):
        run_methods(SPACE, given["methods"], given["known"], given["outliers"], seed=0)


# ---- the results folder


def contents(**changes: Any) -> dict[str, Any]:
    return {
        "run_id": "r1",
        "config_digest": "c1",
        "encoder": {"model": "ViT-B-16"},
        "versions": {"numpy": "2"},
        "git_sha": None,
        "rows": [asdict(row) for row in measured().rows],
        "verdict": {},
        "skipped": [asdict(SkippedImage("near", "é.png", "truncated"))],
        "test_reads": [{"when": "2026-01-01T00:00:00+00:00", "run_id": "r1", "sets": ["id"], "reason": "benchmark"}],
    } | changes


def test_results_are_written_as_promised_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "out" / "results.json"
    write_results(path, contents())
    raw = json.loads(path.read_text(encoding="utf-8"))
    assert list(raw)[:7] == ["run_id", "config_digest", "encoder", "versions", "git_sha", "rows", "verdict"]
    assert list(raw["rows"][0]) == [field.name for field in fields(ResultRow)]
    assert read_results(path) == raw == contents()
    assert tuple(ResultRow(**row) for row in raw["rows"]) == measured().rows
    assert "é.png" in path.read_text(encoding="utf-8")
    reported = ReportedResults.model_validate(raw)
    assert len(reported.rows) == 16
    assert reported.skipped[0].reason == "truncated"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"verdict": {"gain": float("nan")}}, "not JSON compliant"),
        ({"extra": [float("inf")]}, "not JSON compliant"),
        ({"git_sha": 7}, "git_sha"),
        ({"rows": [{"method": "mcm"}]}, "rows.0.params"),
    ],
)
def test_results_that_break_the_promise_are_not_written(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "results.json"
    write_results(path, contents())
    before = path.read_bytes()
    with pytest.raises(ImmunoError, match=f"was not written: .*{said}"):
        write_results(path, contents(**changes))
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "is not JSON"), ("[]", "is no results file"), ('{"run_id": "x"}', "no results file: config_digest")],
)
def test_a_file_that_is_no_results_file_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(SetupError, match=r"no results at .*immuno bench CONFIG --out"):
        read_results(path)
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SetupError, match=said):
        read_results(path)
    with pytest.raises(SetupError, match="cannot read"):
        read_results(tmp_path)


def test_scores_are_stored_by_method_and_set(tmp_path: Path) -> None:
    result = measured()
    write_scores(tmp_path / "scores.npz", result.scores)
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as stored:
        assert set(stored.files) == {f"{m}|{s}" for m in (*SCORES, "sharp") for s in ("id", "near", "far")}
        assert stored["sharp|far"].tolist() == result.scores["sharp"]["far"].tolist()
        assert stored["mcm|id"].dtype == np.float64

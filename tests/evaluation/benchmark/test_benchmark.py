"""A benchmark gives one row per method and outlier set, and a results folder that other programs can rely on."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation import metrics
from evaluation.benchmark.arms import Arms
from evaluation.benchmark.leakage import Leak
from evaluation.benchmark.methods import (
    BenchmarkResult,
    check_methods,
    fit_methods,
    measure_methods,
    run_methods,
)
from evaluation.benchmark.presets import Planned
from evaluation.benchmark.results import Results, csv_columns, write_scores
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.scores.choice import choose_settings
from evaluation.scores.registry import SCORES, make_score
from evaluation.space import Feedback, Space
from immuno_core.config.methods import Arm, MethodConfig
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.features import FeatureSet, LocalRequest
from immuno_core.records import FailedImage
from tests.evaluation.synthetic import held_out, make_space, named, outliers

BARE = make_space(0, fit=80)
KNOWN, LABELS = held_out(BARE, 0, 60)
NEAR, FAR = outliers(BARE, 0, 50, "near"), outliers(BARE, 1, 9, "far")
HELD_OUT, HELD_OUT_LABELS = held_out(BARE, 5, 40)
# Of a test run the split is "test"; here both are "feedback", and so must differ in name.
HELD_OUT = replace(HELD_OUT, name="held out")
SPACE = replace(BARE, feedback=Feedback(HELD_OUT, HELD_OUT_LABELS, {"near": outliers(BARE, 2, 30, "near")}))
OF_EMBEDDINGS = [name for name in SCORES if name not in ("gl_mcm", "negrefine")]


def method(name: str, label: str | None = None, arm: Arm | None = None, **params: Any) -> MethodConfig:
    return MethodConfig(name=name, label=label, arm=arm, **params)


def run(*methods: MethodConfig | Planned, space: Space = SPACE, **options: Any) -> BenchmarkResult:
    return run_methods(Arms(space), methods, KNOWN, [NEAR, FAR], seed=7, replicates=20, **options)


@cache
def measured() -> BenchmarkResult:
    methods = [method(name, arm="bank" if SCORES[name].uses_bank else None) for name in OF_EMBEDDINGS]
    return run(*methods, method("calibrated", "sharp", eps=0.1, base="max_cosine"))


def test_there_is_a_row_for_every_method_and_set_in_order() -> None:
    rows = measured().rows
    assert [(row.method, row.ood) for row in rows] == [
        (label, ood) for label in (*OF_EMBEDDINGS, "sharp") for ood in ("near", "far")
    ]
    assert {row.seed for row in rows} == {7}
    assert [(row.n_id, row.n_ood) for row in rows[:2]] == [(60, 50), (60, 9)]
    for row in rows:
        uses_bank = SCORES[str(row.extra.get("score", row.method))].uses_bank
        # immuno_vlm has visual ones besides: as many as there are clusters.
        assert (row.antibodies, row.arm) == ((7 + 10 * (row.method == "immuno_vlm"), "bank") if uses_bank else (0, ""))
    assert rows[-1].params["eps"] == 0.1
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
            assert row.metrics[key] == getattr(metrics, key)(known, out)
        right = score.predict(KNOWN.features) == LABELS
        assert row.metrics["id_accuracy"] == np.mean(right)
        assert row.metrics["oscr"] == metrics.oscr(known, right, out)
        assert row.metrics["h_score"] == metrics.h_score(np.mean(right), metrics.auroc(known, out))
        assert row.intervals["fpr95_id"][0] <= (row.metrics["fpr95_id"] or 0.0) <= row.intervals["fpr95_id"][1]
        assert set(row.intervals) == {"auroc", "fpr95_id", "fpr95_ood", "id_accuracy"}


def test_a_method_may_choose_on_the_feedback_and_says_so() -> None:
    both = [method("knn"), MethodConfig(name="knn", choose=True), MethodConfig(name="mcm"), method("immuno_vlm")]
    published, chosen, mcm, ours = run(*both).rows[::2]
    assert [row.method for row in (published, chosen)] == ["knn", "knn, chosen"]
    assert [row.uses_feedback for row in (published, chosen, mcm, ours)] == [False, True, False, True]
    # What was asked for is the same with every seed; what it came to is not.
    assert (published.params["k"], chosen.params["k"]) == (50, "auto")
    k = chosen.extra["chosen"]["k"]
    assert k == choose_settings(make_score("knn"), SPACE).figures["k"] != 50
    same = run(method("knn", k=k)).scores["knn"]["near"]
    assert run(MethodConfig(name="knn", choose=True)).scores["knn, chosen"]["near"].tolist() == same.tolist()


def test_a_row_says_how_many_labelled_images_it_used() -> None:
    chosen = [MethodConfig(name=name, choose=True) for name in ("knn", "mcm")]
    methods = [*map(method, ("mcm", "knn", "s_dis", "immuno_vlm")), *chosen]
    assert BARE.fit is not None
    assert BARE.fit_labels is not None
    crossed = replace(BARE, feedback=Feedback.cross_fitted(BARE.fit, BARE.fit_labels, {"far": FAR}, seed=0))
    for space, expected in (
        (SPACE, [(0, 0), (80, 0), (80, 0), (120, 30), (120, 30), (40, 30)]),
        (crossed, [(0, 0), (80, 0), (80, 0), (80, 9), (80, 9), (80, 9)]),
        (BARE, [(0, 0), (80, 0), (80, 0), (80, 0)]),
    ):
        rows = run(*methods[: len(expected)], space=space).rows[::2]
        assert [(row.metrics["known_used"], row.metrics["outliers_used"]) for row in rows] == expected


def test_what_used_no_outliers_is_not_marked() -> None:
    assert not any(row.uses_feedback for row in run(method("immuno_vlm"), space=BARE).rows)


def test_a_choice_without_anything_to_choose_or_to_choose_by_is_refused() -> None:
    nothing = MethodConfig.model_validate({"name": "mcm", "choose": True, "temperature": 0.5})
    with pytest.raises(SetupError, match="no setting left to choose"):
        check_methods([nothing])
    blind = MethodConfig(name="knn", choose=True)
    with pytest.raises(SetupError, match=r"method 'knn, chosen': .*give \[\[data.feedback\]\]"):
        run(blind, space=BARE)
    assert run(Planned(blind, optional=True), method("mcm"), space=BARE).left_out.keys() == {"knn, chosen"}


def test_what_has_to_be_known_of_a_fit_is_said_before_and_with_the_figures() -> None:
    one_each = replace(
        BARE,
        fit=BARE.fit.take(first := np.unique(BARE.fit_labels, return_index=True)[1]),
        fit_labels=BARE.fit_labels[first],
    )
    fitted = fit_methods(Arms(one_each), [method("knn", k=3), method("mahalanobis"), method("mcm")])
    remarks = {one.label: one.fitted.remarks for one in fitted.methods}
    assert remarks["mcm"] == ()
    assert remarks["knn"][0].startswith("K = 3, and the smallest class has 1 fit image")
    assert remarks["mahalanobis"][0].startswith("no class has two fit images")
    rows = measure_methods(fitted, KNOWN, [NEAR], seed=0, replicates=2).rows
    assert [row.extra.get("remarks", []) for row in rows] == [list(remarks[row.method]) for row in rows]
    assert not any(row.extra.get("remarks") for row in run(method("knn", k=1), method("mahalanobis")).rows)


def test_the_deployed_threshold_accepts_95_percent_of_the_known_feedback_images() -> None:
    result = measured()
    for row in result.rows:
        score = make_score(str(row.extra.get("score", row.method)), **row.params).fit(SPACE)
        threshold, deployed = row.metrics["threshold"], result.thresholds[row.method]
        assert threshold is not None
        assert deployed is not None
        assert threshold == deployed.value
        if score.own_threshold is None:
            assert threshold == metrics.threshold_at(score.score(HELD_OUT.features))
            assert deployed.found_on is not None
            assert deployed.found_on.tolist() == score.score(HELD_OUT.features).tolist()
        else:
            assert deployed == (score.own_threshold, None)
        assert row.metrics["acceptance"] == np.mean(result.scores[row.method]["id"] >= threshold)
        assert row.metrics["rejection"] == np.mean(result.scores[row.method][row.ood] < threshold)


def test_the_paper_deploys_its_own_rule_with_and_without_feedback() -> None:
    paper, without_evt = method("immuno_vlm_paper"), method("immuno_vlm_paper", "no EVT", evt=False)
    for space in (SPACE, BARE):
        result = run(paper, without_evt, space=space)
        assert {row.metrics["threshold"] for row in result.rows if row.method == "immuno_vlm_paper"} == {0.0}
        assert 0.0 not in {row.metrics["threshold"] for row in result.rows if row.method == "no EVT"}


@pytest.mark.parametrize("name", ["knn", "immuno_vlm"])
def test_where_fit_images_are_the_feedback_a_threshold_is_found_on_images_that_fitted_nothing(name: str) -> None:
    assert BARE.fit is not None
    assert BARE.fit_labels is not None
    assert SPACE.feedback is not None
    both = Feedback.cross_fitted(BARE.fit, BARE.fit_labels, SPACE.feedback.outliers, seed=0)
    space = replace(BARE, feedback=both)
    result = run(method(name, **({"k": 1} if name == "knn" else {})), space=space)
    settled = result.fitted[name].settled or make_score(name, k=1)
    deployed = result.thresholds[name]
    assert deployed is not None
    assert deployed.found_on is not None
    assert both.parts is not None
    for row in range(0, 80, 11):
        part = settled.fit(space.without(int(both.parts[row])))
        assert deployed.found_on[row] == pytest.approx(part.score(BARE.fit.features[row : row + 1])[0], abs=1e-12)


def test_the_harm_of_all_antibodies_together_is_told() -> None:
    result = run(method("calibrated"), method("s_dis"), method("max_logit"))
    fitted = result.fitted["calibrated"]
    assert isinstance(fitted, FittedCalibrated)
    fired = np.mean(fitted.fires(KNOWN.features))
    assert 0 < fired < 1
    assert {(row.method, row.metrics["fired_known"]) for row in result.rows} == {
        ("calibrated", fired),
        ("s_dis", None),
        ("max_logit", None),
    }


def test_without_feedback_nothing_is_deployed() -> None:
    for row in run(method("mcm"), space=BARE).rows:
        assert {row.metrics[name] for name, metric in metrics.METRICS.items() if metric.deployed} == {None}


def test_what_fitting_chose_is_in_the_rows() -> None:
    rows = run(method("immuno_vlm")).rows
    assert rows[0].extra["chosen"] == rows[1].extra["chosen"] == make_score("immuno_vlm").fit(SPACE).chosen


def test_an_arm_replaces_the_bank() -> None:
    result = run(method("s_dis"), method("s_dis", "bare", arm="none"), method("max_logit"))
    assert {row.method: (row.arm, row.antibodies) for row in result.rows} == {
        "s_dis": ("bank", 7),
        "bare": ("none", 0),
        "max_logit": ("", 0),
    }
    assert result.scores["bare"]["near"].tolist() != result.scores["s_dis"]["near"].tolist()


def test_a_method_of_a_preset_that_cannot_be_fitted_is_left_out_with_the_reason() -> None:
    planned = [Planned(method("knn"), optional=True), Planned(method("mcm"))]
    result = run(*planned, space=replace(BARE, fit=None, fit_labels=None))
    assert {row.method for row in result.rows} == {"mcm"}
    assert "data.fit" in result.left_out["knn"]
    with pytest.raises(SetupError, match=r"method 'knn': .*data.fit"):
        run(method("knn"), space=replace(BARE, fit=None, fit_labels=None))
    with pytest.raises(SetupError, match=r"no method could be measured: knn: .*data.fit"):
        run(planned[0], space=replace(BARE, fit=None, fit_labels=None))


def test_an_arm_for_a_score_without_antibodies_is_refused() -> None:
    with pytest.raises(
        SetupError, match=r"method 'mcm': the score 'mcm' uses no antibodies; leave out arm = \"noise\""
    ):
        run(method("mcm", arm="noise"))


class Patches:
    """An embedder that has nothing but answers about patches; it counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def local_matching(self, images: FeatureSet, request: LocalRequest) -> np.ndarray:
        self.asked.append(images.name)
        return (images.features @ request.texts.T).max(axis=1).astype(np.float64)


def test_a_score_that_needs_patches_asks_for_them_once() -> None:
    embedder = Patches()
    result = run(method("gl_mcm"), method("gl_mcm", "half", lambda_local=0.5), embedder=embedder)
    assert sorted(embedder.asked) == ["far", "held out", "id", "near"]
    assert result.scores["gl_mcm"]["far"].tolist() != result.scores["half"]["far"].tolist()
    with pytest.raises(SetupError, match="patch embeddings"):
        run(method("gl_mcm"))


def test_it_says_which_method_it_works_on() -> None:
    told: list[str] = []
    fitted = fit_methods(
        Arms(SPACE), [method("mcm"), method("max_logit", "max cosine")], on_method=lambda label: told.append(label)
    )
    measure_methods(fitted, KNOWN, [NEAR], seed=0, replicates=5, on_method=told.append)
    assert told == ["mcm", "max cosine"] * 2


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ([method("nope")], "no score 'nope'"),
        ([method("mcm", temprature=1.0)], "no parameter 'temprature'.*temperature"),
        ([method("mcm", temperature=-1.0)], "temperature = -1.0"),
        ([method("mcm"), method("mcm")], "two methods are called 'mcm'"),
        ([method("mcm", arm="none")], "uses no antibodies"),
    ],
)
def test_mistakes_in_methods_are_found_before_anything_is_embedded(methods: list[MethodConfig], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        check_methods(methods)


def test_the_same_run_gives_the_same_numbers() -> None:
    again = run(method("calibrated", "sharp", eps=0.1, base="max_cosine"))
    assert again.rows == measured().rows[-2:]


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
        run_methods(Arms(SPACE), given["methods"], given["known"], given["outliers"], seed=0)


# ---- the results folder


def results(**changes: Any) -> Results:
    return Results(
        **{
            "run_id": "r1",
            "config_digest": "c1",
            "encoder": {"model": "ViT-B-16"},
            "versions": {"numpy": "2"},
            "git_sha": None,
            "rows": measured().rows,
            "skipped": (FailedImage("near", "é.png", "truncated"),),
            "leakage": (Leak("near", "a1", "a fox", "fox", "equal"),),
            "test_reads": ({"when": "2026-01-01T00:00:00+00:00", "run_id": "r1", "sets": ["id"], "reason": "bench"},),
            "a_key_of_a_later_version": {"kept": True},
        }
        | changes
    )


def test_results_are_written_as_promised_and_read_back(tmp_path: Path) -> None:
    path = results().save(tmp_path / "out")
    raw = json.loads(path.read_text(encoding="utf-8"))
    assert set(raw) == {*Results.model_fields, "a_key_of_a_later_version"}
    assert raw["rows"] == json.loads(json.dumps([row.as_dict() for row in measured().rows]))
    assert raw["verdict"] == {}
    assert "é.png" in path.read_text(encoding="utf-8")
    read = Results.read(tmp_path / "out")
    assert json.loads(json.dumps([row.as_dict() for row in read.rows])) == raw["rows"]
    assert all(isinstance(row.intervals["auroc"], tuple) for row in read.rows)
    assert read.skipped == (FailedImage("near", "é.png", "truncated"),)
    assert read == Results.read(path)
    again = Results.read(read.save(tmp_path / "again")).model_dump(mode="json")
    assert again == read.model_dump(mode="json") == raw


@pytest.mark.parametrize(
    "changes",
    [
        {"gallery": [{"image": "x.png", "score_before": float("nan")}]},
        {"extra": [float("inf")]},
        {"config": {"a": {1}}},
    ],
)
def test_what_is_not_strict_json_is_not_written(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = results().save(tmp_path)
    before = path.read_bytes()
    with pytest.raises(ImmunoError, match=r"was not written: .*JSON"):
        results(**changes).save(tmp_path)
    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"results.json", "results.csv"}


@pytest.mark.parametrize(("changes", "said"), [({"git_sha": 7}, "git_sha"), ({"rows": [{"ood": "near"}]}, "method")])
def test_results_that_break_the_promise_cannot_be_made(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        results(**changes)


def test_results_are_a_table_for_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measured().rows
    table = results().to_pandas()
    assert tuple(table.columns) == csv_columns()
    assert list(table["auroc"]) == [row.metrics["auroc"] for row in rows]
    assert list(table["fpr95_id_low"]) == [row.intervals["fpr95_id"][0] for row in rows]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(SetupError, match="pip install pandas"):
        results().to_pandas()


def test_scores_are_stored_by_method_and_set(tmp_path: Path) -> None:
    result = measured()
    write_scores(tmp_path / "scores.npz", result.scores)
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as stored:
        assert set(stored.files) == {f"{m}|{s}" for m in (*OF_EMBEDDINGS, "sharp") for s in ("id", "near", "far")}
        assert stored["sharp|far"].tolist() == result.scores["sharp"]["far"].tolist()
        assert stored["mcm|id"].dtype == np.float64

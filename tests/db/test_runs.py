"""Benchmark runs, their lines, and the book of sealed reads."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from db.questions.sql import run_sql
from db.records import RunRecord, SessionRecord
from db.store import AntibodyStore
from immuno_core.errors import ImmunoError, SetupError
from tests.rows import changed

from .build import result

DIGEST = "c" * 64


def start(store: AntibodyStore, **changes: Any) -> RunRecord:
    values: dict[str, Any] = {"config": {"a": [1]}, "config_digest": DIGEST, "seed": 1, "git_sha": None, "versions": {}}
    return store.start_run(**(values | changes))


def test_a_run_begins_and_ends(store: AntibodyStore, session: SessionRecord) -> None:
    assert store.runs() == ()
    first = start(store, session_id=session.id)
    assert (first.status, first.finished_at, first.session_id) == ("running", None, session.id)
    assert store.runs() == (first,)
    store.finish_run(first.id)
    (found,) = store.runs()
    assert found == replace(first, status="finished", finished_at=found.finished_at)
    assert found.finished_at is not None
    assert found.finished_at >= first.started_at
    second = start(store)
    store.finish_run(second.id, "failed")
    assert [(one.id, one.status) for one in store.runs()] == [(first.id, "finished"), (second.id, "failed")]


def test_an_unknown_run_is_an_error(store: AntibodyStore) -> None:
    with pytest.raises(SetupError, match="no run with the id 'nothing'"):
        store.finish_run("nothing")
    with pytest.raises(ImmunoError, match=r"(?i)foreign key"):
        store.save_results("nothing", [result()])
    with pytest.raises(ImmunoError, match=r"(?i)foreign key"):
        store.record_test_read("nothing", ["near"], "why")


def test_lines_are_saved_once_and_keep_their_order(store: AntibodyStore) -> None:
    run = start(store)
    rows = [result(ood="near"), result(ood="far"), result(method="energy", ood="near")]
    assert store.save_results(run.id, rows[:2]) == 2
    assert store.save_results(run.id, [*rows, result(ood="near", auroc=0.0)]) == 1
    assert store.results(run.id) == tuple(rows)
    assert store.save_results(run.id, []) == 0


def test_a_metric_that_is_not_a_number_stays_so(store: AntibodyStore) -> None:
    run = start(store)
    given = result(auroc=math.nan, fpr95_id=math.inf, fpr95_ood=-math.inf, extra={"tail": [math.nan]})
    store.save_results(run.id, [given])
    (stored,) = store.results(run.id)
    assert math.isnan(stored.extra["tail"][0])
    assert changed(stored, extra={}) == changed(given, auroc=None, extra={})


def test_a_metric_that_nobody_has_heard_of_is_kept_and_found_by_sql(store: AntibodyStore) -> None:
    run = start(store)
    row = result(brier=0.125, intervals={"brier": (0.0, 0.25)})
    store.save_results(run.id, [row])
    assert store.results(run.id) == (row,)
    query = "SELECT r.method, x.value, x.low, x.high FROM results r JOIN result_metrics x ON x.result_id = r.id"
    assert run_sql(store, f"{query} WHERE x.metric = 'brier'").rows == (("mcm", 0.125, 0.0, 0.25),)


def test_what_was_not_measured_is_none_and_what_was_is_as_it_was(store: AntibodyStore) -> None:
    run = start(store)
    shares = {"h_score": 0.5, "oscr": 0.25, "threshold": -3.5, "acceptance": 1.0, "rejection": 0.0}
    rows = [
        result(ood="near"),
        result(ood="far", arm="noise", **shares, accepted_accuracy=0.5, intervals={"auroc": (0.25, 0.5)}),
        result(ood="odd", arm="bank", **shares | {"threshold": -math.inf}, accepted_accuracy=None),
    ]
    store.save_results(run.id, rows)
    assert store.results(run.id) == tuple(rows)


def test_an_interval_without_ends_keeps_them(store: AntibodyStore) -> None:
    run = start(store)
    store.save_results(run.id, [result(intervals={"auroc": (math.nan, math.inf)})])
    (stored,) = store.results(run.id)
    assert math.isnan(stored.intervals["auroc"][0])
    assert stored.intervals["auroc"][1] == math.inf


def test_every_opening_of_the_sealed_split_is_written_down(store: AntibodyStore) -> None:
    run = start(store)
    first = store.record_test_read(run.id, ["id", "near"], "benchmark")
    second = store.record_test_read(run.id, ("id", "near"), "benchmark")
    assert store.test_reads() == (first, second)
    assert (first.run_id, first.sets, first.reason) == (run.id, ("id", "near"), "benchmark")

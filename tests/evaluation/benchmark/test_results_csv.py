"""results.csv: a line per row, intervals in columns, nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.benchmark.results import Results, csv_columns, write_csv
from evaluation.metrics import METRICS
from immuno_core.errors import ImmunoError
from tests.rows import result_row

ROW = result_row(
    "immuno_vlm", params={"beta": 2.5, "alpha": None}, auroc=1 / 3, antibodies=3, arm="bank", threshold=-3.5,
    intervals={"fpr95_id": (0.1, 0.2), "oscr": (0.0, 1.0)}, extra={"score": "calibrated"},
)  # fmt: skip


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_line_per_row_and_a_column_per_key(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.csv"
    write_csv(path, [ROW, replace(ROW, ood="far", params={}, intervals={})])
    near, far = lines(path)
    assert tuple(near) == csv_columns()
    assert set(near) >= set(ROW.as_dict()) - {"intervals"}
    assert set(near) >= {f"{name}_{end}" for name in METRICS if METRICS[name].resampled for end in ("low", "high")}
    assert (near["method"], near["ood"], near["arm"], near["n_ood"]) == ("immuno_vlm", "near", "bank", "20")
    assert float(near["auroc"]) == 1 / 3, "every digit"
    assert (near["fpr95_id_low"], near["fpr95_id_high"]) == ("0.1", "0.2")
    assert near["uses_feedback"] == "False"
    assert (near["auroc_low"], near["h_score"], near["rejection"]) == ("", "", ""), "nothing where nothing was measured"
    assert near["threshold"] == "-3.5", "a negative number is a number"
    assert json.loads(near["params"]) == {"beta": 2.5, "alpha": None}
    assert json.loads(near["extra"]) == {"score": "calibrated"}
    assert (far["ood"], far["params"], far["fpr95_id_low"]) == ("far", "{}", "")


def test_a_row_that_used_labelled_outliers_says_so(tmp_path: Path) -> None:
    marked = replace(ROW, extra={**ROW.extra, "uses_feedback": True})
    write_csv(tmp_path / "results.csv", [marked])
    assert lines(tmp_path / "results.csv")[0]["uses_feedback"] == "True"
    Results(rows=(marked, ROW)).save(tmp_path)
    assert [row.uses_feedback for row in Results.read(tmp_path).rows] == [True, False]


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_text_that_a_spreadsheet_would_run_is_prefixed(tmp_path: Path, text: str) -> None:
    write_csv(tmp_path / "results.csv", [replace(ROW, method=text, ood=text)])
    (line,) = lines(tmp_path / "results.csv")
    assert (line["method"], line["ood"]) == (f"'{text}", f"'{text}")


@pytest.mark.parametrize(
    "text", ['say "hi", twice', "two\nlines", "two\r\nlines", "ümlaut 机器狗", "a=b", "'quoted'", ""]
)
def test_any_other_text_comes_back(tmp_path: Path, text: str) -> None:
    write_csv(tmp_path / "results.csv", [replace(ROW, method=text, params={"text": text})])
    (line,) = lines(tmp_path / "results.csv")
    assert line["method"] == text
    assert json.loads(line["params"]) == {"text": text}


def test_no_rows_are_a_heading(tmp_path: Path) -> None:
    write_csv(tmp_path / "results.csv", [])
    assert (tmp_path / "results.csv").read_bytes() == ",".join(csv_columns()).encode() + b"\r\n"


@pytest.mark.parametrize("value", [math.nan, {1, 2}])
def test_what_is_not_json_leaves_the_old_file_alone(tmp_path: Path, value: object) -> None:
    path = tmp_path / "results.csv"
    write_csv(path, [ROW])
    before = path.read_bytes()
    with pytest.raises(ImmunoError, match=r"results\.csv was not written"):
        write_csv(path, [ROW, replace(ROW, params={"odd": value})])
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


def test_rows_of_a_results_file_are_as_they_were(tmp_path: Path) -> None:
    rows = (ROW, replace(ROW, ood="far"))
    Results(run_id="r", rows=rows).save(tmp_path)
    assert Results.read(tmp_path).rows == rows
    assert [line["ood"] for line in lines(tmp_path / "results.csv")] == ["near", "far"]

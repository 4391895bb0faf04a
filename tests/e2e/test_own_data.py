"""A benchmark on embeddings alone: feature files and a table of texts, without images, a model or Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db.store import open_store
from immuno.cli import main
from tests.configs import write_config
from tests.e2e.own_data import BANK, DATA, OWN

pytestmark = pytest.mark.usefixtures("unpainted")


def bench(config: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    folder = config.parent
    with pytest.raises(SystemExit) as stopped:
        main(["bench", str(config), "--out", str(folder / "out"), "--db", str(folder / "immuno.db"), "--json"])
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def test_a_benchmark_runs_on_feature_files(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = bench(config, capsys)
    assert status == 0, err
    results = json.loads(out)
    sizes = {(row["ood"], row["n_id"], row["n_ood"]) for row in results["rows"]}
    assert sizes == {("near", 30, 20), ("far", 30, 25)}
    assert results["encoder"]["model"] == "precomputed"
    by_method = {row["method"]: row for row in results["rows"] if row["ood"] == "near"}
    assert by_method["max_logit"]["id_accuracy"] == 1
    assert by_method["calibrated"]["antibodies"] == 1


def test_the_headline_is_about_immuno_vlm_and_unseen_is_told_by_classes(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, random = config.parent, np.random.default_rng(1)
    for name, label, count in (("hinted", "wolf", 20), ("near", "wolf", 21), ("other", "pan", 22)):
        np.savez(folder / f"{name}.npz", features=random.normal(size=(count, 16)), labels=[label] * count)
    sets = {"feedback": {"hints": "hinted.npz"}, "ood": {"other": "other.npz"} | DATA["ood"]}
    write_config(config, **OWN | {"data": DATA | sets, "methods": ["eoe", "immuno_vlm", *OWN["methods"]]})

    status, out, err = bench(config, capsys)
    assert status == 0, err
    results = json.loads(out)
    means = {row["method"]: row["fpr95_id"] for row in results["rows"] if row["ood"] == "near"}
    assert results["after"] == "immuno_vlm"
    assert results["before"] == min(("mcm", "max_logit"), key=means.__getitem__)
    # "far" has no classes, and no test set has the name of one in the feedback: nothing can be said of it.
    assert results["unseen"] == ["other"]


def test_overlap_is_refused_or_dropped_as_the_configuration_says(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = config.parent
    with np.load(folder / "fit.npz") as fit, np.load(folder / "near.npz") as near:
        rows = np.concatenate([near["features"][:18], fit["features"][:2]])
    np.savez(folder / "near.npz", features=rows)
    status, _, err = bench(config, capsys)
    assert status == 2
    assert "error: the sealed test overlaps what it must be apart from: '18' of test set 'near' is '0' of" in err
    assert 'overlap = "drop"' in err
    write_config(config, **OWN | {"data": DATA | {"overlap": "drop"}})
    status, out, err = bench(config, capsys)
    assert status == 0, err
    assert {row["n_ood"] for row in json.loads(out)["rows"] if row["ood"] == "near"} == {18}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": DATA | {"fit": "fitt.npz"}}, "no feature file at"),
        ({"data": DATA | {"id": {"features": "id.npz", "expected": 31}}}, "30 images in"),
        ({"antibodies": BANK | {"template": "the nice {}"}}, "no embedding of 'the nice fox'"),
    ],
)
def test_what_is_wrong_with_the_data_is_said_without_a_traceback(
    config: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    write_config(config, **OWN | change)
    status, out, err = bench(config, capsys)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def run(config: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    capsys.readouterr()
    folder = config.parent
    with pytest.raises(SystemExit) as stopped:
        main(["bench", str(config), "--out", str(folder / "out"), "--db", str(folder / "immuno.db"), *options])
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def test_settling_gives_a_verdict_and_says_what_could_not_be_compared(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(config, **OWN | {"methods": ["calibrated", {"preset": "scores"}, "mcm", "max_logit"]})
    status, out, err = run(config, capsys, "--settle")
    assert status == 0, err
    results = json.loads((config.parent / "out" / "results.json").read_text())
    verdict = results["verdict"]
    assert verdict["status"] == "undecided"
    assert verdict["method"] == "calibrated"
    assert {"bank", "none", "noise"} <= set(verdict["acceptance"])
    # The table of texts holds none of the words that these controls draw.
    assert "no embedding of" in verdict["left_out"]["random_words"]
    # The one antibody guards no class in particular, so there is nothing to shuffle.
    assert "does not look at the class" in verdict["left_out"]["shuffled"]
    assert "no embedding of" in verdict["left_out"]["neglabel"]
    assert "precomputed" in results["left_out"]["GL-MCM"]
    assert "left out: GL-MCM" in out
    (fired,) = {row["fired_known"] for row in results["rows"] if row["method"] == results["after"]}
    assert (f"{100 * fired:.1f} % of the known test images" in out) == (fired > 0)
    assert "undecided" in out.lower()
    assert {"calibrated", "knn", "immuno_vlm"} <= {row["extra"].get("score", row["method"]) for row in results["rows"]}
    assert (config.parent / "out" / "results.csv").read_text().count("\n") == len(results["rows"]) + 1


def test_a_run_that_was_measured_is_shown_again_without_opening_the_test(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(config, capsys, "--json")
    again = run(config, capsys, "--json")
    assert first[:2] == again[:2]
    assert len(json.loads(again[1])["test_reads"]) == 1
    # Settling is another measurement: it opens the test once more, and that is on record.
    assert len(json.loads(run(config, capsys, "--settle", "--json")[1])["test_reads"]) == 2


def test_there_is_a_verdict_without_known_images_to_fit_on(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {key: value for key, value in DATA.items() if key != "fit"}
    write_config(config, **OWN | {"data": data})
    status, out, err = run(config, capsys, "--settle", "--json")
    assert status == 0, err
    results = json.loads(out)
    assert results["verdict"]["status"]
    assert results["rows"][0]["threshold"] is None


def test_there_is_no_verdict_without_a_bank(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(config, **OWN | {"antibodies": {"template": BANK["template"]}})
    status, _, err = run(config, capsys, "--settle")
    assert status == 2
    assert "no verdict on an empty bank" in err


def test_several_seeds_give_mean_and_deviation(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(config, capsys, "--seeds", "1,2,3", "--settle", "--json")
    assert status == 0, err
    summary = json.loads(out)
    assert summary["seeds"] == [1, 2, 3]
    assert set(summary["verdicts"]) == {"1", "2", "3"}
    folder = config.parent / "out"
    single = [json.loads((folder / f"seed-{seed}" / "results.json").read_text()) for seed in (1, 2, 3)]
    values = [row["auroc"] for run in single for row in run["rows"] if (row["method"], row["ood"]) == ("mcm", "far")]
    row = next(row for row in summary["rows"] if (row["method"], row["ood"]) == ("mcm", "far"))
    assert row["auroc"]["mean"] == pytest.approx(np.mean(values))
    assert json.loads((folder / "summary.json").read_text())["rows"] == summary["rows"]
    assert "standard deviation" in (folder / "seed-1" / "report.html").read_text()
    # A second time everything is found as it was.
    assert json.loads(run(config, capsys, "--seeds", "1,2,3", "--settle", "--json")[1]) == summary


@pytest.mark.parametrize("seeds", ["1", "1,1", "a,b", "-1,2", ""])
def test_seeds_that_are_none_are_told(config: Path, capsys: pytest.CaptureFixture[str], seeds: str) -> None:
    status, _, err = run(config, capsys, "--seeds", seeds)
    assert status == 2
    assert "two or more different seeds" in err


def test_a_word_list_of_ones_own_feeds_the_controls(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = config.parent
    with np.load(folder / "texts.npz") as table:
        words = ["axe", "barn", "cart", "drum"]
        texts = [*table["texts"], *(f"a photo of a {word}." for word in words)]
        extra = np.random.default_rng(4).normal(size=(4, 16))
        np.savez(folder / "texts.npz", texts=np.array(texts), features=np.vstack([table["features"], extra]))
    (folder / "words.txt").write_text("axe\nbarn\ncart\ndrum\n")
    write_config(config, **OWN | {"antibodies": BANK | {"words": "words.txt"}})
    status, _, err = run(config, capsys, "--settle")
    assert status == 0, err
    verdict = json.loads((folder / "out" / "results.json").read_text())["verdict"]
    assert "random_words" in verdict["bank_minus"]
    assert "of 4 words that is 1; its authors mine about 10,000" in verdict["left_out"]["neglabel"]
    write_config(config, **OWN | {"antibodies": BANK | {"words": "none.txt"}})
    status, _, err = run(config, capsys)
    assert (status, "no word list at" in err) == (2, True)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"name": "mcn"}, "there is no score 'mcn'; did you mean 'mcm'"),
        ({"name": "mcm", "temprature": 1.0}, "no parameter 'temprature'"),
        ({"name": "gl_mcm"}, "an encoder of kind precomputed has no patch embeddings"),
        ({"name": "max_logit"}, "two methods are called 'max_logit'"),
        ({"name": "neglabel"}, "method 'neglabel': "),
    ],
)
def test_a_mistake_in_a_method_does_not_break_the_seal(
    config: Path, capsys: pytest.CaptureFixture[str], method: dict[str, Any], message: str
) -> None:
    write_config(config, **OWN | {"methods": ["calibrated", method, "max_logit"]})
    status, _, err = run(config, capsys)
    assert (status, message in err) == (2, True), err
    with open_store(str(config.parent / "immuno.db"), default=None) as store:
        assert store.test_reads() == ()


def test_other_fit_images_or_words_are_another_measurement(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = config.parent
    (folder / "words.txt").write_text("axe\n")
    write_config(config, **OWN | {"antibodies": BANK | {"words": "words.txt"}})

    def opened() -> int:
        return len(json.loads(run(config, capsys, "--json")[1])["test_reads"])

    assert (opened(), opened()) == (1, 1)
    with np.load(folder / "fit.npz") as fit:
        np.savez(folder / "fit.npz", features=-fit["features"][::-1], labels=fit["labels"])
    assert (opened(), opened()) == (2, 2)
    (folder / "words.txt").write_text("axe\nbarn\n")
    assert (opened(), opened()) == (3, 3)

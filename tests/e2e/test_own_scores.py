"""Scores of a user's own in a benchmark: a row beside the others, or the reason why there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from db.store import open_store
from immuno.cli import main
from tests.configs import write_config
from tests.e2e.own_data import OWN

pytestmark = pytest.mark.usefixtures("unpainted")
MODULE = """
import numpy as np
from evaluation.scores import FittedScore, Score

class TopGap(Score):
    scale: float = 1.0
    uses_bank = True
    def fit(self, space):
        return self.fitted(space, lambda images: images @ (self.scale * space.texts.T.astype(float)).max(axis=1))

class Raises(TopGap):
    def fit(self, space):
        raise ValueError("no luck")

class RaisesLate(TopGap):
    def fit(self, space):
        def score(images):
            if len(images) > 8:  # a part of the feedback
                raise KeyError("late")
            return images[:, 0]
        return self.fitted(space, score)

class Nan(TopGap):
    def fit(self, space):
        return self.fitted(space, lambda images: np.full(len(images), np.nan))

class One(TopGap):
    def fit(self, space):
        return self.fitted(space, lambda images: 1.0)

class Wide(TopGap):
    def fit(self, space):
        return self.fitted(space, lambda images: images)

class Vandal(TopGap):
    def fit(self, space):
        space.texts[:] = 0
        return super().fit(space)

class Chatty(TopGap):
    def fit(self, space):
        fitted = super().fit(space)
        return type("Fitted", (type(fitted),), {"chosen": {"x": float("nan")}})(**vars(fitted))
"""
FAILING = {
    "Raises": "it raised ValueError: no luck",
    "RaisesLate": "it raised KeyError: 'late'",
    "Nan": "scores of 'id' are NaN",
    "One": "gives an array of shape ()",
    "Wide": "an array of shape (5, 16)",
    "Vandal": "it raised ValueError: assignment destination is read-only",
    "Chatty": "strict JSON",
}


def bench(config: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    folder = config.parent
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["bench", str(config), "--out", str(folder / "out"), "--db", str(folder / "immuno.db"), *options])
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def with_methods(config: Path, *methods: Any, module: str = MODULE, **sections: Any) -> Path:
    """The configuration with these methods and others of its own; its folder holds the module of the scores."""
    name = f"scores_{config.parent.name}".replace("-", "_")
    (config.parent / f"{name}.py").write_text(module)
    entries = [{"name": f"{name}:{each}"} if isinstance(each, str) else each for each in methods]
    named = [entry | {"label": entry.get("label", entry["name"].partition(":")[2])} for entry in entries]
    return write_config(config, **OWN | {"methods": [*named, "mcm"]} | sections)


@pytest.mark.parametrize("settle", [False, True])
def test_scores_that_fail_are_left_out_and_the_others_go_on(
    config: Path, capsys: pytest.CaptureFixture[str], settle: bool
) -> None:
    options = ["--settle"] if settle else []
    status, out, err = bench(config, capsys, "--json")
    plain = {row["ood"]: row for row in json.loads(out)["rows"] if row["method"] == "mcm"}
    # "near" holds foxes, and the bank is one fox: the figures without it are measured too.
    with_methods(config, *FAILING, "TopGap")
    status, out, err = bench(config, capsys, "--json", *options)
    assert status == 0, err
    results = json.loads(out)
    assert len(results["test_reads"]) == 2  # the plain run's, and one of this run
    for label, reason in FAILING.items():
        assert reason in results["left_out"][label]
    rows = {(row["method"], row["ood"]): row for row in results["rows"]}
    assert {method for method, _ in rows} >= {"TopGap", "mcm"}
    assert not {method for method, _ in rows} & set(FAILING)
    for name, row in plain.items():
        assert rows["mcm", name]["auroc"] == row["auroc"]
    own = rows["TopGap", "near"]
    assert own["params"] == {"scale": 1.0}
    if settle:
        assert results["verdict"]["status"] == "undecided"
        assert "no luck" in str(results["verdict"]["reasons"])
    # It is shown again, with its reasons, and nothing is opened for that.
    assert json.loads(bench(config, capsys, "--json", *options)[1])["left_out"] == results["left_out"]
    shown = bench(config, capsys, *options)[1]
    assert "left out: Raises: it raised ValueError" in shown
    with open_store(str(config.parent / "immuno.db"), default=None) as store:
        assert len(store.test_reads()) == 2


ONCE = """
from evaluation.scores import Score

class Once(Score):
    fits = []
    def fit(self, space):
        self.fits.append(space)
        if len(self.fits) > 6:  # once on all fit images, and once without each part of them
            raise ValueError("once is enough")
        return self.fitted(space, lambda images: images[:, 0])
"""


def test_a_score_that_fails_with_one_seed_is_in_no_mean(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_methods(config, "Once", module=ONCE)
    status, out, err = bench(config, capsys, "--seeds", "1,2", "--json")
    assert status == 0, err
    assert {row["method"] for row in json.loads(out)["rows"]} == {"mcm"}
    results = [json.loads((config.parent / "out" / f"seed-{seed}" / "results.json").read_text()) for seed in (1, 2)]
    assert {row["method"] for row in results[0]["rows"]} == {"Once", "mcm"}
    assert "once is enough" in results[1]["left_out"]["Once"]


def test_another_source_is_another_measurement(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_methods(config, "TopGap")

    def opened() -> int:
        return len(json.loads(bench(config, capsys, "--json")[1])["test_reads"])

    assert (opened(), opened()) == (1, 1)
    with_methods(config, "TopGap", module=MODULE + "\n# edited\n")
    assert (opened(), opened()) == (2, 2)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"name": "nowhere:TopGap"}, "there is no module 'nowhere'"),
        ("TopGpa", "did you mean 'TopGap'"),
        ("Json", "there is no 'Json'"),
    ],
)
def test_a_score_that_is_not_there_is_an_error_before_the_seal_is_opened(
    config: Path, capsys: pytest.CaptureFixture[str], method: Any, message: str
) -> None:
    with_methods(config, method)
    status, _, err = bench(config, capsys)
    assert (status, message in err) == (2, True), err
    assert len(err.strip().splitlines()) == 1


def test_parameters_are_checked_and_where_all_fail_the_seal_stays(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_methods(config, "TopGap")
    name = next(path.stem for path in config.parent.glob("scores_*.py"))
    with_methods(config, {"name": f"{name}:TopGap", "scale": "wide"})
    status, _, err = bench(config, capsys)
    assert (status, "scale = 'wide'" in err) == (2, True), err
    with_methods(config, "Raises")
    write_config(config, **OWN | {"methods": [{"name": f"{name}:Raises"}]})
    status, _, err = bench(config, capsys)
    assert (status, "no method could be measured" in err) == (2, True), err
    with open_store(str(config.parent / "immuno.db"), default=None) as store:
        assert store.test_reads() == ()

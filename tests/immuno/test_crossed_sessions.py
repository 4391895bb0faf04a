"""Sessions without [data.feedback_id]: all fit images fit and are measured on in turn; older ones hold out half."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import text

from agents.feedback import fit_of
from db.schema.engine import writing
from db.store import AntibodyStore, open_store
from immuno import refine, workplace
from immuno.cli import main
from tests.agents import word_world as world
from tests.agents.word_place import word_embedder, write_word_world

ALL = len(fit_of(world.space())[0])


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(workplace, "make_embedder", word_embedder)
    path = write_word_world(tmp_path)
    source = path.read_text()
    start = source.index("[data.feedback_id]")
    path.write_text(source[:start] + source[source.index("[", start + 1) :])
    return path


def run(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["refine", *arguments, "--db", str(config.parent / "x.db")])
    return int(stopped.value.code or 0), capsys.readouterr().err


def known_of(store: AntibodyStore, number: int) -> dict[str, bool]:
    """The known images that a generation was measured on, and whether it accepts each."""
    generation = store.generations(store.session("one").id)[number]
    return {one.sample_id: one.accepted for one in store.verdicts(generation.id) if one.set_name == "id"}


def test_a_new_session_is_fitted_and_measured_on_all_fit_images(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, err = run(config, capsys, "start", str(config), "--session", "one", "--generations", "1")
    assert status == 0, err
    with open_store(str(config.parent / "x.db")) as store:
        grounds, known = store.session("one").grounds, known_of(store, 1)
    assert grounds["crossed"]
    assert (grounds["used"]["fit images"], grounds["used"]["known feedback images"]) == (ALL, ALL)
    assert len(known) == ALL
    assert sum(known.values()) / ALL == pytest.approx(0.95, abs=1 / ALL)
    status, err = run(config, capsys, "resume", "one", "--generations", "2")
    assert status == 0, err
    with open_store(str(config.parent / "x.db")) as store:
        first, second = store.generations(store.session("one").id)[1:]
        assert known_of(store, 2).keys() == known.keys()
    assert second.metrics["mean_fpr95"] <= first.metrics["mean_fpr95"]


def test_a_session_that_holds_half_out_goes_on_with_that_half(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(refine, "crosses", lambda _: False)
        assert run(config, capsys, "start", str(config), "--session", "one", "--generations", "1")[0] == 0
    with open_store(str(config.parent / "x.db")) as store:
        grounds = dict(store.session("one").grounds)
        del grounds["crossed"]  # which older versions did not record
        with writing(store.engine) as transaction:
            transaction.execute(text("UPDATE sessions SET grounds = :grounds"), {"grounds": json.dumps(grounds)})
        half = known_of(store, 1).keys()
    assert len(half) == grounds["used"]["fit images"] == ALL // 2
    status, err = run(config, capsys, "resume", "one", "--generations", "2")
    assert status == 0, err
    with open_store(str(config.parent / "x.db")) as store:
        assert known_of(store, 2).keys() == half
    # A branch has its parent's figures, and so its grounds.
    assert run(config, capsys, "branch", "one", "--session", "two", "--generations", "1")[0] == 0
    with open_store(str(config.parent / "x.db")) as store:
        last = store.generations(store.session("two").id)[-1]
        assert {one.sample_id for one in store.verdicts(last.id) if one.set_name == "id"} == half


def test_a_score_that_cannot_be_measured_in_turn_holds_half_out(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = config.read_text()
    config.write_text(source.replace('name = "calibrated"', 'name = "calibrated"\ncombine = "sum"', 1))
    status, err = run(config, capsys, "start", str(config), "--session", "one", "--generations", "1")
    assert status == 0, err
    with open_store(str(config.parent / "x.db")) as store:
        grounds = store.session("one").grounds
    assert (grounds["crossed"], grounds["used"]["fit images"]) == (False, ALL // 2)

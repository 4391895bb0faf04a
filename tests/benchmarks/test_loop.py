"""benchmarks/loop.py on a configuration of precomputed features: every arm says what the table holds, and no more."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks import loop
from evaluation.benchmark.methods import FittedMethod
from immuno_core.config.run import read_config
from tests.immuno.test_closed_vocabulary import NOUNS, configured


def test_the_loop_and_what_needs_no_feedback_on_a_table_of_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = read_config(configured(tmp_path, generations=1))
    arms: dict[str, set[str]] = {}

    def fitted(world: loop.World, given: object, bank: loop.Bank) -> tuple[FittedMethod, ...]:
        """One baseline is enough here."""
        arms["at once"] = {*bank.texts}
        return baselines(world, given, bank)[-1:]

    baselines = loop.baselines
    monkeypatch.setattr(loop, "baselines", fitted)
    monkeypatch.setattr(loop, "expand", lambda _: ())
    found = loop.run_world(config, draws=2, unseen=("near_unseen",))
    assert found["budget"] == 4 * 6
    assert (found["told"], found["unseen"]) == (["near"], [])
    assert arms["at once"] <= {f"a {noun}" for noun in NOUNS}
    first, last = found["loop"]["loop's score"]
    assert last["told"] < first["told"]
    assert math.isnan(last["unseen"])
    assert [len(found[arm]["immuno_vlm"]) for arm in loop.ARMS] == [2, 2, 1]
    assert all(0 < found[arm]["immuno_vlm"][0]["bank"] <= 24 for arm in loop.ARMS)
    loop.print_world(found)
    loop.print_worlds([found, found])
    out = capsys.readouterr().out
    assert "loop, near  " in out
    assert "loop minus mined    near" in out
    assert "unseen" not in out

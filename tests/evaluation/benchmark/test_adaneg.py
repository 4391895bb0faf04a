"""Test-time methods: AdaNeg is its rules image by image, streams have several orders, the block stands apart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.benchmark.arms import Arms
from evaluation.benchmark.presets import expand
from evaluation.benchmark.results import Results
from evaluation.benchmark.streams import ABOUT, asks_for_streams, measure_streams
from evaluation.metrics import fpr95_id
from evaluation.report import render_report
from evaluation.scores.negative_labels import assign_groups
from evaluation.scores.words import adaneg as module
from evaluation.scores.words.adaneg import AdaNeg
from evaluation.space import Space
from immuno.terminal.results import print_bench
from immuno_core.config.methods import MethodConfig, PresetConfig
from tests.evaluation.benchmark.test_benchmark import method, run
from tests.evaluation.reference import cosines, normalise, softmax
from tests.evaluation.report.report_page import read
from tests.evaluation.synthetic import held_out, make_space, outliers, with_rows

Array = NDArray[Any]
SPACE = make_space(0, antibodies=12, fit=0)


def neglabel(x: Array, texts: Array, words: Array, group: Array, tau: float) -> float:
    shares = []
    for g in range(int(group.max()) + 1):
        known = [math.exp(c / tau) for c in cosines(x, texts)]
        negative = [math.exp(c / tau) for c in cosines(x, words[group == g])]
        shares.append(math.fsum(known) / (math.fsum(known) + math.fsum(negative)))
    return math.fsum(shares) / len(shares)


def entropy(p: list[float]) -> float:
    return -math.fsum(one * math.log(one) for one in p if one)


def adaneg(space: Space, images: Array, *, at_once: int, size: int, groups: int, tau: float) -> list[float]:
    """As the paper tells it, one image at a time."""
    texts, words, classes = space.texts, space.bank.vectors, len(space.texts)
    group = assign_groups(len(words), groups, 1)
    memory: dict[int, list[tuple[float, Array]]] = {}
    found: list[float] = []
    for start in range(0, len(images), at_once):
        batch = images[start : start + at_once]
        first = [neglabel(x, texts, words, group, tau) for x in batch]
        for known in (True, False):
            for x, score in zip(batch, first, strict=True):
                if (score > 0.75) if known else (score < 0.25):
                    p = softmax([c / tau for c in cosines(x, texts if known else words)])
                    slot = memory.setdefault(p.index(max(p)) + (0 if known else classes), [])
                    if len(slot) < size:
                        slot.append((entropy(p), x))
                    elif entropy(p) < max(slot, key=lambda one: one[0])[0]:
                        slot.remove(max(slot, key=lambda one: one[0]))
                        slot.append((entropy(p), x))
        every = np.concatenate([texts, words]).astype(np.float64)
        proxies = np.array([normalise(t + sum(x for _, x in memory.get(i, []))) for i, t in enumerate(every)])
        found += [
            neglabel(x, proxies[:classes], proxies[classes:], group, tau) + 0.1 * one
            for x, one in zip(batch, first, strict=True)
        ]
    return found


@pytest.mark.parametrize("size", [1, 3, 10])
def test_adaneg_is_its_rules(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 16)
    images = np.concatenate([held_out(SPACE, 0, 30)[0].features, outliers(SPACE, 0, 30).features])
    images = images[np.random.default_rng(0).permutation(60)]
    found = AdaNeg(memory=size, groups=3, tau=0.1).stream(SPACE, images)
    np.testing.assert_allclose(found, adaneg(SPACE, images, at_once=16, size=size, groups=3, tau=0.1), rtol=1e-5)


def test_a_stream_is_run_in_several_orders_and_their_spread_is_told() -> None:
    known, _ = held_out(SPACE, 0, 60)
    sets = [outliers(SPACE, 0, 40, "near"), outliers(SPACE, 1, 30, "far")]
    found, left_out = measure_streams(Arms(SPACE), known, sets, seed=3, orders=4)
    assert [(one.method, one.ood, one.orders, one.antibodies) for one in found] == [
        ("AdaNeg, our bank", name, 4, 12) for name in ("near", "far")
    ]
    assert left_out.keys() == {"AdaNeg"}  # which mines a word list
    each = []
    both = np.concatenate([known.features, sets[0].features])
    for number in range(4):
        order = np.random.default_rng([3, number]).permutation(100)
        scores = AdaNeg().stream(SPACE, both[order])[np.argsort(order)]
        each.append(fpr95_id(scores[:60], scores[60:]))
    assert found[0].fpr95_id.mean == pytest.approx(np.mean(each))
    assert found[0].fpr95_id.sd == pytest.approx(np.std(each, ddof=1))
    assert measure_streams(Arms(SPACE), known, sets, seed=3, orders=1)[0][0].fpr95_id.sd is None
    none, why = measure_streams(Arms(with_rows(SPACE, [])), known, sets, seed=0)
    assert not none
    assert why["AdaNeg, our bank"] == "it needs negative labels, and the bank is empty"


def test_the_preset_has_no_row_of_its_own() -> None:
    preset = PresetConfig(preset="test_time")
    assert expand([preset]) == ()
    assert asks_for_streams([MethodConfig(name="mcm"), preset])
    assert not asks_for_streams([MethodConfig(name="mcm"), PresetConfig(preset="peers")])


def test_the_block_stands_apart_and_says_what_it_saw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known, _ = held_out(SPACE, 0, 30)
    found, _ = measure_streams(Arms(SPACE), known, [outliers(SPACE, 0, 20, "near")], seed=0, orders=2)
    hostile = found[0].model_copy(update={"method": "<b>x"})
    results = Results(run_id="r", rows=run(method("mcm")).rows, before="mcm", after="mcm", test_time=(*found, hostile))
    results.save(tmp_path)
    assert Results.read(tmp_path).test_time == results.test_time
    print_bench(results)
    said = " ".join(capsys.readouterr().out.split())
    assert "Test-time methods" in said
    assert ABOUT in said
    page = read(render_report(tmp_path))
    assert ABOUT in page.words("results")
    assert "AdaNeg, our bank" in page.words("results")
    print_bench(results.model_copy(update={"test_time": ()}))
    assert "Test-time" not in capsys.readouterr().out

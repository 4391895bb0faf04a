"""Which classes the loop works on, and when it stops."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents.policies import RequestKind, new_generator, share_requests, stop_reason, worst_first
from immuno_core.config.refine import RefineConfig
from immuno_core.config.run import read_config

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox")


def test_half_of_the_budget_goes_to_the_worst_classes() -> None:
    chosen = worst_first(4, {"dog": 9, "eel": 7, "bee": 1}, {}, CLASSES, generation=1)
    assert chosen[:2] == ("dog", "eel")


@pytest.mark.parametrize(("budget", "turns"), [(1, 10), (2, 5), (3, 4)])
def test_every_class_gets_its_turn_however_few_outliers_it_accepts(budget: int, turns: int) -> None:
    mistakes, last = {"dog": 9}, {}
    worked_on = []
    for number in range(1, turns + 1):
        chosen = worst_first(budget, mistakes, last, CLASSES, generation=number)
        assert len(set(chosen)) == budget
        last.update(dict.fromkeys(chosen, number))
        worked_on += chosen
    assert set(worked_on) == set(CLASSES)
    assert worked_on.count("dog") >= turns // 2


def test_a_budget_above_the_number_of_classes_takes_all_once() -> None:
    chosen = worst_first(50, {"fox": 3}, {}, CLASSES, generation=2)
    assert sorted(chosen) == sorted(CLASSES)


def test_ties_go_by_the_order_of_the_classes() -> None:
    assert worst_first(3, {}, {}, CLASSES, generation=1) == ("ant", "bee", "cat")


START = datetime(2026, 1, 1, tzinfo=UTC)


def generation(accepted: bool = True, *, tokens: int = 0, cost: float = 0.0, minutes: float = 1.0) -> Any:
    """What a stop rule reads of a generation; half an hour passed before it, in which nothing ran."""
    started = START + timedelta(minutes=30)
    return SimpleNamespace(
        accepted=accepted,
        prompt_tokens=tokens,
        completion_tokens=tokens,
        cost_usd=cost,
        started_at=started,
        finished_at=started + timedelta(minutes=minutes),
    )


def test_generations_are_counted_without_the_baseline() -> None:
    config = RefineConfig(generations=2)
    assert stop_reason(config, [generation()]) is None
    assert stop_reason(config, [generation()] * 2) is None
    assert stop_reason(config, [generation()] * 3) == "all 2 generations are done"


@pytest.mark.parametrize(
    ("limit", "spent", "reason"),
    [
        (
            {"stop_after_tokens": 1_000},
            {"tokens": 300},
            r"limit of 1,000 tokens is reached \(1,200\)",
        ),
        ({"stop_after_cost": 0.25}, {"cost": 0.15}, r"limit of 0.25 USD is reached \(0.30\)"),
        (
            {"stop_after_minutes": 5.0},
            {"minutes": 3.0},
            r"limit of 5 minutes is reached \(6.0\)",
        ),
    ],
)
def test_what_is_spent_ends_a_session_before_the_next_generation(limit: Any, spent: Any, reason: str) -> None:
    config = RefineConfig(generations=9, **limit)
    assert stop_reason(config, [generation(**spent)]) is None
    said = stop_reason(config, [generation(**spent)] * 2)
    assert said is not None
    assert re.search(reason, said)


def test_a_plateau_is_generations_in_a_row_of_which_none_was_kept() -> None:
    config = RefineConfig(generations=9, stop_after_plateau=2)
    kept, lost = generation(True), generation(False)
    assert stop_reason(config, [kept, lost]) is None
    assert stop_reason(config, [kept, lost, kept, lost]) is None
    assert "plateau" in str(stop_reason(config, [kept, kept, lost, lost]))
    assert stop_reason(config, [kept, kept, lost]) is None
    assert "plateau: 2 generation" in str(stop_reason(config, [kept, lost, lost]))
    assert "plateau: 2 generation" in str(stop_reason(config, [kept, lost, lost, lost]))


def test_the_baseline_is_no_part_of_a_plateau() -> None:
    assert stop_reason(RefineConfig(generations=9, stop_after_plateau=1), [generation(False)]) is None


def test_two_seeds_draw_differently_and_one_the_same() -> None:
    first, again, other = (new_generator(seed).random(4).tolist() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("preset", sorted(Path("configs").glob("imagenet1k-*.toml")), ids=lambda path: path.stem)
def test_the_presets_of_imagenet_give_every_class_its_turn(preset: Path) -> None:
    config, classes = read_config(preset).refine, [str(k) for k in range(1000)]
    worst = {name: 1000 - int(name) for name in classes}  # always the same: the rest has to come by waiting
    others: dict[RequestKind, float] = {"class": 0.01, "group": 1.0, "far": 1.0}  # they take all that they can
    for worth in ({}, others):
        last: dict[str, int] = {}
        for number in range(1, config.generations + 1):
            budget = share_requests(config.classes_per_generation, worth, generation=number)["class"]
            last |= dict.fromkeys(worst_first(budget, worst, last, classes, generation=number), number)
        assert len(last) == 1000
    requests = config.generations * config.classes_per_generation
    dollars = requests * (3000 * 0.15 + 700 * 0.60) / 1e6
    assert all(one in preset.read_text() for one in (f"{requests:,}", f"{dollars:.2f} dollars"))  # the budget it states


class TestSharingOfRequests:
    def test_a_small_budget_is_for_classes(self) -> None:
        assert share_requests(15, {}, generation=1) == {"class": 15, "group": 0, "far": 0}

    def test_what_was_not_measured_gets_a_sixteenth(self) -> None:
        assert share_requests(16, {}, generation=1) == {"class": 14, "group": 1, "far": 1}
        assert share_requests(100, {"class": 0.1}, generation=1) == {"class": 88, "group": 6, "far": 6}

    def test_then_by_worth_within_bounds(self) -> None:
        worth: dict[RequestKind, float] = {"class": 0.06, "group": 0.02, "far": 0.02}
        assert share_requests(100, worth, generation=1) == {"class": 60, "group": 20, "far": 20}
        assert share_requests(100, {"class": 0.01, "group": 0.1, "far": 0.1}, generation=1)["class"] == 50

    def test_what_brings_little_is_asked_in_every_third_generation(self) -> None:
        worth: dict[RequestKind, float] = {"class": 0.1, "group": 0.0, "far": 0.05}
        shares = [share_requests(16, worth, generation=number)["group"] for number in range(1, 7)]
        assert shares == [0, 0, 1, 0, 0, 1]

    def test_all_requests_are_given_out(self) -> None:
        for budget in range(1, 60):
            for generation in (1, 3):
                shares = share_requests(budget, {"class": 0.1, "group": 0.01, "far": 0.3}, generation=generation)
                assert sum(shares.values()) == budget
                assert shares["class"] >= budget / 2

"""Which classes the loop works on, and which generations it keeps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from agents.policies import choose_classes, decide

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox")


def test_half_of_the_budget_goes_to_the_worst_classes() -> None:
    chosen = choose_classes({"dog": 9, "eel": 7, "bee": 1}, {}, CLASSES, budget=4)
    assert chosen[:2] == ("dog", "eel")


def test_every_class_gets_its_turn_however_few_outliers_it_accepts() -> None:
    mistakes, last = {"dog": 9}, {}
    worked_on = set()
    for generation in range(1, 6):
        chosen = choose_classes(mistakes, last, CLASSES, budget=2)
        last.update(dict.fromkeys(chosen, generation))
        worked_on.update(chosen)
    assert worked_on == set(CLASSES)


def test_a_budget_above_the_number_of_classes_takes_all_once() -> None:
    chosen = choose_classes({"fox": 3}, {}, CLASSES, budget=50)
    assert sorted(chosen) == sorted(CLASSES)


def test_ties_go_by_the_order_of_the_classes() -> None:
    assert choose_classes({}, {}, CLASSES, budget=3) == ("ant", "bee", "cat")


def boundary(mean: float, accuracy: float = 0.9) -> Any:
    return SimpleNamespace(mean_fpr95=mean, id_accuracy=accuracy)


def test_a_lower_mean_is_accepted() -> None:
    decision = decide(boundary(0.5), boundary(0.45), best=0.5)
    assert decision.accepted
    assert "fell by 5.0 points" in decision.reason


def test_what_costs_nothing_measurable_is_kept_for_breadth() -> None:
    decision = decide(boundary(0.5), boundary(0.505), best=0.5)
    assert decision.accepted
    assert "breadth" in decision.reason


def test_what_costs_more_than_the_tolerance_is_refused() -> None:
    decision = decide(boundary(0.5), boundary(0.52), best=0.5)
    assert not decision.accepted
    assert "2.0 points above the best" in decision.reason


def test_small_losses_do_not_add_up() -> None:
    assert not decide(boundary(0.509), boundary(0.512), best=0.5).accepted


def test_id_accuracy_may_not_pay_for_outliers() -> None:
    decision = decide(boundary(0.5, accuracy=0.95), boundary(0.1, accuracy=0.93), best=0.5)
    assert not decision.accepted
    assert "ID accuracy" in decision.reason

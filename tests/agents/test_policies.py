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


def boundary(accuracy: float = 0.9, **fpr95: float) -> Any:
    mean = sum(fpr95.values()) / len(fpr95)
    return SimpleNamespace(fpr95=fpr95, id_accuracy=accuracy, mean_fpr95=mean)


def test_a_lower_mean_is_accepted() -> None:
    decision = decide(boundary(near=0.5, far=0.3), boundary(near=0.4, far=0.3))
    assert decision.accepted
    assert "5.0 points" in decision.reason


def test_no_change_is_not_accepted() -> None:
    assert not decide(boundary(near=0.5), boundary(near=0.5)).accepted


def test_one_set_may_not_pay_for_another() -> None:
    decision = decide(boundary(near=0.5, far=0.3), boundary(near=0.1, far=0.35))
    assert not decision.accepted
    assert "'far'" in decision.reason


def test_id_accuracy_may_not_pay_for_outliers() -> None:
    decision = decide(boundary(0.95, near=0.5), boundary(0.93, near=0.1))
    assert not decision.accepted
    assert "ID accuracy" in decision.reason

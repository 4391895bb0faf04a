"""What a generation remembers of those before it: made by hand, so that each rule shows."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from agents.memory import Memory, Origin, recall
from db.records import AntibodyRecord, PromptRecord
from evaluation.space import Bank
from immuno_core.records import MATURATION

from . import word_world as world

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROMPTS = [PromptRecord("p", "one", 0, "guideline", "Begin.", None, "", NOW)]


def generation(
    number: int, accepted: bool = True, auroc: float = 0.5, focus: str | None = None, parent: int | None = None
) -> Any:
    metrics = {"auroc": {"near": auroc - 0.1, "far": auroc + 0.1}} | ({"focus": focus} if focus else {})
    return SimpleNamespace(
        number=number,
        accepted=accepted,
        metrics=metrics,
        prompt_version=0,
        guideline="Begin.",
        parent=parent if parent is not None else number - 1 if number else None,
    )


def antibody(text: str, number: int = 1, *, rejected: str = "", kind: str = "contextual", **more: Any) -> Any:
    own = {"guards": "fish", "origin": "lexicon", "status": "rejected" if rejected else "accepted"} | more
    stored: Any = {"session": "one", "generation_id": "g", "generation": number, "position": 0, "created_at": NOW}
    return AntibodyRecord(id=f"id of {text}", text=text, kind=kind, reason=rejected, **own, **stored)


def effect(one: Any, *, gain: float = 0.0, harm: float = 0.0, scope: str = "solo") -> Any:
    return SimpleNamespace(antibody_id=None if one is None else one.id, scope=scope, gain=gain, harm=harm)


def remembered(generations: Any, antibodies: Any = (), effects: Any = ()) -> Memory:
    best = next(one for one in reversed(generations) if one.accepted)
    return recall(Origin(best, {"kind": "x"}), generations, antibodies, effects, Bank.empty(world.DIM), PROMPTS)


class TestRejections:
    def test_of_a_generation_that_was_turned_down_are_forgiven_after_one(self) -> None:
        tried = [antibody("a", 1, rejected="r1"), antibody("b", 2, rejected="r2"), antibody("c", 3, rejected="r3")]
        three = [generation(0), generation(1), generation(2, False)]
        assert remembered(three, tried[:2]).turned_down("fish") == (("a", "r1"), ("b", "r2"))
        four = [*three, generation(3)]
        assert remembered(four, tried).turned_down("fish") == (("a", "r1"), ("c", "r3"))

    def test_are_of_the_class_but_look_alikes_of_all(self) -> None:
        tried = [
            antibody("in the snow", rejected="r"),
            antibody("shark", rejected="r", kind="look_alike"),
            antibody("in a garage", rejected="r", guards="car"),
            antibody("kept"),
        ]
        memory = remembered([generation(0), generation(1)], tried)
        assert memory.turned_down("fish") == (("shark", "r"), ("in the snow", "r"))
        assert memory.turned_down("car") == (("shark", "r"), ("in a garage", "r"))
        assert memory.turned_down("tree") == (("shark", "r"),)

    def test_the_oldest_are_dropped_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("agents.memory._REJECTED_KEPT", 100)
        tried = [antibody(f"{i}", rejected="r") for i in range(103)]
        shown = remembered([generation(0), generation(1)], tried).turned_down("fish")
        assert [text for text, _ in shown] == [f"{i}" for i in range(3, 103)]

    def test_of_what_has_no_text_of_its_own_are_none(self) -> None:
        seen = antibody("", rejected="r", kind="visual", guards="", samples=("near/1.png",))
        tried = [antibody("x (matured)", rejected="r", origin=MATURATION), seen]
        memory = remembered([generation(0), generation(1)], tried)
        assert memory.turned_down("fish") == ()
        assert memory.last_worked_on == {}


class TestEffects:
    def test_what_helped_is_ranked_by_the_largest_gain_then_by_text(self) -> None:
        b, a, most, none = (antibody(text) for text in ("b", "a", "most", "none"))
        other = antibody("other", guards="car")
        effects = [
            *(effect(b, gain=0.2), effect(b, gain=0.1), effect(a, gain=0.2)),
            *(effect(most, gain=0.1), effect(most, gain=0.30001), effect(none)),
            *(effect(other, gain=0.9), effect(b, gain=0.9, scope="leave_one_out"), effect(None, gain=1, scope="bank")),
        ]
        memory = remembered([generation(0), generation(1)], [b, a, most, none, other], effects)
        assert memory.helped == {"fish": [("most", 0.3), ("a", 0.2), ("b", 0.2)], "car": [("other", 0.9)]}
        assert memory.harmed == {}

    def test_what_harmed_the_same_way(self) -> None:
        a, b = antibody("a"), antibody("b")
        memory = remembered([generation(0), generation(1)], [a, b], [effect(a, harm=0.1), effect(b, harm=0.2)])
        assert memory.harmed == {"fish": [("b", 0.2), ("a", 0.1)]}
        assert memory.helped == {}

    def test_the_least_are_dropped_first(self) -> None:
        some = [antibody(f"{i}") for i in range(15)]
        effects = [effect(one, gain=(i + 1) / 100) for i, one in enumerate(some)]
        helped = remembered([generation(0), generation(1)], some, effects).helped["fish"]
        assert [text for text, _ in helped] == [f"{i}" for i in range(14, 2, -1)]

    @pytest.mark.parametrize(
        "one", [antibody("x (matured)", origin=MATURATION), antibody("", kind="visual", guards="", samples=("near/1",))]
    )
    def test_of_what_has_no_text_of_its_own_are_not_told(self, one: AntibodyRecord) -> None:
        memory = remembered([generation(0), generation(1)], [one], [effect(one, gain=0.5, harm=0.5)])
        assert (memory.helped, memory.harmed) == ({}, {})


def test_the_best_is_the_best_that_was_kept() -> None:
    generations = [
        generation(0, auroc=0.5),
        generation(1, auroc=0.8),
        generation(2, False, 0.9),
        generation(3, auroc=0.7),
    ]
    assert remembered(generations).best_mean_auroc == pytest.approx(0.8)


def test_when_each_class_was_worked_on_last() -> None:
    some = [antibody("a", 1), antibody("b", 3, rejected="r"), antibody("c", 2), antibody("d", 1, guards="car")]
    assert remembered([generation(n, n < 2) for n in range(4)], some).last_worked_on == {"fish": 3, "car": 1}


def test_the_focus_is_that_of_the_reflection_whose_guideline_is_tried() -> None:
    first, second = generation(1, focus="contexts"), generation(2, False, focus="look_alikes")
    assert remembered([generation(0)]).focus == "both"
    assert remembered([generation(0), first]).focus == "contexts"
    assert remembered([generation(0), first, second]).focus == "look_alikes"
    elsewhere = generation(2, False, focus="look_alikes", parent=0)
    assert remembered([generation(0), first, elsewhere]).focus == "contexts"


def test_number_parent_history_and_random_state() -> None:
    generations = [generation(0), generation(1), generation(2, False)]
    memory = remembered(generations)
    assert (memory.number, memory.parent, memory.random_state) == (3, 1, {"kind": "x"})
    assert memory.history == [one.metrics for one in generations]

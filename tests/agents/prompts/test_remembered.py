"""What was proposed before is told in words: things and places, without captions, notes and what only repeats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from agents.memory import Memory
from agents.prompts.remembered import own_briefing, shared_briefing
from evaluation.space import Bank
from immuno_core.records import Antibody
from tests.agents.test_memory import antibody, generation, remembered

TEMPLATE = "itap of a {}"
BANK = (
    Antibody("itap of a shark", "look_alike", "fish", id="a"),
    Antibody("itap of a fish in lava", "contextual", "fish", id="b"),
    Antibody("itap of a car at sea", "contextual", "car", id="c"),
    Antibody("itap of a truck", "look_alike", "car", id="d"),
)


def memory() -> Memory:
    rejected = [
        antibody("itap of a fish on a plate", rejected="pruned: the bank is better without it"),
        antibody("itap of an eel", rejected="duplicate: the words of 'eel'", kind="look_alike"),
        antibody("itap of a tuna", rejected="sub-category: a kind of 'fish'", kind="look_alike"),
    ]
    found = remembered([generation(0), generation(1)], rejected)
    bank = Bank(BANK, np.eye(4, 96, dtype=np.float32))
    helped = {
        "fish": [("itap of a shark", 0.25), ("itap of a fish in lava", 0.0604)],
        "car": [("itap of a truck", 0.5)],
    }
    return replace(found, bank=bank, helped=helped, harmed={"car": [("itap of a car at sea", 0.0001)]})


def test_all_requests_are_told_of_all_things() -> None:
    told = shared_briefing(memory(), TEMPLATE)
    assert told.tried == ("eel", "tuna", "shark", "truck")
    assert told.refused == {"sub-category": ("tuna",)}
    assert told.helped == {"truck": 50.0, "shark": 25.0, "fish in lava": 6.0}
    assert told.harmed == {}


def test_a_class_is_told_of_its_own() -> None:
    told = own_briefing(memory(), "fish", TEMPLATE)
    assert told["own_tried"] == ("on a plate", "shark", "in lava")
    assert told["own_refused"] == {"pruned": ("on a plate",)}
    assert list(told["own_helped"]) == ["shark", "in lava"]


def test_worth_and_token_counts_are_those_of_the_generations() -> None:
    assert (memory().worth, memory().tokens_per_estimate) == ({}, 1.0)
    metrics = [
        {"requests": {"class": {"asked": 10, "kept": 1, "gain": 0.2}}, "prompt": {"tokens_per_estimate": 1.2}},
        {"requests": {"class": {"asked": 10, "kept": 1, "gain": 0.0}, "far": {"asked": 4, "kept": 1, "gain": 0.1}}},
    ]
    found = replace(memory(), history=metrics)
    assert found.worth == {"class": 0.01, "far": 0.025}
    assert found.tokens_per_estimate == 1.2


def test_of_each_reason_the_newest_are_told() -> None:
    refused = [
        antibody(f"itap of a thing {i}", rejected="sub-category: a kind of 'fish'", kind="look_alike") for i in range(9)
    ]
    told = shared_briefing(remembered([generation(0), generation(1)], refused), TEMPLATE)
    assert told.refused == {"sub-category": tuple(f"thing {i}" for i in range(3, 9))}

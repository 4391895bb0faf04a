"""The leakage audit finds the antibodies that just name an outlier class, and no others."""

from __future__ import annotations

import time
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest

from evaluation.benchmark.leakage import Leak, leaks, without
from evaluation.miniworld.vocabulary import FILLERS, KNOWN_CLASSES, LOOK_ALIKES, UNSEEN_CONTEXTS
from evaluation.miniworld.world import draw_image
from evaluation.space import Bank
from immuno_core.records import Antibody
from tests.evaluation.synthetic import unit_rows


def bank(*texts: str, guards: str = "fish") -> Bank:
    antibodies = tuple(Antibody(text, guards=guards, id=f"a{j}") for j, text in enumerate(texts))
    return Bank(antibodies, unit_rows(np.random.default_rng(0), len(texts), 8))


def how(text: str, *labels: str, guards: str = "fish") -> str | None:
    found = leaks(bank(text, guards=guards), {"set": labels})
    return found[0].how if found else None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("whale", "whale"),
        ("a photo of a whale.", "whale"),
        ("Whales", "whale"),
        ("the WHALE", "Whale"),
        ("a glass", "glasses"),
        ("a sail boat", "sailboat"),
        ("a polar-bear", "polar_bear"),
        ("an image of polar bears", "polar bear"),
        ("a fish in lava", "fish_in_lava"),
        ("a photo of a fish in the lava.", "fish-in-lava"),
        ("a tench", "n01440764_tench"),
        ("an ak47", "001.ak47"),
        ("Tinca tinca", "tench, Tinca tinca"),
        ("a striped", "striped"),
        ("a café", "café"),
    ],
)
def test_a_text_with_the_words_of_the_name_is_equal(text: str, label: str) -> None:
    assert how(text, label) == "equal"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("a big striped whale", "whale"),
        ("a whale, old and dirty", "whale"),
        ("a whale in the sea", "whale"),
        ("two white whales on a beach at night", "whale"),
        ("a fish on lava", "fish_in_lava"),
        ("two fishes in lava", "fish_in_lava"),
        ("a cat at night", "cat_in_night"),
        ("a red fish in lava at night", "fish_in_lava"),
        ("a submarrine", "submarine"),
        ("a helicoptor", "helicopter"),
    ],
)
def test_a_text_that_says_nothing_else_that_matters_is_nearly_equal(text: str, label: str) -> None:
    assert how(text, label) == "nearly equal"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("a toy shark", "shark"),
        ("a statue of a shark", "shark"),
        ("a shark made of paper", "shark"),
        ("a shark costume", "shark"),
        ("a tiger shark", "shark"),
        ("an animal", "shark"),
        ("a goldfish", "fish"),
        ("a box", "fox"),
        ("a bandana", "banana"),
        ("lava", "fish_in_lava"),
        ("a car in lava", "fish_in_lava"),
        ("a fish", "fish_in_lava"),
        ("a fish tank", "fish_in_tank"),
        ("in the desert", "desert"),
        ("n01440764", "n01440764"),
        ("a photo", ""),
        ("", "whale"),
        ("!?", "whale"),
        ("", ""),
    ],
)
def test_a_text_that_names_something_else_is_no_leak(text: str, label: str) -> None:
    assert how(text, label, guards="plane") is None


def test_a_leak_says_which_antibody_names_which_class_of_which_set() -> None:
    found = leaks(
        bank("a toy", "a whale", "a big tent"), {"near": ["whale", "whale", "ship"], "far": ["Tent", "whale"]}
    )
    assert found == (
        Leak("near", "a1", "a whale", "whale", "equal"),
        Leak("far", "a1", "a whale", "whale", "equal"),
        Leak("far", "a2", "a big tent", "Tent", "nearly equal"),
    )
    assert asdict(found[0]) == {
        "set": "near", "antibody": "a1", "text": "a whale", "outlier_class": "whale", "how": "equal",
    }  # fmt: skip


def test_an_equal_class_comes_before_one_that_is_nearly_equal() -> None:
    assert leaks(bank("a white whale"), {"set": ["whale", "white whale"]})[0].outlier_class == "white whale"


def test_a_contextual_set_labelled_by_the_known_classes_is_not_held_against_their_antibodies() -> None:
    assert how("a dog on the moon", "dog", guards="dog") is None
    assert how("a dog on the moon", "dogs", guards="dog") is None
    assert how("a dog on the moon", "dog", guards="wolf") == "nearly equal"
    assert how("a dog on the moon", "dog", guards="") == "nearly equal"


def test_without_drops_the_antibodies_that_leak_and_keeps_the_others_in_order() -> None:
    whole = bank("a toy", "a whale", "a tent", "a whale, old")
    left = without(whole, leaks(whole, {"near": ["whale"], "far": ["whale"]}))
    assert left.ids == ("a0", "a2")
    assert np.array_equal(left.vectors, whole.vectors[[0, 2]])
    assert without(whole, ()).ids == whole.ids
    assert len(without(bank("a whale"), leaks(bank("a whale"), {"near": ["whale"]}))) == 0


def test_no_antibodies_no_sets_and_no_labels_are_no_leaks() -> None:
    assert leaks(Bank.empty(8), {"near": ["whale"]}) == ()
    assert leaks(bank("a whale"), {}) == ()
    assert leaks(bank("a whale"), {"flat": [""]}) == ()


def labels_of(set_name: str, images: int = 64) -> set[str]:
    return {draw_image(0, "test", set_name, index).label for index in range(images)}


def test_on_the_mini_world_it_finds_who_names_look_alikes_fillers_and_classes_out_of_place() -> None:
    sets = {name: labels_of(name) for name in ("near", "near_unseen", "far", "contextual_unseen")}
    for known in KNOWN_CLASSES:
        seen, unseen = LOOK_ALIKES[known]
        texts = [f"a photo of a {seen}.", f"a big {unseen}", f"a photo of a {known} on {UNSEEN_CONTEXTS[0]}."]
        found = leaks(bank(*texts, f"a toy {seen}", f"a {known} made of wood", guards=known), sets)
        assert [(leak.set, leak.antibody, leak.outlier_class, leak.how) for leak in found] == [
            ("near", "a0", seen, "equal"),
            ("near_unseen", "a1", unseen, "nearly equal"),
            *[
                ("contextual_unseen", "a2", label, "nearly equal")
                for label in [f"{known}_in_{UNSEEN_CONTEXTS[0]}"]
                if label in sets["contextual_unseen"]
            ],
        ]
    texts = [f"a {name}" for name in FILLERS] + ["an empty scene", "texture", "noise"]
    assert [leak.antibody for leak in leaks(bank(*texts), sets)] == [f"a{j}" for j in range(len(texts))]


def test_many_antibodies_against_many_classes_take_seconds_at_most() -> None:
    rng = np.random.default_rng(0)
    syllables = ["ba", "ko", "ri", "tu", "me", "no", "sa", "li", "pa", "ge"]
    words = ["".join(rng.choice(syllables, 4)) for _ in range(6000)]
    whole = bank(*(f"a photo of a {word} in the {other}." for word, other in pairwise(words)))
    start = time.perf_counter()
    found = leaks(whole, {"set": words[3000:]})
    assert time.perf_counter() - start < 20
    assert len(found) >= 2900


def test_eight_letters_are_enough_to_know_an_odd_one() -> None:
    assert how("an elephent", "elephant") == "nearly equal"
    assert how("a penguim", "penguin") is None

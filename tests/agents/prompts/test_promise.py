"""Things stand first that would reject most mistakes; and of a closed vocabulary the model is offered what there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from agents.feedback import Boundary, feedback_of, halve, measure
from agents.guidelines import Continued
from agents.memory import Memory
from agents.prompts.briefing import ClassBriefing
from agents.prompts.inspection import Inspector, mis_accepted_by_class
from agents.prompts.promise import Promise, Sample
from agents.replies import Wanted
from evaluation.antibodies.vocabulary import Vocabulary, closed_vocabulary
from evaluation.space import Bank, Space
from immuno_core.config.methods import MethodConfig
from immuno_core.features import FloatArray
from immuno_core.records import Antibody
from tests.agents import word_world as world

SCORE = MethodConfig.model_validate({"name": "calibrated", "base": "max_cosine", "eps": 0.02})
USUAL = ("grass", "stone", "wall", "cloud", "leaf", "sand")
"""Near to outliers and known images alike."""
WORDS = (*USUAL, "barn", "cactus", "shark", "truck", "robot", "violin")


def vectors(words: Sequence[str]) -> FloatArray:
    return world.WordEmbedder().embed_texts([f"a photo of a {word}." for word in words])


def mistakes_of(space: Space, boundary: Boundary) -> dict[str, tuple[Sample, ...]]:
    return mis_accepted_by_class(space, boundary, halve(feedback_of(space), seed=0).first)


def ranked(space: Space, bank: Bank) -> dict[str, list[str]]:
    boundary = measure(space, bank, SCORE, 0.95)
    found = Promise(space, WORDS, vectors(WORDS), SCORE).ranked(boundary, mistakes_of(space, boundary), world.CLASSES)
    return {name: [WORDS[i] for i in order] for name, order in found.items()}


@pytest.fixture
def space() -> Space:
    return world.space()


def test_a_class_has_first_what_would_reject_its_own_mistakes(space: Space) -> None:
    found = ranked(space, Bank.empty(world.DIM))
    assert {name: words[0] for name, words in found.items()} == world.LOOK_ALIKES
    for words in found.values():
        assert set(world.LOOK_ALIKES.values()) <= set(words)  # look-alikes act on every class
        assert "robot" not in words  # which is nowhere


def test_what_a_word_would_reject_is_what_it_does_reject_once_it_is_there(space: Space) -> None:
    before = measure(space, Bank.empty(world.DIM), SCORE, 0.95)
    mistakes = mistakes_of(space, before)
    promise = Promise(space, WORDS, vectors(WORDS), SCORE)
    for samples in mistakes.values():
        weight = [1 / len(feedback_of(space).outliers[name]) for name, _ in samples]
        gains = weight @ promise._rejected(before, samples)
        for word, gain in zip(WORDS, gains, strict=True):
            after = measure(space, Bank.of([Antibody(word)], vectors([word])), SCORE, 0.95)
            lost = [
                1 / len(feedback_of(space).outliers[name])
                for name, row in samples
                if after.outlier_scores[name][row] < before.threshold
            ]
            assert gain == pytest.approx(sum(lost))


def test_what_the_bank_does_already_promises_nothing(space: Space) -> None:
    bank = Bank.of([Antibody("shark")], vectors(["shark"]))
    assert ranked(space, bank)["fish"][:1] != ["shark"]


def test_without_mistakes_nothing_is_promised(space: Space) -> None:
    boundary = measure(space, Bank.empty(world.DIM), SCORE, 0.95)
    promise = Promise(space, WORDS, vectors(WORDS), SCORE)
    assert [len(one) for one in promise.ranked(boundary, {"fish": ()}, ["fish"]).values()] == [0]


def memory(**changes: object) -> Memory:
    empty = Memory(
        number=1,
        parent=0,
        bank=Bank.empty(world.DIM),
        prompt=Continued.__new__(Continued),
        focus="both",
        rejected={},
        helped={},
        harmed={},
        last_worked_on={},
        best_mean_auroc=0.5,
        history=[],
        reflects=True,
        random_state={},
    )
    return replace(empty, **changes)  # type: ignore[arg-type]


def briefed(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, **changes: object) -> dict[str, ClassBriefing]:
    monkeypatch.setattr(Memory, "guideline", "Vary them.")
    space = world.space()
    boundary = measure(space, Bank.empty(world.DIM), SCORE, 0.95)
    inspector = Inspector(space, world.WordEmbedder(), vocabulary, "a photo of a {}.", SCORE)
    wanted = dict.fromkeys(world.CLASSES, Wanted(look_alikes=1, places=0))
    found = inspector.brief_all(
        wanted, mistakes_of(space, boundary), boundary, memory(**changes), others={}, pictures=0
    )
    return {name: shown.briefing for name, shown in found.items()}


CLOSED = closed_vocabulary([f"a photo of a {word}." for word in (*WORDS, "fish")], "a photo of a {}.", ())


def test_of_a_closed_vocabulary_each_class_is_offered_things_of_its_own_and_some_far_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = briefed(CLOSED, monkeypatch)
    assert {name: one.near_things[0] for name, one in found.items()} == world.LOOK_ALIKES
    far = [word for one in found.values() for word in one.offered[len(one.near_things) :]]
    assert len(far) == len(set(far)) == 4  # look-alikes act on all classes: one of them asks for it
    for one in found.values():
        assert one.offered[: len(one.near_things)] == one.near_things
        assert set(one.offered) <= set(WORDS)
        assert len(one.offered) == len(set(one.offered))


def test_what_was_tried_is_not_offered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = {"": [("a photo of a shark.", "withdrawn")], "car": [("a photo of a truck.", "withdrawn")]}
    bank = Bank.of([Antibody("a photo of a barn.")], vectors(["barn"]))
    found = briefed(CLOSED, monkeypatch, rejected=tried, bank=bank)
    assert not any({"shark", "barn"} & {*one.offered} for one in found.values())
    assert "truck" not in found["car"].offered


def test_where_any_text_can_be_embedded_nothing_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    found = briefed(Vocabulary(WORDS, ("in the desert",), ("red",)), monkeypatch)
    assert all(one.offered == () for one in found.values())
    assert {name: one.near_things[0] for name, one in found.items()} == world.LOOK_ALIKES
    assert np.array_equal([one.accepted_outliers > 0 for one in found.values()], [True] * 4)

"""A bank is held against as many random words, through the same screen, on the half that confirms."""

from __future__ import annotations

from dataclasses import replace

from agents.sense import against_random_words
from db.store import AntibodyStore
from evaluation.antibodies.vocabulary import closed_vocabulary
from evaluation.space import Bank, Space
from immuno_core.records import Antibody
from tests.agents import word_world as world
from tests.agents.test_session import CONFIG, new_session

TRUE = (
    *(Antibody(f"a photo of a {thing}.", "look_alike", name) for name, thing in world.LOOK_ALIKES.items()),
    *(
        Antibody(f"a photo of a {name} in the {place}.", "contextual", name)
        for name in world.CLASSES
        for place in world.PLACES
    ),
)
GIBBERISH = tuple(
    Antibody(f"a photo of a {word}.", "look_alike", "fish") for word in ("zorblat", "quindle", "frumpel", "wexing")
)


def bank_of(antibodies: tuple[Antibody, ...]) -> Bank:
    return Bank.of(antibodies, world.WordEmbedder().embed_texts([one.text for one in antibodies]))


def test_true_words_do_better_than_random_ones(store: AntibodyStore, space: Space) -> None:
    found = against_random_words(new_session(store, space).loop(), bank_of(TRUE))
    assert found is not None
    assert found["words"] == len(TRUE)
    assert found["auroc"] > 2 * found["auroc_error"] > 0
    assert found["said"].startswith("The model's texts do better. Its 16 texts against 16 random words")


def test_gibberish_does_not(store: AntibodyStore, space: Space) -> None:
    found = against_random_words(new_session(store, space).loop(), bank_of(GIBBERISH))
    assert found is not None
    assert "o evidence that this model helps" in found["said"]


def test_a_seed_draws_the_same_words_and_an_empty_bank_none(store: AntibodyStore, space: Space) -> None:
    loop = new_session(store, space).loop()
    assert against_random_words(loop, bank_of(TRUE)) == against_random_words(loop, bank_of(TRUE))
    assert against_random_words(loop, Bank.empty(space.dim)) is None


def test_a_generation_that_is_kept_says_it(store: AntibodyStore, space: Space) -> None:
    session = new_session(store, space, config=CONFIG.model_copy(update={"generations": 1}))
    baseline, first = session.run()
    assert "sense" not in baseline.metrics
    assert first.accepted
    texts = store.bank(first.id).unmatured
    assert f"Its {len(texts)} texts against {len(texts)} random words" in first.metrics["sense"]["said"]


def test_of_a_closed_vocabulary_only_what_it_holds_is_drawn(store: AntibodyStore, space: Space) -> None:
    table = tuple(f"a photo of a {word}." for word in ("owl", "ibex", "wren", "lynx", *world.CLASSES))
    closed = closed_vocabulary(table, "a photo of a {}.", table[4:])
    found = against_random_words(replace(new_session(store, space).loop(), vocabulary=closed), bank_of(GIBBERISH))
    assert found is not None
    assert 0 < found["words"] <= 4

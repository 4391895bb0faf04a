"""The arms: each control shares all but one thing with the bank, and the same arguments give the same antibodies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from evaluation.antibodies.mining import CSP_TEMPLATES, NEGLABEL_TEMPLATE, SUPERCLASSES, WordList, ensemble, mine
from evaluation.benchmark.arms import Arms
from evaluation.scores.base import Score
from evaluation.scores.registry import make_score
from evaluation.space import Bank, Space
from immuno_core.config.methods import Arm
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray
from immuno_core.records import MATURATION, Antibody, EncoderInfo, text_digest
from tests.evaluation.synthetic import unit

DIM = 24
CLASSES = ("fish", "car", "house", "tree")
NOUNS = ("fish", "cars", "race car", *(f"noun{i}" for i in range(60)), "noun3")
ADJECTIVES = ("tree", *(f"adjective{i}" for i in range(40)))
PLACES = tuple(f"in place{i}" for i in range(8))
ALL: tuple[Arm, ...] = tuple(arm for arm in get_args(Arm) if arm != "pixels")
"""Those that need no images; pixels: test_pixels.py."""
CLASS_TEMPLATE, ANTIBODY_TEMPLATE = "a picture of a {}", "an image of a {}"


class HashEmbedder:
    """Every text has a direction of its own; counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @property
    def encoder(self) -> EncoderInfo:
        return EncoderInfo("hash", None, DIM, 100.0, 0, "fp32", "w" * 64, "p" * 64)

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        self.asked += texts
        return vectors_of(texts)

    def cut_texts(self, texts: Sequence[str]) -> tuple[str, ...]:
        return tuple(text for text in texts if len(text) > 100)


def vectors_of(texts: Sequence[str]) -> FloatArray:
    rows = [np.random.default_rng(int(text_digest(text)[:12], 16)).standard_normal(DIM) for text in texts]
    return unit(np.array(rows).reshape(len(texts), DIM))


def filled(template: str, texts: Sequence[str]) -> list[str]:
    return [template.replace("{}", text) for text in texts]


def bank(size: int = 20) -> Bank:
    antibodies = tuple(
        Antibody(f"antibody {j}", "contextual" if j % 3 else "look_alike", [*CLASSES, ""][j % 5], id=f"a{j}")
        for j in range(size)
    )
    return Bank(antibodies, vectors_of([antibody.text for antibody in antibodies]))


def space(size: int = 20, classes: tuple[str, ...] = CLASSES) -> Space:
    return Space(classes, vectors_of(filled(CLASS_TEMPLATE, classes)), 100.0, None, None, bank(size))


def arms(base: Space | None = None, *, seed: int = 0, **changes: Any) -> Arms:
    settings: dict[str, Any] = {
        "embedder": HashEmbedder(),
        "class_template": CLASS_TEMPLATE,
        "antibody_template": ANTIBODY_TEMPLATE,
        "words": WordList(NOUNS, ADJECTIVES, PLACES),
    }
    return Arms(base=base or space(), seed=seed, **(settings | changes))


PLAIN: Score = make_score("calibrated")


def test_bank_is_the_configured_space_and_none_has_no_antibodies() -> None:
    base = space()
    made = arms(base)
    assert made.space("bank", PLAIN) is base
    none = made.space("none", PLAIN)
    assert len(none.bank) == 0
    assert none.texts is base.texts
    assert len(arms(space(0)).space("none", PLAIN).bank) == 0


def test_noise_puts_a_random_direction_in_the_place_of_every_antibody() -> None:
    found = arms(space(2000)).space("noise", PLAIN).bank
    configured = bank(2000)
    assert (set(found.kinds), found.guards) == ({"look_alike"}, configured.guards)
    assert found.vectors.dtype == np.float32
    # Uniform: the mean is near 0, and every coordinate has variance 1/d.
    assert np.abs(found.vectors.mean(axis=0)).max() < 5 / np.sqrt(2000 * DIM)
    assert found.vectors.var(axis=0) == pytest.approx(1 / DIM, rel=0.2)


def test_random_words_are_as_many_words_that_name_no_known_class_nor_a_kind_of_one() -> None:
    embedder = HashEmbedder()
    found = arms(embedder=embedder).space("random_words", PLAIN).bank
    assert len(found) == len(set(found.texts)) == 20
    assert set(found.texts) <= {f"noun{i}" for i in range(60)}
    assert embedder.asked == filled(ANTIBODY_TEMPLATE, found.texts)
    assert np.array_equal(found.vectors, vectors_of(embedder.asked))
    assert (set(found.kinds), found.guards) == ({"look_alike"}, bank().guards)


def test_random_places_are_the_guarded_classes_in_as_many_places() -> None:
    embedder = HashEmbedder()
    found = arms(embedder=embedder).space("random_places", PLAIN).bank
    assert len(found) == len(set(found.texts)) == 20
    assert set(found.kinds) == {"contextual"}
    for before, after, text in zip(bank().guards, found.guards, found.texts, strict=True):
        assert after == before or (before == "" and after in CLASSES)  # one that guards none in particular: any class
        assert text in {f"{after} {place}" for place in PLACES}
    assert embedder.asked == filled(ANTIBODY_TEMPLATE, found.texts)


def test_what_stands_for_a_matured_antibody_is_not_matured() -> None:
    antibodies = tuple(replace(one, origin=MATURATION) for one in bank().antibodies)
    grown = replace(space(), bank=replace(bank(), antibodies=antibodies))
    for arm, left in (
        ("noise", 20),
        ("random_words", 20),
        ("random_places", 20),
        ("random_texts", 20),
        ("shuffled", 0),
    ):
        assert len(arms(grown).space(arm, PLAIN).bank.unmatured) == left


def test_random_texts_are_kind_for_kind() -> None:
    found = arms().space("random_texts", PLAIN).bank
    assert found.kinds == bank().kinds
    assert len(set(found.texts)) == 20
    for kind, guards, text in zip(found.kinds, found.guards, found.texts, strict=True):
        said = {f"{guards} {place}" for place in PLACES} if kind == "contextual" else {f"noun{i}" for i in range(60)}
        assert text in said


def test_where_places_run_out_adjectives_are_put_before_the_class() -> None:
    found = arms(space(80)).space("random_places", PLAIN).bank
    assert len(set(found.texts)) == 80
    own = [text for text, guards in zip(found.texts, found.guards, strict=True) if guards == "fish"]
    assert sum(text.startswith("fish in place") for text in own) == len(PLACES)
    assert all(text.split(" ", 1)[1] in {f"fish {place}" for place in PLACES} for text in own if text[:4] != "fish")


def test_a_word_list_without_places_makes_no_control_of_places() -> None:
    bare = WordList(NOUNS, ADJECTIVES)
    for arm in ("random_places", "random_texts"):
        with pytest.raises(SetupError, match=f"the arm '{arm}' needs . places for '.*gives 0"):
            arms(words=bare).space(arm, PLAIN)


def test_where_nouns_run_out_adjectives_are_put_before_them() -> None:
    found = arms(space(100)).space("random_words", PLAIN).bank
    assert len(set(found.texts)) == 100
    assert Counter(len(text.split()) for text in found.texts) == {1: 60, 2: 40}
    nouns = {f"noun{i}" for i in range(60)}
    assert all(text.split()[-1] in nouns for text in found.texts)
    assert all(text.split()[0] in ADJECTIVES for text in found.texts if " " in text)


def test_a_word_list_of_exactly_the_size_of_the_bank_will_do_and_a_shorter_one_is_refused() -> None:
    few = WordList(("noun0", "noun1", "fishes"), ("red",))
    assert set(arms(space(4), words=few).space("random_words", PLAIN).bank.texts) == {
        "noun0", "noun1", "red noun0", "red noun1",
    }  # fmt: skip
    with pytest.raises(SetupError, match=r"needs 5 words that name no known class.*gives 4"):
        arms(space(5), words=few).space("random_words", PLAIN)
    with pytest.raises(SetupError, match="gives 0"):
        arms(words=WordList((), ADJECTIVES)).space("random_words", PLAIN)


@pytest.mark.parametrize("seed", range(20))
def test_shuffled_lets_no_antibody_guard_its_own_class(seed: int) -> None:
    found = arms(seed=seed).space("shuffled", PLAIN).bank
    moved = set(zip(bank().guards, found.guards, strict=True))
    assert ("", "") in moved
    classes = {before: after for before, after in moved if before}
    assert len(moved) == len(classes) + 1
    assert sorted(classes) == sorted(classes.values()) == sorted(CLASSES)
    assert all(before != after for before, after in classes.items())
    assert (found.texts, set(found.kinds)) == (bank().texts, {"look_alike"})
    assert np.array_equal(found.vectors, bank().vectors)


def test_shuffled_leaves_guards_that_are_no_known_class_and_needs_two_classes() -> None:
    antibodies = tuple(replace(antibody, guards="tench") for antibody in bank().antibodies)
    strangers = replace(space(), bank=replace(bank(), antibodies=antibodies))
    assert arms(strangers).space("shuffled", PLAIN).bank.guards == ("tench",) * 20
    with pytest.raises(SetupError, match="at least two known classes"):
        arms(space(classes=("fish",))).space("shuffled", PLAIN)


def test_neglabel_mines_nouns_and_adjectives_apart_in_the_templates_of_the_score() -> None:
    found = arms().space("neglabel", make_score("neglabel"))
    assert np.array_equal(found.texts, vectors_of(filled(NEGLABEL_TEMPLATE, CLASSES)))
    nouns = ["race car", *(f"noun{i}" for i in range(60))]
    adjectives = list(ADJECTIVES[1:])
    noun_vectors = vectors_of(filled(NEGLABEL_TEMPLATE, nouns))
    adjective_vectors = vectors_of(filled("This is a {} photo", adjectives))
    kept_nouns, kept_adjectives = mine(noun_vectors, found.texts), mine(adjective_vectors, found.texts)
    assert found.bank.texts == (*(nouns[i] for i in kept_nouns), *(adjectives[i] for i in kept_adjectives))
    assert (len(kept_nouns), len(kept_adjectives)) == (9, 6)
    assert np.array_equal(
        found.bank.vectors, np.concatenate([noun_vectors[kept_nouns], adjective_vectors[kept_adjectives]])
    )
    assert set(found.bank.guards) == {""}


def test_csp_puts_adjectives_before_superclasses_and_says_everything_in_several_ways() -> None:
    score = make_score("csp")
    found = arms().space("csp", score)
    assert np.array_equal(found.texts, ensemble(HashEmbedder(), CSP_TEMPLATES, CLASSES))
    nouns = [text for text in found.bank.texts if " " not in text or text == "race car"]
    compounds = [text.split() for text in found.bank.texts if text not in nouns]
    assert (len(nouns), len(compounds)) == (9, 6)
    assert all(adjective in ADJECTIVES[1:] and thing in SUPERCLASSES for adjective, thing in compounds)
    assert np.array_equal(found.bank.vectors[:9], ensemble(HashEmbedder(), CSP_TEMPLATES, nouns))


def test_a_score_without_templates_keeps_its_class_texts_and_has_words_said_as_classes_are() -> None:
    embedder, base = HashEmbedder(), space()
    for arm in ("neglabel", "csp"):
        found = arms(base, embedder=embedder).space(arm, PLAIN)
        assert found.texts is base.texts
        assert np.array_equal(found.bank.vectors, vectors_of(filled(CLASS_TEMPLATE, found.bank.texts)))
    assert all(text.startswith("a picture of a ") for text in embedder.asked)


def test_arms_that_are_not_mined_leave_the_class_texts_to_the_configuration() -> None:
    base = space()
    for arm in ("none", "noise", "random_words", "random_places", "random_texts", "shuffled"):
        assert arms(base).space(arm, make_score("neglabel")).texts is base.texts


def test_a_word_list_without_adjectives_mines_nouns_alone_and_one_without_words_is_refused() -> None:
    found = arms(words=WordList((*NOUNS, *(f"thing{i}" for i in range(10))), ())).space("neglabel", PLAIN).bank
    assert len(found) == 10
    with pytest.raises(SetupError, match=r"of 61 words that is 9; its authors mine about 10,000: name a longer list"):
        arms(words=WordList(NOUNS, ())).space("neglabel", PLAIN)
    for arm in ("neglabel", "csp"):
        with pytest.raises(SetupError, match="no word but names of known classes"):
            arms(words=WordList(("cars",), ())).space(arm, PLAIN)


@pytest.mark.parametrize("arm", [arm for arm in ALL if arm not in ("bank", "none")])
def test_ids_say_the_arm_and_a_seed_gives_the_same_antibodies_whatever_else_is_made(arm: Arm) -> None:
    first = arms(seed=3)
    found = first.space(arm, PLAIN).bank
    assert found.ids == tuple(f"{arm}:{j}" for j in range(len(found)))
    second = arms(seed=3)
    for other in reversed(ALL):
        second.space(other, PLAIN)
    again = second.space(arm, PLAIN).bank
    assert (again.texts, again.guards, again.kinds) == (found.texts, found.guards, found.kinds)
    assert np.array_equal(again.vectors, found.vectors)
    if arm not in ("neglabel", "words", "neutral"):
        # Mining nouns and adjectives draws nothing at random.
        other_seed = arms(seed=4).space(arm, PLAIN).bank
        assert (other_seed.texts, other_seed.guards) != (found.texts, found.guards) or not np.array_equal(
            other_seed.vectors, found.vectors
        )


def test_every_space_is_made_once() -> None:
    embedder = HashEmbedder()
    made = arms(embedder=embedder)
    scores = [make_score("neglabel"), make_score("csp"), PLAIN]
    before = [made.space(arm, score) for arm in ALL for score in scores]
    asked = len(embedder.asked)
    after = [made.space(arm, score) for arm in ALL for score in scores]
    assert all(a is b for a, b in zip(before, after, strict=True))
    assert len(embedder.asked) == asked
    assert made.space("neglabel", make_score("neglabel", tau=0.02)) is made.space("neglabel", scores[0])
    assert made.space("neglabel", scores[1]) is not made.space("neglabel", scores[0])


@pytest.mark.parametrize("arm", ["noise", "random_words", "random_places", "random_texts", "shuffled"])
def test_an_arm_as_large_as_the_bank_needs_a_bank(arm: Arm) -> None:
    with pytest.raises(SetupError, match=f"the arm '{arm}' .*configure \\[antibodies\\]"):
        arms(space(0)).space(arm, PLAIN)


def test_the_arm_words_has_the_whole_list_said_as_neglabel_says_it() -> None:
    found, mined = (arms().space(arm, make_score("neglabel")) for arm in ("words", "neglabel"))
    assert set(mined.bank.texts) < set(found.bank.texts)
    assert set(found.bank.texts) == {*NOUNS[2:], *ADJECTIVES[1:]}
    assert np.array_equal(found.texts, mined.texts)
    few = arms(words=WordList(("thing",), ())).space("words", PLAIN).bank
    assert few.texts == ("thing",)


def test_mined_arms_need_no_bank() -> None:
    assert len(arms(space(0)).space("neglabel", PLAIN).bank) == 15


def test_a_space_alone_gives_bank_and_none_and_says_what_the_others_need() -> None:
    base = space()
    made = Arms(base)
    assert made.space("bank", PLAIN) is base
    assert len(made.space("none", PLAIN).bank) == 0
    for arm in ALL:
        if arm not in ("bank", "none"):
            with pytest.raises(SetupError, match=f"the arm '{arm}' needs an encoder and a word list"):
                made.space(arm, PLAIN)

"""Negative selection: what is turned down, with which reason, and what must not be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from evaluation.antibodies import selection
from evaluation.antibodies.selection import SelectionRules, screen
from evaluation.antibodies.wording import singulars, words
from evaluation.space import Bank
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray
from immuno_core.records import LONGEST_ANTIBODY, Antibody, AntibodyKind
from tests.evaluation.synthetic import bank_of, unit, unit_rows

CLASSES = ("fish", "car", "house", "sailboat", "great white shark", "German shepherd", "cup", "cat", "lion", "bus")
SYNONYMS = {"car": ("automobile",), "house": ("home",)}
MU = np.eye(len(CLASSES), 512, dtype=np.float32)


def proposed(text: str, kind: AntibodyKind = "look_alike", guards: str = "fish") -> Antibody:
    return Antibody(text, kind, guards)


def run(
    proposals: Sequence[Antibody],
    vectors: FloatArray | None = None,
    *,
    bank: Bank | None = None,
    rules: SelectionRules | None = None,
) -> list[Antibody]:
    """Screen; without vectors, texts get embeddings that have nothing to do with one another."""
    if vectors is None:
        vectors = unit_rows(np.random.default_rng(0), len(proposals), MU.shape[1])
    return screen(
        proposals,
        vectors,
        classes=CLASSES,
        synonyms=SYNONYMS,
        mu=MU,
        bank=bank or Bank.empty(MU.shape[1]),
        rules=rules or SelectionRules(),
    )


def reason(text: str, kind: AntibodyKind = "look_alike") -> str:
    (one,) = run([proposed(text, kind)])
    assert one.accepted == (not one.reason)
    return one.reason


@pytest.mark.parametrize("kind", ["look_alike", "contextual"])
@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("fish", "fish"),
        ("a fish", "fish"),
        ("The Fish.", "fish"),
        ("fishes", "fish"),
        ("ﬁsh", "fish"),
        ("a photo of a fish", "fish"),
        ("a blurry photo of two fishes", "fish"),
        ("this is a photo of a small fish on a white background", "fish"),
        ("a group of fish", "fish"),
        ("a big red car", "car"),
        ("a car, old and rusty", "car"),
        ("automobile", "car"),
        ("beautiful old homes", "house"),
        ("houses", "house"),
        ("sail boat", "sailboat"),
        ("white sail-boats", "sailboat"),
        ("great white shark", "great white shark"),
        ("a German shepherd", "German shepherd"),
        ("buses", "bus"),
    ],
)
def test_a_known_class_with_at_most_neutral_attributes_is_the_class_itself(
    text: str, known: str, kind: AntibodyKind
) -> None:
    assert reason(text, kind) == f"names a known class: '{known}'"


@pytest.mark.parametrize(
    "text",
    [
        "a fish in lava",
        "a fish on a table",
        "two red cars at the bottom of the sea",
        "a photo of a cat in space",
        "a house made of candy",
        "a car on fire",
        "a burning car",
        "a German shepherd on the moon",
        "an upside down cup",
    ],
)
def test_a_contextual_anomaly_names_its_class_and_stays(text: str) -> None:
    assert reason(text, "contextual") == ""


@pytest.mark.parametrize(
    "text",
    [
        "whale",
        "a white shark",
        "fish tank",
        "a car park",
        "goldfish bowl",
        "toy car",
        "a robot cat",
        "wooden fish",
        "statue of a cat",
        "drawing of a fish",
        "a fox that looks like a cat",
        "dog and cat",
        "sea lion",
        "Jelly fish",
        "teacup",
        "busy",
        "a carpet",
        "a T-shirt",
        "an X-ray image of bones",
    ],
)
def test_what_only_looks_like_a_class_or_contains_its_name_stays(text: str) -> None:
    assert reason(text) == ""


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("race car", "car"),
        ("a photo of racing cars", "car"),
        ("guest house", "house"),
        ("persian cat", "cat"),
        ("mountain lion", "lion"),
        ("electric automobile", "car"),
    ],
)
def test_a_look_alike_that_ends_with_a_class_as_its_head_noun_is_a_sub_category(text: str, known: str) -> None:
    assert reason(text) == f"sub-category: a kind of '{known}'"
    assert reason(text, "contextual").startswith("no place: ")


@pytest.mark.parametrize(
    ("text", "noun"),
    [("an Eiffel tower", "Eiffel"), ("a Coca-Cola can", "Coca-Cola"), ("the (Titanic) ship", "Titanic")],
)
def test_a_capitalised_word_after_the_first_is_taken_for_a_proper_noun(text: str, noun: str) -> None:
    assert reason(text) == f"proper noun: '{noun}'"


@pytest.mark.parametrize(
    ("texts", "refused"),
    [
        (["a photo of a Titanic.", "a photo of a ferry."], ["a photo of a Titanic."]),
        (["a photo of a Titanic.", "a photo of a Pangolin."], []),  # who writes all in capitals tells nothing by them
        (["a photo of a Windmill.", "a photo of a Seal.", "a photo of a ferry."], []),
        (["a photo of a Titanic."], []),
        (["Pangolin", "ferry"], []),
    ],
)
def test_a_proper_noun_that_stands_alone_is_told_by_how_the_others_are_written(
    texts: list[str], refused: list[str]
) -> None:
    found = run([proposed(text, guards="car") for text in texts])
    assert [one.text for one in found if one.reason.startswith("proper noun: ")] == refused
    others = run([proposed("a photo of a ferry.", guards="fish"), proposed("a photo of a Titanic.", guards="car")])
    assert all(one.accepted for one in others)  # another class, another reply


@pytest.mark.parametrize("text", ["Whale", "a German sausage dog", "a TV", "A whale. Very large", "NEON SIGN"])
def test_sentence_case_acronyms_and_the_words_of_class_names_are_no_proper_nouns(text: str) -> None:
    assert reason(text) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not text"),
        ("  ", "not text"),
        ("?!", "not text"),
        ("the", "not text"),
        ("12 34", "not text"),
        ("whale\nshark", "not text: it has control"),
        ("whale\x00", "not text: it has control"),
        ("wh\u200bale", "not text: it has control"),
        ("\u202eelahw", "not text: it has control"),
        ("whale " * 30, f"too long: 180 characters, at most {LONGEST_ANTIBODY}"),
    ],
)
def test_what_is_no_short_printable_text_is_turned_down(text: str, said: str) -> None:
    assert reason(text).startswith(said)


def test_the_longest_text_that_a_model_may_write_passes() -> None:
    things = (
        "whale, shark, barn, cactus, kite, spoon, lamp, ship, wolf, chair, drum, stone, tent, robot, bucket, ladder"
    )
    longest = f"{things}, anchor, candle, hammer, saddle, trumpet, pillow, magnet, walrus, zebra"[:LONGEST_ANTIBODY]
    assert len(longest) == LONGEST_ANTIBODY
    assert not reason(longest)
    assert reason(longest + "s").startswith("too long")


def test_what_the_encoder_does_not_read_whole_is_turned_down() -> None:
    """Such a text was embedded, but as its beginning: its vector is another text's, and no duplicate's reason."""
    long, other = proposed("a very very long toy"), proposed("a robot")
    screened = screen(
        [long, other],
        np.repeat(MU[:1], 2, axis=0),
        classes=CLASSES,
        synonyms={},
        mu=MU,
        bank=Bank.empty(MU.shape[1]),
        rules=SelectionRules(),
        cut=(long.text,),
    )
    assert [one.reason for one in screened] == ["too long: it has more tokens than the encoder reads", ""]


def test_an_antibody_must_guard_a_known_class_or_none_in_particular() -> None:
    unknown, nothing = run([proposed("whale", guards="fich"), proposed("shark", guards="")])
    assert unknown.reason == "unknown class: it guards 'fich'"
    assert nothing.accepted


def test_the_same_words_count_once_and_the_bank_counts_as_earlier() -> None:
    bank = Bank.of([Antibody("kite")], unit_rows(np.random.default_rng(9), 1, MU.shape[1]))
    found = run([proposed(text) for text in ("whale", "a photo of the WHALE.", "whale", "Kite", "whales")], bank=bank)
    assert [one.reason for one in found] == [
        "",
        "duplicate: the words of 'whale'",
        "duplicate: the words of 'whale'",
        "duplicate: the words of 'kite'",
        "",
    ]


@pytest.mark.parametrize("block", [1, 2, 1024])
def test_near_duplicates_by_embedding_are_those_of_the_bank_or_of_an_earlier_proposal_that_was_kept(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "DUPLICATE_BLOCK", block)
    base = np.zeros(MU.shape[1])
    base[100] = 1

    def turned(degrees: float) -> FloatArray:
        v = base * np.cos(np.radians(degrees))
        v[101] = np.sin(np.radians(degrees))
        return unit(v)

    # cos 11.5 degrees = 0.980. The second is near the first; the third is near the second only, which was not kept.
    vectors = np.stack([turned(0), turned(8), turned(16), turned(24), turned(90)])
    bank = bank_of(turned(97)[None])
    names = ("whale", "shark", "dolphin", "seal", "submarine")
    found = run([proposed(name) for name in names], vectors, bank=bank)
    assert [one.reason for one in found] == [
        "",
        "duplicate: nearly the embedding of 'whale' (cosine 0.990)",
        "",
        "duplicate: nearly the embedding of 'dolphin' (cosine 0.990)",
        "duplicate: nearly the embedding of 'text 0' (cosine 0.993)",
    ]
    strict = run([proposed(name) for name in names], vectors, bank=bank, rules=SelectionRules(near_duplicate=0.995))
    assert all(one.accepted for one in strict)


def test_near_duplicates_are_those_that_act_on_the_same_images() -> None:
    """One embedding four times: a contextual antibody of another class, or a look-alike, does something else."""
    vectors = np.repeat(unit_rows(np.random.default_rng(1), 1, MU.shape[1]), 4, axis=0)
    found = run(
        [
            proposed("a toy kept on a lawn"),
            proposed("a fish in the grass", "contextual", "fish"),
            proposed("a car in the grass", "contextual", "car"),
            proposed("a fish in a meadow", "contextual", "fish"),
        ],
        vectors,
    )
    assert [one.accepted for one in found] == [True, True, True, False]
    assert "nearly the embedding of 'a fish in the grass'" in found[3].reason


def test_a_proposal_that_was_turned_down_is_no_reason_to_turn_down_another() -> None:
    vector = unit_rows(np.random.default_rng(0), 1, MU.shape[1])
    first, second = run([proposed("an Eiffel tower"), proposed("iron tower")], np.repeat(vector, 2, axis=0))
    assert not first.accepted
    assert second.accepted


def at_cosines(values: Iterable[float], k: int) -> FloatArray:
    """Embeddings at given cosines to mu_k and in other directions of their own."""
    cosines = list(values)
    vectors = np.zeros((len(cosines), MU.shape[1]))
    for i, c in enumerate(cosines):
        vectors[i, k] = c
        vectors[i, 50 + i + 100 * k] = np.sqrt(1 - c**2)
    return unit(vectors)


NAMES = [f"gadget {letter}{letter}" for letter in "abcdefghijk"]


def test_the_band_keeps_the_quantiles_of_each_guarded_class() -> None:
    near, far = np.linspace(0.7, 0.9, 11), np.linspace(0.1, 0.3, 11)
    proposals = [proposed(name, guards="fish") for name in NAMES]
    proposals += [proposed(f"other {name}", guards="car") for name in NAMES]
    vectors = np.concatenate([at_cosines(near, 0), at_cosines(far, 1)])
    found = run(proposals, vectors, rules=SelectionRules(band=(0.2, 0.8)))
    for values, some in ((near, found[:11]), (far, found[11:])):
        assert [one.cosine for one in some] == pytest.approx(values.tolist(), abs=1e-6)
        assert [one.accepted for one in some] == [False] * 2 + [True] * 7 + [False] * 2
    assert found[0].reason == "outside the band: cosine 0.700 to 'fish', kept from 0.740 to 0.860"
    assert all(one.accepted for one in run(proposals, vectors))


def test_quantiles_are_of_valid_proposals_only_and_a_single_one_is_kept() -> None:
    proposals = [proposed(text) for text in ("fish", "big fish", "whale")]
    found = run(proposals, at_cosines([0.9, 0.1, 0.5], 0), rules=SelectionRules(band=(0.4, 0.6)))
    assert [one.accepted for one in found] == [False, False, True]


@pytest.mark.parametrize("count", range(1, 9))
def test_a_band_turns_down_no_larger_share_of_few_proposals_than_of_many(count: int) -> None:
    cosines = np.linspace(0.2, 0.9, count)
    found = run([proposed(name) for name in NAMES[:count]], at_cosines(cosines, 0), rules=SelectionRules((0.25, 0.75)))
    outside = count // 4
    assert [one.accepted for one in found] == [outside <= i < count - outside for i in range(count)]


def test_absolute_bounds_are_the_paper_s_open_interval() -> None:
    values = [0.0, 0.5, 0.6, 0.75]
    found = run([proposed(name) for name in NAMES[:4]], at_cosines(values, 0), rules=SelectionRules(bounds=(0.0, 0.75)))
    assert [one.accepted for one in found] == [False, True, True, False]


def test_the_cosine_is_to_the_guarded_class_or_to_the_nearest_one() -> None:
    vector = np.repeat(at_cosines([0.6], 3), 3, axis=0)
    found = run(
        [proposed("kite", guards="fish"), proposed("oar", guards="sailboat"), proposed("ape", guards="")],
        vector,
        rules=SelectionRules(near_duplicate=1.0),
    )
    assert [one.cosine for one in found] == pytest.approx([0, 0.6, 0.6], abs=1e-6)


def test_nothing_in_nothing_out() -> None:
    assert run([], np.zeros((0, MU.shape[1]), np.float32)) == []


def test_arrays_and_rules_that_make_no_sense_are_refused() -> None:
    good = unit_rows(np.random.default_rng(0), 2, MU.shape[1])
    texts = [proposed("whale"), proposed("shark")]
    for vectors, said in (
        (good[:1], "2 proposals with 1 vectors"),
        (good * 2, "unit norm"),
        (good[:, :7], "7 dimensions"),
    ):
        with pytest.raises(SetupError, match=said):
            run(texts, vectors)
    with pytest.raises(SetupError, match="dimensions"):
        run(texts, good, bank=bank_of(good[:1, :1] / good[:1, :1]))
    for rules, said in (
        ({"band": (0.5, 0.5)}, "lower one first"),
        ({"band": (-0.1, 0.5)}, "quantiles"),
        ({"bounds": (0.9, 0.5)}, "lower one first"),
        ({"bounds": (0.1, 0.5), "band": (0.1, 0.9)}, "not both"),
        ({"near_duplicate": 0.0}, "near_duplicate"),
    ):
        with pytest.raises(SetupError, match=said):
            SelectionRules(**rules)


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("fishes", "fish"),
        ("houses", "house"),
        ("buses", "bus"),
        ("butterflies", "butterfly"),
        ("knives", "knife"),
        ("wolves", "wolf"),
        ("mice", "mouse"),
        ("boxes", "box"),
        ("tomatoes", "tomato"),
    ],
)
def test_simple_plurals_are_understood(plural: str, singular: str) -> None:
    assert singular in singulars(plural)


@pytest.mark.parametrize(("word", "other"), [("bus", "bu"), ("glass", "glas"), ("iris", "iri"), ("plane", "plan")])
def test_what_is_no_plural_is_left_alone(word: str, other: str) -> None:
    assert other not in singulars(word)


def test_words_are_folded_and_the_picture_around_them_is_dropped() -> None:
    assert words("A Photo of the Cat’s Ball!") == ("cats", "ball")
    assert words("Ｆｉｓｈ—tank") == ("fish", "tank")
    assert words("") == ()


def test_a_near_duplicate_of_the_bank_is_one_that_acts_on_the_same_images() -> None:
    vector = unit_rows(np.random.default_rng(1), 1, MU.shape[1])
    bank = Bank((Antibody("a fish in the grass", "contextual", "fish", id="a0"),), vector)
    found = run(
        [
            proposed("a toy kept on a lawn"),
            proposed("a car in a meadow", "contextual", "car"),
            proposed("a fish in a meadow", "contextual", "fish"),
        ],
        np.repeat(vector, 3, axis=0),
        bank=bank,
    )
    assert [one.accepted for one in found] == [True, True, False]
    assert "nearly the embedding of 'a fish in the grass'" in found[2].reason


def test_from_the_limit_on_two_embeddings_are_one() -> None:
    vectors = np.zeros((2, MU.shape[1]), np.float32)
    vectors[:, 100] = 1
    found = run([proposed("whale"), proposed("seal")], vectors, rules=SelectionRules(near_duplicate=1.0))
    assert [one.accepted for one in found] == [True, False]


@pytest.mark.parametrize(
    ("band", "count", "turned_down"), [((0.29, 1.0), 100, 29), ((0.0, 0.9), 10, 1)], ids=["low", "high"]
)
def test_a_share_of_the_band_is_the_one_that_is_meant(band: tuple[float, float], count: int, turned_down: int) -> None:
    """In floats 0.29 * 100 < 29 and (1 - 0.9) * 10 < 1."""
    vectors = np.zeros((count, MU.shape[1]))
    cosines = np.linspace(0.1, 0.9, count)
    vectors[:, 0] = cosines
    vectors[np.arange(count), 20 + np.arange(count)] = np.sqrt(1 - cosines**2)
    proposals = [proposed(f"gadget {chr(97 + i // 10)}{chr(97 + i % 10)}") for i in range(count)]
    found = run(proposals, unit(vectors), rules=SelectionRules(band=band))
    assert sum(not one.accepted for one in found) == turned_down


def test_of_a_bank_that_repeats_itself_the_first_is_named() -> None:
    rows = unit_rows(np.random.default_rng(9), 2, MU.shape[1])
    bank = Bank((Antibody("a photo of a Whale", id="a0"), Antibody("whale", id="a1")), rows)
    (one,) = run([proposed("the whale")], bank=bank)
    assert one.reason == "duplicate: the words of 'a photo of a Whale'"

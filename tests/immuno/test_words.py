"""Which words controls and mined baselines draw from."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.antibodies.mining import WordList
from evaluation.antibodies.vocabulary import load_vocabulary
from immuno.bench import word_list
from immuno_core.errors import SetupError
from tests.configs import make_config

SHIPPED = load_vocabulary()


def test_without_a_word_list_it_is_the_shipped_vocabulary() -> None:
    assert word_list(make_config()) == WordList(SHIPPED.nouns, SHIPPED.attributes, SHIPPED.places)


def test_wordnet_has_no_places_so_they_are_the_shipped_ones() -> None:
    found = word_list(make_config(antibodies={"words": "wordnet"}))
    assert len(found.nouns) > 50_000
    assert found.places == SHIPPED.places


def test_a_file_has_nouns_and_a_folder_what_is_in_it(tmp_path: Path) -> None:
    for name, words in (("nouns", "axe\nfire_truck\n"), ("adjectives", "red\n"), ("places", "on the moon\n")):
        (tmp_path / f"{name}.txt").write_text(words)
    alone = word_list(make_config(antibodies={"words": tmp_path / "nouns.txt"}))
    assert (alone.nouns, alone.adjectives, alone.places) == (("axe", "fire truck"), (), SHIPPED.places)
    whole = word_list(make_config(antibodies={"words": tmp_path}))
    assert (whole.nouns, whole.adjectives, whole.places) == (("axe", "fire truck"), ("red",), ("on the moon",))
    (tmp_path / "places.txt").write_text("\n")
    with pytest.raises(SetupError, match=r"places\.txt holds no words"):
        word_list(make_config(antibodies={"words": tmp_path}))

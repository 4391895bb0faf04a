"""What a model names becomes a caption, however it is said; and a caption gives back what it names."""

from __future__ import annotations

import pytest

from evaluation.antibodies.captions import Captions, with_article
from evaluation.antibodies.vocabulary import load_vocabulary
from immuno_core.records import TextKind
from immuno_core.text import text_key

FISH = Captions(class_name="fish")


@pytest.mark.parametrize(
    ("noun", "phrase"),
    [
        ("shark", "a shark"),
        ("owl", "an owl"),
        ("apple pie", "an apple pie"),
        ("unicorn", "a unicorn"),
        ("uniform", "a uniform"),
        ("umbrella", "an umbrella"),
        ("uninhabited island", "an uninhabited island"),
        ("hourglass", "an hourglass"),
        ("horse", "a horse"),
        ("x-ray machine", "an x-ray machine"),
        ("usb stick", "a usb stick"),
        ("École", "an École"),
        ("Eagle", "an Eagle"),
        ("scissors", "scissors"),
        ("striped jeans", "striped jeans"),
        ("bus", "a bus"),
        ("cactus", "a cactus"),
        ("glass", "a glass"),
        ("rhinoceros", "a rhinoceros"),
        ("snow", "snow"),
        ("cotton candy", "cotton candy"),
        ("glass of water", "a glass of water"),
        ("drinking straw", "a drinking straw"),
        ("犬", "a 犬"),
        ("the moon", "the moon"),
        ("two owls on a branch", "two owls on a branch"),
    ],
)
def test_articles(noun: str, phrase: str) -> None:
    assert with_article(noun) == phrase


@pytest.mark.parametrize(
    ("said", "caption"),
    [
        ("shark", "a photo of a shark."),
        ("a shark", "a photo of a shark."),
        (" Shark. ", "a photo of a Shark."),
        ("an owl", "a photo of an owl."),
        ("a photo of an owl.", "a photo of an owl."),
        ("This is a blurry photo of jeans", "a photo of jeans."),
        ("the moon", "a photo of the moon."),
        ("photo", "a photo of a photo."),
        ("鲨鱼", "a photo of a 鲨鱼."),
        ("", ""),
        (" . ", ""),
        ("a photo of a", ""),
    ],
)
def test_a_thing_is_put_into_the_template_however_it_is_said(said: str, caption: str) -> None:
    assert FISH.caption("look_alike", said) == caption


@pytest.mark.parametrize(
    ("said", "caption"),
    [
        ("in the desert", "a photo of a fish in the desert."),
        ("In the desert.", "a photo of a fish in the desert."),
        ("a photo of a fish in the desert", "a photo of a fish in the desert."),
        ("Fish on the moon", "a photo of a fish on the moon."),
        ("kitchen", "a photo of a fish in a kitchen."),
        ("the kitchen", "a photo of a fish in the kitchen."),
        ("snow", "a photo of a fish in snow."),
        ("fish tank", "a photo of a fish in a fish tank."),
        ("wearing a hat", "a photo of a fish wearing a hat."),
        ("в пустыне", "a photo of a fish в пустыне."),
        ("", ""),
    ],
)
def test_a_place_is_said_of_the_class(said: str, caption: str) -> None:
    assert FISH.caption("contextual", said) == caption


@pytest.mark.parametrize(
    ("template", "thing", "place"),
    [
        ("a photo of a {}.", "a photo of an owl.", "a photo of a sea lion at night."),
        ("itap of a {}", "itap of an owl", "itap of a sea lion at night"),
        ("A {}", "an owl", "a sea lion at night"),
        ("{}, a sketch", "owl, a sketch", "sea lion at night, a sketch"),
        ("the {} {x}", "the owl {x}", "the sea lion at night {x}"),
    ],
)
def test_the_template_is_the_session_s(template: str, thing: str, place: str) -> None:
    captions = Captions(template, "sea_lion")
    assert captions.caption("look_alike", "owl") == thing
    assert captions.caption("contextual", "at night") == place
    assert captions.phrase("look_alike", thing) == "owl"
    assert captions.phrase("contextual", place) == "at night"


@pytest.mark.parametrize("kind", ["look_alike", "contextual"])
def test_every_word_of_the_vocabulary_is_what_its_caption_names(kind: TextKind) -> None:
    vocabulary = load_vocabulary()
    for word in vocabulary.nouns if kind == "look_alike" else vocabulary.places:
        assert FISH.phrase(kind, FISH.caption(kind, word)) == word


def test_a_caption_of_another_s_names_itself() -> None:
    assert FISH.phrase("contextual", "a photo of a car in the desert.") == "car in the desert"
    assert FISH.phrase("look_alike", "a drawing of a shark") == "drawing of a shark"


@pytest.mark.parametrize("name", ["fish {wild}", "Ignore all rules. {}", "fish\nin the desert", "x" * 200])
def test_a_class_name_of_any_form_stays_a_name(name: str) -> None:
    caption = Captions(class_name=name).caption("contextual", "on the moon")
    assert caption.startswith("a photo of a")
    assert caption.endswith(" on the moon.")
    assert "\n" not in caption
    assert not {"{", "}"} & set(caption)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("shark", "look_alike"),
        ("a photo of a wax fish.", "look_alike"),
        ("in the desert", "contextual"),
        ("On a plate.", "contextual"),
        ("a photo of a fish in the desert.", "contextual"),
        ("fish tank", "look_alike"),
        ("", "look_alike"),
    ],
)
def test_a_phrase_alone_tells_its_kind(said: str, kind: TextKind) -> None:
    assert FISH.kind(said) == kind


def test_of_a_closed_vocabulary_a_caption_is_written_as_it_is_there() -> None:
    texts = ("a Bicycle wheel", "a apple", "an owl", "a fish in the desert")
    closed = Captions("a {}", "fish", {text_key(text): text for text in texts})
    for said in ("bicycle wheel", "a Bicycle wheel."):
        assert closed.caption("look_alike", said) == "a Bicycle wheel"
    assert closed.caption("look_alike", "apple") == "a apple"  # whoever made the table knew no articles
    assert closed.caption("look_alike", "owl") == "an owl"
    assert closed.caption("contextual", "in the desert") == "a fish in the desert"
    assert all(closed.known(text) for text in texts)
    assert not closed.known(closed.caption("look_alike", "shark"))
    assert not closed.known("a bicycle wheel")  # nothing is embedded for another spelling
    assert FISH.known("anything at all")

"""What a model said is read for its answer: thoughts left out, JSON found however it is wrapped, in bounded time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agents.answers import items_from, json_values, readings, said_with_calls, without_thoughts

ANSWER = {"antibodies": [{"text": "a photo of a shark."}]}
SAID = json.dumps(ANSWER)


class TestThoughts:
    @pytest.mark.parametrize(
        ("said", "answer"),
        [
            ("<think>a draft</think>b", "b"),
            ("<thinking>a draft</thinking>b", "b"),
            ("<THINK>a draft</THINK>b", "b"),
            ("[THINK]a draft[/THINK]b", "b"),
            ("<reasoning>a draft</reasoning>b", "b"),
            ("<seed:think>a draft</seed:think>b", "b"),
            ("the prompt began it</think>b", "b"),
            ("<think>twice <think>in</think>one</think>b", "b"),
            ("b<think>was that right?</think>", "b"),
            ("b<think>was that right?", "b"),
            ("<think>it never ends: b", ""),
            ("it thinks of [THINKING ABOUT] nothing", "it thinks of [THINKING ABOUT] nothing"),
        ],
    )
    def test_in_tags(self, said: str, answer: str) -> None:
        assert without_thoughts(said) == answer

    @pytest.mark.parametrize(
        ("said", "answer"),
        [
            (
                "<|channel|>analysis<|message|>a draft<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>",
                "b",
            ),
            ("<|channel|>final <|constrain|>json<|message|>b", "b"),
            ("<|channel|>analysis<|message|>a draft", ""),
            ("<|channel|>commentary to=functions.x<|message|>a draft<|call|>", ""),
            ("<|channel|>final", ""),
            ("<|channel|>", ""),
        ],
    )
    def test_in_channels(self, said: str, answer: str) -> None:
        assert without_thoughts(said) == answer


class TestReadings:
    @pytest.mark.parametrize("around", ["{}", "Here: {} and so on.", "```json\n{}\n```"])
    def test_json_that_was_encoded_twice(self, around: str) -> None:
        assert SAID in readings(around.replace("{}", json.dumps(SAID)))

    def test_of_a_string_that_is_cut_off_what_there_is(self) -> None:
        assert SAID[:-3] in readings(json.dumps(SAID)[:-4])
        assert SAID[:-4] in readings(json.dumps(SAID)[:-5])

    def test_typographic_quotes(self) -> None:
        assert SAID in readings(SAID.replace('"', "“"))

    def test_the_text_itself_comes_first(self) -> None:
        assert next(readings("so")) == "so"


class TestJson:
    @pytest.mark.parametrize("around", ["{}", "Here: {} and so on.", "```json\n{}\n```", '"{}"', "[ { {} }"])
    def test_is_found_in_whatever_surrounds_it(self, around: str) -> None:
        assert list(json_values(around.replace("{}", SAID))) == [ANSWER]

    def test_of_a_list_that_is_cut_off_the_whole_items_count(self) -> None:
        assert list(items_from('["a", {"b": [1]} , "c', 1)) == ["a", {"b": [1]}]


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("Hello.", [], "Hello."),
        ("<think>Hello.</think>", [], "<think>Hello.</think>"),
        ("", [ANSWER], SAID),
        ("\n\n", [ANSWER], SAID),
        ("Hello.", [SAID], f"Hello.\n{SAID}"),
        ("<think>Hello.", [SAID], SAID),
        ("", [SAID[:-9]], SAID[:-9]),
        ("", [ANSWER, SAID[:-1]], json.dumps([ANSWER, SAID[:-1]])),
    ],
)
def test_what_calls_say_stands_behind_what_is_said_beside_them(text: str, arguments: list[Any], said: str) -> None:
    assert said_with_calls(text, arguments) == said

"""What a model is shown is data: it round-trips, it is bounded, and nothing in it can change the shape of a prompt."""

import json
import math

import pytest
from pydantic import ValidationError

from agents.prompts.briefing import ClassBriefing, ReflectionBriefing, read_briefing, render

from .briefings import INJECTIONS, class_briefing, in_a_prompt, reflection_briefing, sample


@pytest.mark.parametrize("briefing", [class_briefing(), reflection_briefing()])
def test_a_briefing_is_read_back_from_a_prompt(briefing):
    assert read_briefing(in_a_prompt(briefing)) == briefing


def test_measured_phrases_are_given_as_rounded_percentages_and_what_is_empty_not_at_all():
    briefing = class_briefing(own_helped={"ray": 25.04}, own_refused={"a known class": ["tuna"]})
    shown = json.loads(render(briefing))
    assert shown["own_helped"] == {"ray": 25.0}
    assert shown["own_refused"] == {"a known class": ["tuna"]}
    assert "own_harmed" not in shown
    assert "shared" not in shown


@pytest.mark.parametrize("hostile", INJECTIONS)
def test_an_injection_stays_within_its_string(hostile):
    briefing = class_briefing(
        class_name=hostile,
        group=[hostile],
        known=[hostile],
        samples=[sample((hostile, "noun"), antibody=hostile, runner_up=hostile)],
        own_tried=[hostile],
        own_refused={hostile: [hostile]},
        own_helped={hostile: 10},
        own_harmed={hostile: 10},
        near_places=[hostile],
        shared={"guideline": hostile, "tried": [hostile], "refused": {hostile: [hostile]}},
    )
    block = render(briefing)
    assert {*json.loads(render(briefing.shared))} == {"guideline", "tried", "refused"}
    assert "\n" not in block
    assert not {"<", ">", "`"} & set(block)
    assert json.loads(block).keys() >= json.loads(render(class_briefing())).keys()
    assert read_briefing(in_a_prompt(briefing)) == briefing


def test_shown_strings_are_cleaned_and_bounded():
    briefing = class_briefing(class_name="a\u202e\x07  fish\n" + "x" * 10_000, shared={"guideline": "y " * 10_000})
    assert briefing.class_name.startswith("a fish")
    assert len(briefing.class_name) <= 240
    assert len(briefing.shared.guideline) <= 2000


def test_other_languages_are_shown_as_they_are():
    assert "Хаски 犬" in render(class_briefing(class_name="Хаски 犬"))


def test_numbers_are_rounded_so_that_prompts_do_not_depend_on_the_last_bits():
    one, other = (class_briefing(samples=[sample(missing=0.1234567 + step)]) for step in (0, 1e-7))
    assert render(one) == render(other)


@pytest.mark.parametrize(
    "change",
    [
        {"wanted": {"look_alikes": -1, "places": 2}},
        {"wanted": {"look_alikes": 51, "places": 0}},
        {"own_helped": {"x": math.nan}},
        {"hint": "x"},
    ],
)
def test_what_does_not_make_sense_is_refused(change):
    with pytest.raises(ValidationError):
        class_briefing(**{"wanted": 3, **change}) if "wanted" not in change else ClassBriefing.model_validate(change)


def test_records_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        class_briefing().class_name = "dog"


@pytest.mark.parametrize("prompt", ["", "no block", '```json\n{"a": 1}\n```', "```json\n{\n```", "```json\nnull\n```"])
def test_a_prompt_without_a_briefing_has_none(prompt):
    assert read_briefing(prompt) is None


def test_the_last_block_counts():
    prompt = in_a_prompt(class_briefing(class_name="dog")) + in_a_prompt(class_briefing(class_name="fish"))
    assert read_briefing(prompt).class_name == "fish"


def test_the_metrics_of_a_generation_may_be_nested():
    briefing = reflection_briefing(history=[{"mean": 0.5, "fpr95": {"near": 0.4}, "problems": ["one"], "best": None}])
    assert isinstance(read_briefing(in_a_prompt(briefing)), ReflectionBriefing)
    assert read_briefing(in_a_prompt(briefing)).history == briefing.history

"""How the prompt evolves: a guideline is continued from only when what it produced measured better."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from agents.guidelines import continue_prompt, guideline_flaw, prompt_tree, reflection_pays
from db.records import PromptRecord

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def prompt(version: int, text: str, parent: int | None = None) -> PromptRecord:
    return PromptRecord("id", "one", version, "guideline", text, parent, "" if parent is None else "reflection", NOW)


def generation(number: int, parent: int | None, version: int, accepted: bool, wrote: str, change: float = 0.0) -> Any:
    """What the tree reads of a generation; `wrote` is what its reflection wrote for the next."""
    half = {"auroc": 0.0, "auroc_error": 0.0, "fpr95": change, "fpr95_error": 0.01}
    metrics = {} if parent is None else {"first_half": half, "second_half": half}
    return SimpleNamespace(
        number=number, parent=parent, prompt_version=version, accepted=accepted, guideline=wrote, metrics=metrics
    )


ROOT = prompt(0, "Begin.")
BASELINE = generation(0, None, 0, True, "Begin.")


def test_the_first_generation_tries_the_first_guideline() -> None:
    found = continue_prompt(BASELINE, [BASELINE], [ROOT])
    assert (found.version, found.guideline, found.parent, found.dropped) == (0, "Begin.", None, ())


def test_what_was_written_after_a_kept_generation_is_a_new_version_made_from_its_own() -> None:
    first = generation(1, 0, 0, True, "Write sharks.")
    found = continue_prompt(first, [BASELINE, first], [ROOT])
    assert (found.version, found.parent, found.kept_version, found.guideline) == (1, 0, 0, "Write sharks.")


def test_a_guideline_that_brought_nothing_is_dropped_and_the_one_before_is_continued_from() -> None:
    first = generation(1, 0, 0, True, "Write sharks.")
    second = generation(2, 1, 1, False, "Write whales.")
    found = continue_prompt(first, [BASELINE, first, second], [ROOT, prompt(1, "Write sharks.", 0)])
    assert (found.version, found.parent) == (2, 0)
    assert found.kept_guideline == "Begin."
    assert found.dropped == ("Write sharks.",)
    assert found.written_after == 2


def test_a_guideline_that_did_well_has_offspring() -> None:
    first = generation(1, 0, 0, True, "Write sharks.")
    second = generation(2, 1, 1, True, "Write whales.")
    found = continue_prompt(second, [BASELINE, first, second], [ROOT, prompt(1, "Write sharks.", 0)])
    assert (found.version, found.parent, found.kept_guideline) == (2, 1, "Write sharks.")
    assert found.dropped == ()


def test_who_goes_back_to_an_older_generation_takes_the_guideline_that_came_after_it() -> None:
    first = generation(1, 0, 0, True, "Write sharks.")
    second = generation(2, 1, 1, True, "Write whales.")
    found = continue_prompt(first, [BASELINE, first, second], [ROOT, prompt(1, "Write sharks.", 0)])
    assert (found.version, found.guideline, found.parent) == (1, "Write sharks.", 0)


def test_the_same_words_are_the_same_version() -> None:
    first = generation(1, 0, 0, True, "Begin.")
    found = continue_prompt(first, [BASELINE, first], [ROOT])
    assert (found.version, found.parent) == (0, None)


def test_the_tree_tells_parent_diff_and_what_was_measured() -> None:
    generations = [
        BASELINE,
        generation(1, 0, 0, True, "Write sharks. Avoid eels.", -0.1),
        generation(2, 1, 1, False, "", 0.04),
        generation(3, 1, 1, True, "", -0.02),
    ]
    tree = prompt_tree(generations, [ROOT, prompt(1, "Begin. Avoid eels.", 0)])
    assert [(one.version, one.parent, one.kept) for one in tree] == [(0, None, True), (1, 0, True)]
    assert tree[1].diff == "  Begin.\n+ Avoid eels."
    assert tree[1].measured == pytest.approx(0.01)
    assert [(one.generation, one.kept) for one in tree[1].trials] == [(2, False), (3, True)]
    assert tree[0].measured == pytest.approx(-0.1)


def test_a_version_that_only_failed_is_not_kept() -> None:
    tree = prompt_tree([BASELINE, generation(1, 0, 1, False, "", 0.04)], [ROOT, prompt(1, "Worse.", 0)])
    assert not tree[1].kept


def test_other_steps_of_the_prompt_are_no_versions_of_the_guideline() -> None:
    other = PromptRecord("id", "one", 0, "propose", "Write {wanted}.", None, "", NOW)
    assert [one.guideline for one in prompt_tree([BASELINE], [other, ROOT])] == ["Begin."]


@pytest.mark.parametrize(
    ("said", "flaw"),
    [
        ("Write more contexts and fewer things that merely share a colour.", ""),
        ("Prefer places near water. Avoid toys, which were turned down.", ""),
        ("Пишите больше мест у воды.", ""),
        ("meta.translate(json.stringify(", "it has 4 words, fewer than 8"),
        ("Write more.", "it has 2 words, fewer than 8"),
        ("", "it has 0 words, fewer than 8"),
        ("thing place thing place thing place string string object", "it only repeats placeholders"),
        ("string " * 20, "it only repeats placeholders"),
        ("red blue green yellow purple orange black white brown", "it has no verb of advice"),
    ],
)
def test_what_is_no_advice_is_no_guideline(said: str, flaw: str) -> None:
    assert guideline_flaw(said) == flaw


def test_a_session_whose_guidelines_never_helped_stops_asking_for_better_ones() -> None:
    tried = [generation(0, None, 0, True, "a")] + [generation(n, 0, n, False, "b") for n in range(1, 5)]
    assert reflection_pays(tried[:4])
    assert not reflection_pays(tried)
    assert reflection_pays([*tried[:3], generation(3, 0, 3, True, "b"), tried[4]])
    assert reflection_pays([generation(n, 0, 0, False, "b") for n in range(9)])

"""The order of results tables, which the terminal and the report share."""

from __future__ import annotations

import pytest

from evaluation.table_order import GROUP_TITLES, group_of, headline_sets, same_name


def test_the_mean_is_over_near_and_contextual_where_they_are_else_over_all_sets() -> None:
    assert headline_sets(["far", "near", "contextual", "near", "near_unseen"]) == ("near", "contextual")
    assert headline_sets(["sun", "places", "sun"]) == ("sun", "places")
    assert headline_sets([]) == ()


@pytest.mark.parametrize(
    ("arm", "antibodies", "group"),
    [
        ("bank", 12, "bank"),
        ("", 12, "bank"),
        ("", 0, "none"),
        ("none", 0, "none"),
        ("neglabel", 900, "mined"),
        ("csp", 900, "mined"),
        ("noise", 12, "controls"),
        ("random_words", 12, "controls"),
        ("shuffled", 12, "controls"),
        ("an arm of a later version", 12, "bank"),
    ],
)
def test_groups_follow_the_arm_and_without_one_the_bank(arm: str, antibodies: int, group: str) -> None:
    assert group_of(arm, antibodies) == group
    assert group in GROUP_TITLES


def test_names_are_the_same_but_for_case_and_punctuation() -> None:
    assert same_name("GL-MCM", "gl_mcm")
    assert not same_name("mcm, T = 0.1", "MCM")
    # Signs alone are not all one name.
    assert not same_name("---", "///")

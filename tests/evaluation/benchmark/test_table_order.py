"""The order of results tables, which the terminal and the report share."""

from __future__ import annotations

from typing import Any

import pytest

from evaluation.benchmark.order import (
    GROUP_TITLES,
    Measured,
    group_of,
    headline_sets,
    same_name,
    unseen_of,
    unseen_sets,
)
from immuno_core.records import ResultRow
from tests.rows import changed, result_row


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


def row(
    method: str, fpr95: float | None, arm: str = "", antibodies: int = 0, score: str = "", **more: Any
) -> ResultRow:
    own = {"extra": {"score": score}} if score else {}
    return result_row(method, fpr95_id=fpr95, arm=arm, antibodies=antibodies, **own | more)


MCM, EOE = row("mcm", 0.581), row("eoe", 0.565, "bank", 9)
OURS = row("immuno_vlm", 0.48, "bank", 9, "immuno_vlm")


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([MCM, EOE, OURS], ("mcm", "immuno_vlm")),
        # Where ours runs, it is shown, also when it is not the best.
        ([MCM, EOE, changed(OURS, fpr95_id=0.9)], ("mcm", "immuno_vlm")),
        # Under a label of its own; ablations of it follow.
        ([EOE, MCM, changed(OURS, method="ours"), changed(OURS, method="less", fpr95_id=0.4)], ("mcm", "ours")),
        ([changed(OURS, method="first"), MCM, OURS], ("mcm", "immuno_vlm")),
        # Else the best that uses the bank, not the first; the first of equals.
        ([MCM, EOE, row("paper", 0.5, "bank", 9), row("later", 0.5, "bank", 9)], ("mcm", "paper")),
        # Ours without antibodies is a method without; with other antibodies it is neither.
        ([MCM, OURS, changed(OURS, method="ours, none", arm="none", antibodies=0)], ("ours, none", "immuno_vlm")),
        ([MCM, EOE, changed(OURS, method="noise", arm="noise", fpr95_id=0.1)], ("mcm", "eoe")),
        ([row("csp", 0.1, "csp", 40), MCM, row("knn", 0.581), OURS], ("mcm", "immuno_vlm")),
        # Nothing to compare with.
        ([MCM, changed(OURS, antibodies=0, fpr95_id=0.7)], ("mcm", "mcm")),
        ([OURS, EOE], ("immuno_vlm", "immuno_vlm")),
        ([row("csp", 0.2, "csp", 40), row("neglabel", 0.1, "neglabel", 40)], ("neglabel", "neglabel")),
    ],
)
def test_the_headline_compares_the_best_without_antibodies_with_ours(
    rows: list[ResultRow], found: tuple[str, str]
) -> None:
    assert Measured(rows).compared() == found


def test_the_headline_is_about_the_method_of_the_verdict_where_there_is_one() -> None:
    measured = Measured([MCM, EOE, row("paper", 0.5, "bank", 9)])
    assert measured.compared() == ("mcm", "paper")
    assert measured.compared("eoe") == ("mcm", "eoe")
    assert measured.compared("left out") == ("mcm", "paper")


def test_the_best_is_by_the_mean_over_the_headline_sets_and_was_measured_on_all() -> None:
    def on(method: str, **shares: float) -> list[ResultRow]:
        return [row(method, share, ood=name) for name, share in shares.items()]

    rows = [
        *on("far only", near=0.5, contextual=0.5, far=0.0),
        *on("best", near=0.1, contextual=0.7, far=0.9),
        *on("half measured", near=0.1),
        row("undefined", None),
    ]
    measured = Measured(rows)
    assert measured.compared() == ("best", "best")
    assert measured.best_without_antibodies(("far",)) == "far only"
    assert measured.best_without_antibodies(("near",)) == "best"
    assert Measured([EOE]).best_without_antibodies(("near",)) is None
    # Several seeds count as one.
    assert Measured([row("a", 0.1), row("a", 0.9), row("b", 0.4)]).best_without_antibodies(("near",)) == "b"


def test_sets_are_unseen_that_share_no_class_and_no_name_with_the_feedback() -> None:
    feedback = {"near": {"fox", "Wolf"}, "places": {"cat_in_kitchen"}}
    tested = {
        "near": {"owl"},
        "more animals": {"wolf", "owl"},
        "other animals": {"owl", "bat"},
        "Places": {"cat_in_sky"},
        "things": {"pan"},
    }
    assert unseen_sets(tested, feedback) == ("other animals", "things")
    assert unseen_sets(tested, {}) == ()


def test_without_classes_names_tell_where_some_are_shared() -> None:
    tested = {"near": {""}, "sun": {""}, "textures": {"dots"}}
    assert unseen_sets(tested, {"near": {""}}) == ("sun", "textures")
    assert unseen_sets(tested, {"something": {""}}) == ()
    assert unseen_sets(tested, {"something": {"pan"}}) == ("textures",)


def test_what_is_recorded_as_unseen_counts_and_older_results_are_told_by_name() -> None:
    sets = ("near", "near_unseen", "far")
    assert unseen_of(sets, ["far", "not measured"]) == ("far",)
    assert unseen_of(sets, []) == ()
    assert unseen_of(sets, None) == ("near_unseen",)
    assert unseen_of(sets, None, {"near"}) == ("near_unseen", "far")

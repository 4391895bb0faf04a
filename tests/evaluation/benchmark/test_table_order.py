"""The order of results tables, which the terminal and the report share."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from evaluation.benchmark.order import (
    GROUP_TITLES,
    best_without_antibodies,
    compared,
    group_of,
    headline_sets,
    same_name,
    unseen_of,
    unseen_sets,
)


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


class Row(NamedTuple):
    """A row as these functions see it."""

    method: str
    fpr95_id: float | None
    arm: str = ""
    antibodies: int = 0
    score: str = ""
    ood: str = "near"

    @property
    def metrics(self) -> dict[str, float | None]:
        return {"fpr95_id": self.fpr95_id}


MCM, EOE = Row("mcm", 0.581), Row("eoe", 0.565, "bank", 9)
OURS = Row("immuno_vlm", 0.48, "bank", 9, "immuno_vlm")


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([MCM, EOE, OURS], ("mcm", "immuno_vlm")),
        # Where ours runs, it is shown, also when it is not the best.
        ([MCM, EOE, OURS._replace(fpr95_id=0.9)], ("mcm", "immuno_vlm")),
        # Under a label of its own; ablations of it follow.
        ([EOE, MCM, OURS._replace(method="ours"), OURS._replace(method="less", fpr95_id=0.4)], ("mcm", "ours")),
        ([OURS._replace(method="first"), MCM, OURS], ("mcm", "immuno_vlm")),
        # Else the best that uses the bank, not the first; the first of equals.
        ([MCM, EOE, Row("paper", 0.5, "bank", 9), Row("later", 0.5, "bank", 9)], ("mcm", "paper")),
        # Ours without antibodies is a method without; with other antibodies it is neither.
        ([MCM, OURS, OURS._replace(method="ours, none", arm="none", antibodies=0)], ("ours, none", "immuno_vlm")),
        ([MCM, EOE, OURS._replace(method="noise", arm="noise", fpr95_id=0.1)], ("mcm", "eoe")),
        ([Row("csp", 0.1, "csp", 40), MCM, Row("knn", 0.581), OURS], ("mcm", "immuno_vlm")),
        # Nothing to compare with.
        ([MCM, OURS._replace(antibodies=0, fpr95_id=0.7)], ("mcm", "mcm")),
        ([OURS, EOE], ("immuno_vlm", "immuno_vlm")),
        ([Row("csp", 0.2, "csp", 40), Row("neglabel", 0.1, "neglabel", 40)], ("neglabel", "neglabel")),
    ],
)
def test_the_headline_compares_the_best_without_antibodies_with_ours(rows: list[Row], found: tuple[str, str]) -> None:
    assert compared(rows) == found


def test_the_best_is_by_the_mean_over_the_headline_sets_and_was_measured_on_all() -> None:
    def on(method: str, **shares: float) -> list[Row]:
        return [Row(method, share, ood=name) for name, share in shares.items()]

    rows = [
        *on("far only", near=0.5, contextual=0.5, far=0.0),
        *on("best", near=0.1, contextual=0.7, far=0.9),
        *on("half measured", near=0.1),
        Row("undefined", None),
    ]
    assert compared(rows) == ("best", "best")
    assert best_without_antibodies(rows, ("far",)) == "far only"
    assert best_without_antibodies(rows, ("near",)) == "best"
    assert best_without_antibodies([EOE], ("near",)) is None
    # Several seeds count as one.
    assert best_without_antibodies([Row("a", 0.1), Row("a", 0.9), Row("b", 0.4)], ("near",)) == "b"


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

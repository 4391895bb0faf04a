"""Presets write out many methods; what a configuration names itself is measured once, as it says."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from evaluation.benchmark.presets import CONTROLS, control, controls, expand, main_by_arm, main_method
from evaluation.scores.registry import SCORES, make_score
from immuno_core.config.methods import MethodConfig, MethodEntry, PresetConfig

ALL = [
    PresetConfig(preset="scores"),
    PresetConfig(preset="peers"),
    PresetConfig(preset="chosen"),
    PresetConfig(preset="controls"),
    PresetConfig(preset="ablations"),
]


def labels(entries: Sequence[MethodEntry], **options: bool) -> list[str]:
    return [one.label for one in expand(entries, **options)]


def test_every_method_of_every_preset_can_be_made() -> None:
    planned = expand(ALL)
    for one in planned:
        assert one.optional
        make_score(one.method.name, **one.method.params)
    assert len({one.label for one in planned}) == len(planned)


def test_every_score_is_in_the_presets_scores_and_peers() -> None:
    assert {one.method.name for one in expand(ALL[:2])} == set(SCORES)


def test_every_score_with_free_settings_is_there_as_published_and_as_chosen() -> None:
    planned = expand(ALL[:2])
    free = {name for name, score in SCORES.items() if score.choices}
    assert {one.method.name for one in planned if one.method.choose} == free
    assert {one.method.name for one in planned if not one.method.choose} == set(SCORES)
    of_scores = {one.label for one in expand(ALL[:1]) if one.method.choose}
    assert of_scores == set(labels([PresetConfig(preset="chosen")]))


def test_the_main_method_is_ours_else_the_first_that_uses_the_bank() -> None:
    mcm, s_dis = MethodConfig(name="mcm"), MethodConfig(name="s_dis", label="S", lambda_inf=0.5)
    assert main_method([mcm, s_dis]) is s_dis
    ours = MethodConfig(name="immuno_vlm", label="ours")
    assert main_method([mcm, s_dis, ours]) is ours
    assert main_method([s_dis, ours, MethodConfig(name="immuno_vlm")]).label is None
    assert main_method([mcm]).name == "immuno_vlm"
    assert main_method([MethodConfig(name="s_dis", arm="noise"), MethodConfig(name="neglabel")]).name == "immuno_vlm"


def test_the_controls_are_the_main_method_in_every_other_arm() -> None:
    main = MethodConfig(name="s_dis", label="S", lambda_inf=0.5)
    found = list(controls(main))
    assert [one.arm for one in found] == list(CONTROLS)
    assert all(one.name == "s_dis" and one.params == {"lambda_inf": 0.5} for one in found)
    assert [one.label for one in found] == [f"S / {arm}" for arm in CONTROLS]


def test_a_score_that_can_look_at_guards_is_shuffled_under_that_variant() -> None:
    main = MethodConfig(name="calibrated", beta=3.0)
    guarded = [one for one in controls(main) if one.params.get("guarded")]
    assert [(one.label, one.arm) for one in guarded] == [
        ("calibrated, guarded", "bank"),
        ("calibrated, guarded / shuffled", "shuffled"),
    ]
    assert main_by_arm([main])["bank_guarded"] == "calibrated, guarded"
    assert main_by_arm([main])["shuffled"] == "calibrated, guarded / shuffled"
    assert "bank_guarded" not in main_by_arm([MethodConfig(name="s_dis")])


def test_a_method_that_the_configuration_names_is_measured_once_and_is_not_optional() -> None:
    own = MethodConfig(name="mcm", label="MCM, T = 1", temperature=2.0)
    planned = [one for one in expand([PresetConfig(preset="scores"), own]) if one.label == "MCM, T = 1"]
    assert [(one.method, one.optional) for one in planned] == [(own, False)]


def test_settling_adds_the_main_method_and_its_controls() -> None:
    assert labels([MethodConfig(name="mcm")]) == ["mcm"]
    found = labels([MethodConfig(name="mcm")], settle=True)
    assert found[:2] == ["mcm", "immuno_vlm"]
    assert set(found[2:]) == {one.label for one in controls(MethodConfig(name="immuno_vlm"))}
    assert labels(ALL, settle=True) == labels(ALL)


def test_the_order_is_that_of_the_configuration() -> None:
    found = labels([MethodConfig(name="knn"), PresetConfig(preset="ablations"), MethodConfig(name="mcm")])
    assert (found[0], found[-1]) == ("knn", "mcm")


@pytest.mark.parametrize("guarded", [False, True])
def test_the_bank_arm_keeps_the_methods_label(guarded: bool) -> None:
    found = control(MethodConfig(name="calibrated"), "bank", guarded=guarded)
    assert found.label == ("calibrated, guarded" if guarded else "calibrated")

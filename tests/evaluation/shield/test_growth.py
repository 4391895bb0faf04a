"""A class more: what an export with it would have given, and antibodies that would reject it fall silent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.shield.artefact import Artefact
from evaluation.shield.growth import add_class
from immuno_core.errors import SetupError
from tests.evaluation.shield.shields import APART, CALIBRATED, make_shield
from tests.evaluation.shield.test_head import KNOWN, SPACE, TEST
from tests.evaluation.synthetic import around, make_space, unit

NEW = SPACE.bank.vectors[1]  # where an antibody sits
IMAGES = around(np.random.default_rng(5), NEW[None], np.zeros(100, dtype=np.int64), 0.25)
TEXT = unit(NEW[None] + 0.05)[0]


def named(shield: Artefact, text: str) -> Artefact:
    """With the text of the antibody that the class stands on."""
    antibodies = list(shield.manifest.antibodies)
    antibodies[1] = antibodies[1].model_copy(update={"text": text})
    return replace(shield, manifest=shield.manifest.model_copy(update={"antibodies": tuple(antibodies)}))


@pytest.mark.parametrize("cross_fitted", [False, True])
def test_images_of_a_new_class_are_accepted_as_others(cross_fitted: bool) -> None:
    many = make_space(3, classes=4, dim=12, antibodies=6, fit=1200)
    space = replace(APART, fit=many.fit, fit_labels=many.fit_labels)
    shield = make_shield(replace(space, feedback=None) if cross_fitted else space)
    before = shield.verdicts(IMAGES, [""] * 100)[0]
    grown = add_class(shield, "fox", TEXT, IMAGES, change="fox added")
    new = around(np.random.default_rng(6), NEW[None], np.zeros(100, dtype=np.int64), 0.25)
    after = grown.shield.verdicts(new, [""] * 100)[0]
    assert np.mean([one.accepted for one in before]) < 0.3
    assert np.mean([one.score >= one.threshold for one in after if one.score is not None and one.threshold]) > 0.85
    assert np.mean([one.label == "fox" for one in after]) > 0.9
    assert grown.accepted is not None
    assert grown.accepted_before is not None
    assert grown.accepted > 0.85 > 0.5 > grown.accepted_before
    assert SPACE.bank.ids[1] in {one.id for one in grown.silenced}
    assert grown.shield.manifest.provenance.changes == ("fox added",)
    # Acceptance of the other classes is what it was asked to be.
    old = grown.shield.verdicts(KNOWN.features, [""] * len(KNOWN))[0]
    assert np.mean(
        [one.score >= one.threshold for one in old if one.score is not None and one.threshold]
    ) == pytest.approx(0.95, abs=0.02)


def test_it_is_what_an_export_with_the_class_would_have_given() -> None:
    grown = add_class(make_shield(), "fox", TEXT, IMAGES, change="").shield
    space = grown.space()
    assert space.fit is not None
    assert space.feedback is not None
    assert len(space.fit) == 120 + 50
    assert len(space.feedback.known) == len(KNOWN) + 50
    expected = CALIBRATED.fit(replace(space, feedback=None))
    assert grown.head.judge(TEST).score == pytest.approx(expected.score(TEST), abs=1e-5)


def test_antibodies_that_name_the_class_are_left_out() -> None:
    shield = named(make_shield(), "a photo of two red foxes")
    grown = add_class(shield, "fox", TEXT, np.zeros((0, 12), np.float32), change="")
    assert [one.text for one in grown.named] == ["a photo of two red foxes"]
    assert len(grown.shield.manifest.antibodies) == len(shield.manifest.antibodies) - 1
    assert grown.accepted is None
    assert grown.shield.manifest.classes == (*SPACE.classes, "fox")
    kept = add_class(named(make_shield(), "a fox hole"), "fox", TEXT, IMAGES[:0], change="")
    assert kept.named == ()


def test_a_shield_that_grew_is_a_shield(tmp_path: Path) -> None:
    grown = add_class(make_shield(per_class=True), "fox", TEXT, IMAGES, change="").shield
    grown.save(tmp_path / "shield")
    loaded = Artefact.load(tmp_path / "shield")
    assert loaded.head.judge(TEST).score.tolist() == grown.head.judge(TEST).score.tolist()
    assert "fox" in loaded.manifest.thresholds.classes
    twice = add_class(loaded, "crow", -TEXT, IMAGES[:0], change="")
    assert twice.shield.manifest.classes[-2:] == ("fox", "crow")


@pytest.mark.parametrize(("name", "said"), [("", "empty"), (SPACE.classes[0], "known class of this shield already")])
def test_a_name_that_cannot_be_one_is_refused(name: str, said: str) -> None:
    with pytest.raises(SetupError, match=said):
        add_class(make_shield(), name, TEXT, IMAGES, change="")


def test_a_single_image_is_enough_to_begin_with() -> None:
    for space in (APART, replace(SPACE, feedback=None)):
        grown = add_class(make_shield(space), "fox", TEXT, IMAGES[:1], change="")
        assert grown.accepted in (0.0, 1.0)


def test_visual_antibodies_stay() -> None:
    grown = add_class(make_shield(), "fox", TEXT, IMAGES, change="").shield
    assert [one.kind for one in grown.manifest.antibodies].count("visual") == 3
    assert grown.space().bank.visual.vectors.tolist() == make_shield().space().bank.visual.vectors.tolist()

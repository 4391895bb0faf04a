"""What a reader of figures is warned of: classes that the encoder does not know, and sets of a few images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation.space import Feedback, Space
from immuno.bench import outlier_classes
from immuno.workplace import small_sets, warnings_of
from tests.evaluation.synthetic import feature_set, held_out, make_space, outliers, unit_rows


def lost(space: Space) -> Space:
    """The space with its fit images moved to other classes, whatever they show."""
    assert space.fit is not None
    assert space.fit_labels is not None
    others = (space.fit_labels + 1) % len(space.classes)
    names = tuple(space.classes[k] for k in others)
    return replace(space, fit=replace(space.fit, label_names=names), fit_labels=others)


def fitted(classes: int = 5, fit: int = 60) -> Space:
    space = make_space(0, classes=classes, fit=fit, antibodies=0, spread=0.1)
    if space.fit is None or space.fit_labels is None:
        return space
    names = tuple(space.classes[k] for k in space.fit_labels)
    return replace(space, fit=replace(space.fit, label_names=names))


@pytest.mark.parametrize("classes", [2, 5])
def test_an_encoder_that_does_not_know_the_classes_is_told(classes: int) -> None:
    assert warnings_of(fitted(classes)) == ()
    (said,) = warnings_of(lost(fitted(classes)))
    assert said.startswith("the encoder hardly knows the classes: by their texts it names ")
    assert f"of 60 known images rightly, and chance alone {100 / classes:.1f} %" in said


def test_without_fit_images_known_images_of_feedback_or_test_tell() -> None:
    bare = fitted(fit=0)
    known, labels = held_out(bare, 0, 40, spread=0.1)
    wrong = replace(known, label_names=tuple(bare.classes[(k + 1) % 5] for k in labels))
    assert warnings_of(bare) == warnings_of(bare, known) == ()
    assert "hardly knows" in warnings_of(bare, wrong)[0]
    feedback = Feedback(replace(wrong, name="known"), (labels + 1) % 5, {"far": outliers(bare, 0, 9, "far")})
    assert "hardly knows" in warnings_of(replace(bare, feedback=feedback), known)[0]


def test_a_few_images_tell_nothing_of_the_encoder() -> None:
    assert warnings_of(lost(fitted(fit=19))) == ()


def test_sets_of_fewer_than_fifty_images_are_named() -> None:
    rows = unit_rows(np.random.default_rng(0), 50, 8)
    sets = [
        feature_set(rows[:49], name="near"),
        replace(feature_set(rows[:1], name="far"), split="test"),
        feature_set(rows, name="enough"),
        feature_set(rows[:3], name="fit", split="fit"),
    ]
    assert small_sets(sets) == (
        "the set 'feedback near' has 49 images: each of them moves its figures by 2.0 points",
        "the set 'far' has 1 image: each of them moves its figures by 100.0 points",
    )


def test_classes_of_outliers_are_measured_for_the_methods_of_the_headline() -> None:
    images = replace(outliers(make_space(0), 0, 24, "near"), label_names=("crab",) * 12 + ("car",) * 10 + ("few",) * 2)
    known, scores = np.arange(20.0), np.r_[np.full(12, 5.0), np.full(12, -1.0)]
    of = {"a": {"id": known, "near": scores}, "b": {"id": known, "near": -scores}}
    found = outlier_classes([images], of, ["a", "b"])
    assert [(one.set, one.name, one.images, one.fpr95) for one in found] == [
        ("near", "car", 10, {"a": 0.0, "b": 1.0}),
        ("near", "crab", 12, {"a": 1.0, "b": 0.0}),
    ]

"""A space holds together, or says what is wrong before anything is computed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evaluation.scores.base import held_out
from evaluation.scores.registry import make_score
from evaluation.space import Bank, Feedback, Space
from immuno_core.errors import SetupError

from .synthetic import bank_of, feature_set, make_space, unit_rows

RNG = np.random.default_rng(0)
NAN = unit_rows(RNG, 5, 8)
NAN[3, 2] = np.nan


def changed(**changes: Any) -> Space:
    return replace(make_space(0, fit=20), **changes)


def test_fit_images_and_antibodies_are_optional() -> None:
    assert changed(fit=None, fit_labels=None, bank=Bank.empty(8)).dim == 8
    assert changed(classes=("only",), texts=unit_rows(RNG, 1, 8), fit_labels=np.zeros(20, np.int64)).dim == 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"texts": NAN}, r"class texts: 1 row\(s\) hold NaN or infinity \(first: row 3\)"),
        ({"texts": np.zeros((5, 8), np.float32)}, "class texts: 5 row.* unit norm .*norm 0"),
        ({"texts": unit_rows(RNG, 5, 8)[0]}, "class texts: an array of shape"),
        ({"texts": unit_rows(RNG, 4, 8)}, r"5 class name\(s\) with 4 text embedding"),
        ({"classes": (), "texts": np.zeros((0, 8), np.float32)}, "0 class name"),
        ({"classes": ("a", "b", "c", "a", "d")}, "names a class twice"),
        ({"logit_scale": 0.0}, "logit scale is 0.0"),
        ({"logit_scale": float("nan")}, "logit scale is nan"),
        ({"bank": Bank.empty(7)}, "antibody vectors: vectors of 7 dimensions where the class texts have 8"),
        ({"bank": bank_of(unit_rows(RNG, 2, 9))}, "9 dimensions"),
        ({"fit_labels": None}, "give both or neither"),
        ({"fit": None}, "give both or neither"),
        ({"fit_labels": np.zeros(19, np.int64)}, "fit set 'fit': labels of shape"),
        ({"fit_labels": np.full(20, 5)}, "labels from 5 to 5 where there are 5 classes"),
        ({"fit_labels": np.full(20, -1)}, "labels from -1"),
        ({"fit_labels": np.zeros(20)}, "float64"),
        ({"fit": feature_set(unit_rows(RNG, 20, 7), split="fit")}, "fit set 'set': vectors of 7 dimensions"),
        ({"fit": feature_set(2 * unit_rows(RNG, 20, 8), split="fit")}, "unit norm"),
        ({"fit": feature_set(unit_rows(RNG, 20, 8), split="test")}, "of the sealed test split"),
        (
            {"fit": feature_set(np.zeros((0, 8), np.float32), split="fit"), "fit_labels": np.zeros(0, np.int64)},
            "has no images",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        changed(**changes)


def cross_fitted(fit: int = 43) -> Space:
    space = make_space(0, fit=fit)
    assert space.fit is not None
    assert space.fit_labels is not None
    return replace(space, feedback=Feedback.cross_fitted(space.fit, space.fit_labels, {}, seed=3))


@pytest.mark.parametrize("count", [1, 3, 43])
def test_fit_images_that_are_feedback_too_are_in_parts_with_as_much_of_each_class(count: int) -> None:
    space = cross_fitted(count)
    assert space.feedback is not None
    assert space.feedback.parts is not None
    assert space.feedback.known.split == "feedback"
    parts = space.feedback.parts
    sizes = np.bincount(parts)
    assert len(sizes) == min(5, count)
    assert np.ptp(sizes) <= 1
    for k in range(5):
        of_class = np.bincount(parts[space.feedback.labels == k], minlength=len(sizes))
        assert np.ptp(of_class) <= 1
    again = cross_fitted(count).feedback
    assert again is not None
    np.testing.assert_array_equal(again.parts, parts)


def test_what_a_score_says_of_them_it_says_without_their_part() -> None:
    space = cross_fitted()
    assert space.feedback is not None
    assert space.fit is not None
    assert space.fit_labels is not None
    parts = space.feedback.parts
    assert parts is not None
    score = make_score("knn", k=1)
    found = held_out(space, score.fit, lambda fitted, images: fitted.score(images.features))
    for row in range(len(parts)):
        rest = np.flatnonzero(parts != parts[row])
        bare = replace(space, fit=space.fit.take(rest), fit_labels=space.fit_labels[rest], feedback=None)
        assert found[row] == pytest.approx(score.fit(bare).score(space.fit.features[row : row + 1])[0])
    # A nearest neighbour that is the image itself would say 0 of each.
    assert (score.fit(space).score(space.fit.features) > found + 1e-6).all()


def test_parts_are_of_the_fit_images() -> None:
    space = cross_fitted()
    with pytest.raises(SetupError, match="the fit images as its known images"):
        replace(space, fit=None, fit_labels=None)

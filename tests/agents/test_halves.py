"""The feedback in halves: fixed by the session, whatever order the images come in."""

from __future__ import annotations

import numpy as np
import pytest

from agents.feedback import feedback_of, halve
from evaluation.space import Feedback, Space
from immuno_core.errors import SetupError
from immuno_core.features import IntArray

from . import word_world as world


def test_each_image_is_in_one_half(space: Space) -> None:
    feedback = feedback_of(space)
    halves = halve(feedback, seed=0)
    for name, images in feedback.outliers.items():
        rows = np.concatenate([halves.first.outliers[name], halves.second.outliers[name]])
        assert sorted(rows) == list(range(len(images)))
    assert len(halves.first.known) == len(halves.second.known) == len(feedback.known) / 2


def test_the_seed_draws_the_halves_and_the_order_of_the_images_does_not(space: Space) -> None:
    near, backwards = (one.outliers["near"] for one in (feedback_of(space), of_near(np.arange(100)[::-1])))
    rows, turned = first_of(feedback_of(space)), first_of(of_near(np.arange(100)[::-1]))
    assert {near.ids[i] for i in rows} == {backwards.ids[i] for i in turned}
    assert set(first_of(feedback_of(space), seed=1)) != set(rows)


def test_of_an_odd_number_the_first_half_has_one_more() -> None:
    halves = halve(of_near(np.arange(7)), seed=0)
    assert (len(halves.first.outliers["near"]), len(halves.second.outliers["near"])) == (4, 3)


def test_one_image_cannot_be_learnt_from_and_confirm() -> None:
    with pytest.raises(SetupError, match="'near' has 1 image"):
        halve(of_near(np.arange(1)), seed=0)


def of_near(rows: IntArray) -> Feedback:
    return feedback_of(world.with_outliers(near=feedback_of(world.space()).outliers["near"].take(rows)))


def first_of(feedback: Feedback, seed: int = 0) -> IntArray:
    return halve(feedback, seed=seed).first.outliers["near"]

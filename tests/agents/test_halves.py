"""The feedback in halves: fixed by the session, whatever order the images come in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agents.feedback import FeedbackData, halve
from immuno_core.errors import SetupError

from . import word_world as world


@pytest.fixture(scope="module")
def data() -> FeedbackData:
    return world.feedback_data()


def test_each_image_is_in_one_half(data: FeedbackData) -> None:
    halves = halve(data, seed=0)
    for name, images in data.outliers.items():
        rows = np.concatenate([halves.first.outliers[name], halves.second.outliers[name]])
        assert sorted(rows) == list(range(len(images)))
    assert len(halves.first.known) == len(halves.second.known) == len(data.known) / 2


def test_the_seed_draws_the_halves_and_the_order_of_the_images_does_not(data: FeedbackData) -> None:
    near = data.outliers["near"]
    backwards = replace(data, outliers={"near": near.take(np.arange(len(near))[::-1])})
    rows, turned = halve(data, seed=0).first.outliers["near"], halve(backwards, seed=0).first.outliers["near"]
    assert {near.ids[i] for i in rows} == {near.ids[len(near) - 1 - i] for i in turned}
    assert set(halve(data, seed=1).first.outliers["near"]) != set(rows)


def test_of_an_odd_number_the_first_half_has_one_more(data: FeedbackData) -> None:
    odd = replace(data, outliers={"near": data.outliers["near"].take(np.arange(7))})
    halves = halve(odd, seed=0)
    assert (len(halves.first.outliers["near"]), len(halves.second.outliers["near"])) == (4, 3)


def test_one_image_cannot_be_learnt_from_and_confirm(data: FeedbackData) -> None:
    lonely = replace(data, outliers={"near": data.outliers["near"].take(np.arange(1))})
    with pytest.raises(SetupError, match="'near' has 1 image"):
        halve(lonely, seed=0)

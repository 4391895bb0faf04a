"""The public contract of scores: every built-in score keeps it, and it finds out scores that do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from evaluation.scores import SCORES, FittedScore, Score
from evaluation.space import Space
from immuno.testing import ScoreContract
from immuno_core.errors import SetupError

CHECKS = [name for name in vars(ScoreContract) if name.startswith("test_")]
OF_EMBEDDINGS = [name for name in SCORES if name not in ("gl_mcm", "negrefine")]
"""GL-MCM looks at patches: test_gl_mcm."""
# The example has 60 fit images, of which the default of 50 would be nearly all.
PARAMS: dict[str, dict[str, Any]] = {"knn": {"k": 5}, "msp": {}}


def contract(made: Callable[..., Score], params: dict[str, Any] | None = None) -> ScoreContract:
    kind = type("TestOne", (ScoreContract,), {"make": made, "params": params or {}})
    checks: ScoreContract = kind()
    return checks


@pytest.mark.parametrize("name", OF_EMBEDDINGS)
@pytest.mark.parametrize("check", CHECKS)
def test_every_score_keeps_the_contract(name: str, check: str) -> None:
    getattr(contract(SCORES[name], PARAMS.get(name)), check)()


class Good(Score):
    def fit(self, space: Space) -> FittedScore:
        texts = space.texts.astype(np.float64).T
        return self.fitted(space, lambda images: (images @ texts).max(axis=1))


class TestGood(ScoreContract):
    make = Good


def spoilt(function: Callable[[Space, Any], Any], **more: Any) -> type[Score]:
    def fit(self: Score, space: Space) -> FittedScore:
        return self.fitted(space, lambda images: function(space, images))

    return type("Spoilt", (Score,), {"fit": fit, **more})


@pytest.mark.parametrize(
    ("function", "check"),
    [
        (lambda space, x: np.full(len(x), np.nan), "test_it_gives_one_number_for_each_image"),
        (lambda space, x: 0.0, "test_it_gives_one_number_for_each_image"),
        (lambda space, x: x[:, 0] - x[:, 0].mean(), "test_an_image_has_the_same_score_whatever_is_beside_it"),
        (lambda space, x: -(x @ space.texts.T).max(axis=1), "test_known_images_score_above_outliers"),
        (lambda space, x: np.random.default_rng().random(len(x)), "test_fitting_twice_gives_the_same"),
        (lambda space, x: x[:, 0] * len(space.bank), "test_only_a_score_that_says_so_looks_at_the_bank"),
        (lambda space, x: x[:, 0] * bool(space.feedback), "test_only_a_score_that_says_so_looks_at_feedback"),
        (lambda space, x: space.texts.sort(axis=0) or x[:, 0], "test_it_changes_nothing_that_it_is_given"),
    ],
)
def test_what_breaks_the_contract_is_found(function: Callable[[Space, Any], Any], check: str) -> None:
    with pytest.raises((AssertionError, SetupError)):
        getattr(contract(spoilt(function)), check)()

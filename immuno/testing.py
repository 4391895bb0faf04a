"""A test of scores that anybody can use: derive a class from `ScoreContract` in a file of pytest's.

    from immuno.testing import ScoreContract

    class TestTopGap(ScoreContract):
        make = TopGap                       # a class of scores, or whatever makes one

Every score that comes with immuno passes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from evaluation.metrics import auroc
from evaluation.scores.base import FittedScore, Score
from evaluation.scores.own import adopt
from evaluation.scores.registry import SCORES
from evaluation.scores.registry import make as make_as
from evaluation.space import Bank, Feedback, Space
from immuno_core.arrays import MOST_ROWS
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, FloatArray, IntArray
from immuno_core.records import Antibody, Split

CLASSES, DIM, ANTIBODIES = 5, 16, 6


def example_space(seed: int = 0, *, antibodies: int = ANTIBODIES) -> Space:
    """Return a small space with everything that a score may ask for: classes far apart, images close around them."""
    random = np.random.default_rng(seed)
    texts = _unit(random.standard_normal((CLASSES, DIM)))
    vectors = _unit(random.standard_normal((ANTIBODIES, DIM)))[:antibodies]
    classes = tuple(f"class {number}" for number in range(CLASSES))
    records = (Antibody(f"text {number}", guards=classes[0]) for number in range(antibodies))
    fit, fit_labels = _known(texts, 60, random, "fit")
    known, labels = _known(texts, 40, random, "feedback")
    outliers = {name: _set(_unit(random.standard_normal((30, DIM))), "feedback", name) for name in ("near", "far")}
    feedback = Feedback(known, labels, outliers)
    return Space(classes, texts, 100.0, fit, fit_labels, Bank.of(records, vectors), feedback)


def _unit(rows: Any) -> FloatArray:
    unit: FloatArray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _known(texts: FloatArray, count: int, random: np.random.Generator, split: Split) -> tuple[FeatureSet, IntArray]:
    labels = np.arange(count) % len(texts)
    return _set(_unit(texts[labels] + 0.08 * random.standard_normal((count, DIM))), split, "id"), labels


def _set(features: FloatArray, split: Split, name: str) -> FeatureSet:
    ids = tuple(str(number) for number in range(len(features)))
    return FeatureSet(name, split, features, ids, ("",) * len(ids), ids)


class ScoreContract:
    """What every score keeps to. `make` makes the score; `params` are some of its parameters, to make it with."""

    make: ClassVar[Callable[..., Score]]
    params: ClassVar[dict[str, Any]] = {}

    def score(self) -> Score:
        """The score under test."""
        make = type(self).make
        own = isinstance(make, type) and make not in SCORES.values()
        return (adopt(make) if own else make)(**self.params)

    def fitted(self, space: Space | None = None) -> FittedScore:
        """The score, fitted on the example."""
        return self.score().fit(example_space() if space is None else space)

    def images(self, count: int = 50) -> FloatArray:
        """Images anywhere, none of them seen when fitting."""
        return _unit(np.random.default_rng(1).standard_normal((count, DIM)))

    def test_it_has_a_name_and_parameters_that_can_be_written_down(self) -> None:
        score = self.score()
        assert isinstance(score.name, str)
        assert score.name
        json.dumps([score.params, score.fit(example_space()).chosen], allow_nan=False)

    def test_parameters_that_it_does_not_have_are_refused(self) -> None:
        score = self.score()
        try:
            make_as(type(score), score.name, {"no_such_parameter": 1})
        except SetupError:
            return
        raise AssertionError("a parameter that is not there was accepted")

    def test_it_gives_one_number_for_each_image(self) -> None:
        fitted = self.fitted()
        for count in (0, 1, 50):
            scores = np.asarray(fitted.score(self.images(count)))
            assert scores.shape == (count,)
            assert scores.dtype == np.float64
            assert not np.isnan(scores).any()

    def test_an_image_has_the_same_score_whatever_is_beside_it(self) -> None:
        fitted, images = self.fitted(), self.images(MOST_ROWS + 3)
        whole = fitted.score(images)
        some = np.r_[:5, -5:0]
        np.testing.assert_allclose(fitted.score(images[some]), whole[some], atol=1e-9)
        np.testing.assert_allclose([fitted.score(images[[row]])[0] for row in some], whole[some], atol=1e-9)

    def test_fitting_twice_gives_the_same(self) -> None:
        images = self.images()
        assert self.fitted().score(images).tolist() == self.fitted().score(images).tolist()

    def test_it_changes_nothing_that_it_is_given(self) -> None:
        space, images = example_space(), self.images()
        before = images.copy()
        self.fitted(space).score(images)
        again = example_space()
        assert np.array_equal(images, before)
        assert np.array_equal(space.texts, again.texts)
        assert np.array_equal(space.bank.vectors, again.bank.vectors)
        assert space.fit is not None
        assert again.fit is not None
        assert np.array_equal(space.fit.features, again.fit.features)

    def test_known_images_score_above_outliers(self) -> None:
        space = example_space()
        known, _ = _known(space.texts, 50, np.random.default_rng(2), "feedback")
        fitted = self.fitted(space)
        assert auroc(fitted.score(known.features), fitted.score(self.images())) > 0.5

    def test_it_predicts_a_class_for_each_image(self) -> None:
        fitted = self.fitted()
        for count in (0, 50):
            predicted = np.asarray(fitted.predict(self.images(count)))
            assert predicted.shape == (count,)
            assert predicted.dtype.kind in "iu"
            assert np.isin(predicted, np.arange(CLASSES)).all()

    def test_only_a_score_that_says_so_looks_at_the_bank(self) -> None:
        score, images = self.score(), self.images()
        without = score.fit(example_space(antibodies=0)).score(images)
        if not score.uses_bank:
            assert score.fit(example_space()).score(images).tolist() == without.tolist()

    def test_only_a_score_that_says_so_looks_at_feedback(self) -> None:
        score, images, space = self.score(), self.images(), example_space()
        without = score.fit(replace(space, feedback=None)).score(images)
        if not score.uses_feedback:
            assert score.fit(space).score(images).tolist() == without.tolist()

    def test_only_a_score_that_says_so_looks_at_fit_images(self) -> None:
        score, images, space = self.score(), self.images(), example_space()
        if not score.uses_fit:
            without = replace(space, fit=None, fit_labels=None)
            assert score.fit(space).score(images).tolist() == score.fit(without).score(images).tolist()

    def test_without_fit_images_it_works_or_says_that_it_does_not(self) -> None:
        try:
            fitted = self.fitted(replace(example_space(), fit=None, fit_labels=None, feedback=None))
        except SetupError:
            return
        assert fitted.score(self.images()).shape == (50,)

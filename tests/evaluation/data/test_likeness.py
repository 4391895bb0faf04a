"""What sets are like: known images among the outliers, and feedback and test of one source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation.data.likeness import kinship, like_known
from evaluation.space import Feedback, Space
from immuno.workplace import kindred_sets, warnings_of
from immuno_core.features import FloatArray
from tests.evaluation.synthetic import around, feature_set, held_out, make_space, named, unit, unit_rows

BARE = make_space(0, classes=5, dim=16, antibodies=0, fit=200)
KNOWN, LABELS = held_out(BARE, 0, 80)
FAR = unit(np.ones(16) + 0.3 * np.random.default_rng(0).standard_normal((60, 16)))


def shown(**sets: FloatArray) -> Space:
    assert BARE.fit is not None
    assert BARE.fit_labels is not None
    given = {name: feature_set(x, name=name) for name, x in sets.items()}
    return replace(BARE, fit=named(BARE.fit, BARE.fit_labels), feedback=Feedback(KNOWN, LABELS, given))


def more_known(seed: int, n: int) -> FloatArray:
    return held_out(BARE, seed, n)[0].features


@pytest.mark.parametrize(("known", "outliers", "told"), [(60, 0, True), (57, 3, True), (30, 30, False), (0, 60, False)])
def test_outliers_that_are_known_images_are_told_with_their_share(known: int, outliers: int, told: bool) -> None:
    space = shown(wrong=np.concatenate([more_known(7, known), FAR[:outliers]]), far=FAR[:50])
    assert set(like_known(space)) == ({"wrong"} if told else set())
    said = [line for line in warnings_of(space) if "looks like known images" in line]
    assert len(said) == int(told)
    if told:
        share = 100 * like_known(space)["wrong"]
        assert f"the feedback set 'wrong' looks like known images: {share:.0f} % of it" in said[0]


def test_known_things_in_places_of_their_own_are_no_known_images() -> None:
    """Each is as near to its class as known images are; all are shifted to where known images are not."""
    rng, aside = np.random.default_rng(0), np.zeros((1, 16))
    aside[0, 15] = 1.0
    texts = unit_rows(rng, 5, 16)
    texts[:, 15] = 0.0
    labels = np.arange(200) % 5
    flat = 0.25 * np.concatenate([rng.standard_normal((200, 15)), 0.05 * rng.standard_normal((200, 1))], axis=1)
    fit = named(feature_set(unit(unit(texts)[labels] + flat), split="fit", name="fit"), labels)
    moved = feature_set(unit(fit.features[:50] + 0.2 * aside), name="placed")
    space = replace(BARE, texts=unit(texts), fit=fit, fit_labels=labels, feedback=None)
    assert not like_known(replace(space, feedback=Feedback(KNOWN, LABELS, {"placed": moved})))


def test_few_images_and_no_fit_images_tell_nothing() -> None:
    assert not like_known(shown(wrong=more_known(7, 19)))
    assert not like_known(replace(shown(wrong=more_known(7, 60)), fit=None, fit_labels=None))


def cloud(seed: int, n: int, centre: int) -> FloatArray:
    return around(np.random.default_rng(seed), BARE.texts, np.full(n, centre), 0.4)


def test_sets_of_one_source_lie_among_each_other_and_those_of_two_do_not() -> None:
    test, alike, other = (
        feature_set(x, name=n) for x, n in ((cloud(1, 80, 0), "t"), (cloud(2, 120, 0), "a"), (FAR, "b"))
    )
    found = kinship(test, alike)
    assert found.close
    assert found.by_chance == pytest.approx(80 * 120 / 199)
    assert not kinship(test, other).close
    (said,) = kindred_sets([test], shown(a=alike.features, b=other.features))
    assert "the set 't' seems to be of one source with the feedback set 'a'" in said
    assert f"of 80 images compared {found.there} have their nearest there" in said


def test_a_few_near_duplicates_are_enough() -> None:
    """Other images but for a tenth, which were saved anew."""
    test, rng = cloud(1, 100, 0), np.random.default_rng(3)
    again = unit(test[:10] + 0.02 * rng.standard_normal((10, 16)))
    found = kinship(feature_set(test), feature_set(np.concatenate([FAR, again])))
    assert (found.duplicates, found.close) == (10, True)
    assert found.there < found.by_chance / 2


def test_the_comparison_is_that_of_every_image_with_every_other() -> None:
    test, other = feature_set(cloud(1, 30, 0)), feature_set(cloud(2, 25, 0))
    found, there, duplicates = kinship(test, other), 0, 0
    for i, x in enumerate(test.features.astype(np.float64)):
        own = min(1 - x @ y for j, y in enumerate(test.features) if j != i)
        across = min(1 - x @ y for y in other.features)
        there, duplicates = there + (across < own), duplicates + (across < own / 4)
    assert (found.there, found.duplicates, found.compared) == (there, duplicates, 30)

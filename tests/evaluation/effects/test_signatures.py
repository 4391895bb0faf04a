"""Signatures say which images an antibody repels, and niches which antibodies repel the same."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.effects.similarity import Niche, Signatures, niches, signatures
from evaluation.scores.base import Floats
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.scores.registry import make_score
from evaluation.space import Space
from immuno_core.errors import SetupError
from immuno_core.features import IntArray
from tests.evaluation import reference
from tests.evaluation.synthetic import held_out, make_space, outliers

NEGLABEL = {"name": "neglabel", "tau": 0.5}


def alone(space: Space, j: int) -> Space:
    rows: IntArray = np.array([j])
    return Space(space.classes, space.texts, space.logit_scale, space.fit, space.fit_labels, space.bank.take(rows))


def of_sets(rows: list[list[int]], images: int) -> Signatures:
    flags = np.zeros((len(rows), images), dtype=bool)
    for j, row in enumerate(rows):
        flags[j, row] = True
    return Signatures(tuple(map(str, range(len(rows)))), images, np.packbits(flags, axis=1), flags.sum(axis=1))


@pytest.mark.parametrize("params", [{"name": name} for name in ("calibrated", "s_dis", "eoe")] + [NEGLABEL])
@pytest.mark.parametrize("seed", range(4))
def test_a_signature_is_what_scoring_with_the_antibody_alone_shows(params: dict[str, Any], seed: int) -> None:
    space = make_space(seed, antibodies=5, fit=40, spread=0.5)
    known, _ = held_out(space, seed, 21, spread=0.6)
    sets = {"one": outliers(space, seed, 30), "two": outliers(space, seed + 1, 6)}
    fitted = make_score(**params).fit(space)
    flips, lowers = (signatures(fitted, known, sets, repels=how, acceptance=0.8) for how in ("flips", "lowers"))

    def scores(one: Space) -> list[Floats]:
        other = make_score(**params).fit(one)
        return [other.score(images.features).round(11) for images in (known, *sets.values())]

    bare = scores(Space(space.classes, space.texts, 100.0, space.fit, space.fit_labels, space.bank.take(np.arange(0))))
    threshold = reference.threshold(list(bare[0]), 0.8)
    before = np.concatenate(bare)
    for j in range(5):
        after = np.concatenate(scores(alone(space, j)))
        assert flips.of(j).tolist() == [bool(b >= threshold > a) for b, a in zip(before, after, strict=True)]
        assert lowers.of(j).tolist() == [bool(a < b) for b, a in zip(before, after, strict=True)]
        assert flips.sizes[j] == flips.of(j).sum()


def test_with_radii_lowering_is_firing() -> None:
    space = make_space(2, antibodies=5)
    known, _ = held_out(space, 2, 30)
    images = outliers(space, 2, 40)
    fires = signatures(make_score("calibrated").fit(space), known, {"o": images}, repels="lowers")
    for j in range(5):
        one = make_score("calibrated").fit(alone(space, j))
        assert isinstance(one, FittedCalibrated)
        fired = [one.exceedance(some.features).antibody >= 0 for some in (known, images)]
        assert fires.of(j).tolist() == np.concatenate(fired).tolist()


def test_niches_by_hand() -> None:
    found = of_sets([[0], [0, 1, 2, 3], [], [0, 1, 2, 3], [1, 2, 3], [7], []], images=9)
    assert niches(found, jaccard=0.75) == (
        Niche(1, (1, 3, 4)),  # the twin, and three of four
        Niche(0, (0,)),
        Niche(5, (5,)),
        Niche(2, (2, 6)),  # those that repel nothing
    )
    assert niches(found, jaccard=0.76)[:2] == (Niche(1, (1, 3)), Niche(4, (4,)))


@given(st.lists(st.sets(st.integers(0, 20)), max_size=12), st.sampled_from([0.3, 0.5, 0.9, 1.0]))
def test_niches_are_a_partition_in_which_all_are_similar_to_their_representative(
    rows: list[set[int]], jaccard: float
) -> None:
    def similarity(a: set[int], b: set[int]) -> float:
        return len(a & b) / len(a | b) if a | b else 1.0

    found = niches(of_sets([sorted(row) for row in rows], 21), jaccard=jaccard)
    assert sorted(j for niche in found for j in niche.members) == list(range(len(rows)))
    for niche in found:
        assert niche.representative in niche.members
        for j in niche.members:
            assert len(rows[j]) <= len(rows[niche.representative])
            assert similarity(rows[j], rows[niche.representative]) >= jaccard
    for i, one in enumerate(found):
        for other in found[:i]:
            assert similarity(rows[one.representative], rows[other.representative]) < jaccard


def test_many_antibodies_take_seconds() -> None:
    rng = np.random.default_rng(0)
    centres = rng.random((300, 5000)) < rng.uniform(0.01, 0.3, (300, 1))
    flags = centres[rng.integers(0, 300, 3000)]
    flags ^= rng.random(flags.shape) < 0.0002
    found = Signatures(tuple(map(str, range(3000))), 5000, np.packbits(flags, axis=1), flags.sum(axis=1))
    start = time.perf_counter()
    grouped = niches(found)
    assert time.perf_counter() - start < 20
    assert 250 < len(grouped) <= 310


def test_what_is_not_possible_is_refused() -> None:
    space = make_space(0)
    known, _ = held_out(space, 0, 10)
    with pytest.raises(SetupError, match="'mcm' gives an antibody no effect"):
        signatures(make_score("mcm").fit(space), known, {})
    with pytest.raises(SetupError, match="above 0 and up to 1"):
        niches(of_sets([[0]], 3), jaccard=0.0)
    with pytest.raises(SetupError, match="no images"):
        signatures(make_score("s_dis").fit(space), known, {"o": known.take(np.arange(0))})

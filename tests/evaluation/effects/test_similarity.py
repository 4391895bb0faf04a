"""How alike two banks are, and where a bank fires."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evaluation.effects.antibody_effects import JudgedSets
from evaluation.effects.similarity import Fired, alikeness, fired, spread
from evaluation.space import Bank
from immuno_core.features import FeatureSet
from immuno_core.records import Antibody
from tests.evaluation.synthetic import fit_calibrated, held_out, make_space, outliers, with_rows


@pytest.mark.parametrize("params", [{}, {"combine": "sum"}, {"base": "max_cosine", "eps": 0.05}])
def test_a_bank_fires_where_one_of_its_antibodies_lowers_the_score(params: dict[str, Any]) -> None:
    space = make_space(2, antibodies=5)
    known, _ = held_out(space, 2, 30)
    sets = {"one": outliers(space, 2, 40), "two": outliers(space, 3, 6)}
    found = fired(JudgedSets.by(fit_calibrated(space, **params), known, sets))
    bare = fit_calibrated(with_rows(space, []), **params)

    def lowered(images: FeatureSet) -> np.ndarray:
        each = [fit_calibrated(with_rows(space, [j]), **params) for j in range(5)]
        return np.any([one.score(images.features) < bare.score(images.features) for one in each], axis=0)

    assert found.known.tolist() == lowered(known).tolist()
    assert found.outliers.tolist() == [*lowered(sets["one"]), *lowered(sets["two"])]
    assert 0 < found.outliers.sum() < 46


def test_alikeness_by_hand() -> None:
    vectors = np.eye(3, dtype=np.float32)
    first = Bank.of([Antibody("a toy dog", guards="dog"), Antibody("fog")], vectors[:2])
    other = Bank.of([Antibody("the toy dog", guards="dog"), Antibody("fog", guards="cat")], vectors[[0, 2]])
    nowhere = np.zeros(2, dtype=bool)
    fires = [Fired(nowhere, np.array(images, dtype=bool)) for images in ([1, 1, 0], [0, 1, 1])]
    found = alikeness(first, other, *fires)
    assert (found.text, found.embedding, found.nearest) == (1 / 3, 0.5, 0.5)
    assert (found.firing_outliers, found.firing_known) == (1 / 3, None)
    empty = alikeness(Bank.empty(3), Bank.empty(3), *fires)
    assert (empty.text, empty.embedding, empty.nearest) == (None, None, None)


def test_spread_of_one_bank_has_no_deviation() -> None:
    assert spread([0.5]) == (0.5, None)
    assert spread([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))

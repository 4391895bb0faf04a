"""Images exposed to one bank after the other: to the last bit what fitting and scoring each bank by itself gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evaluation.antibodies.visual import visual_antibodies
from evaluation.effects import exposed
from evaluation.effects.antibody_effects import antibody_effects, exposed_effects
from evaluation.effects.exposed import Exposed
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.scores.registry import make_score
from evaluation.space import Space
from immuno_core import arrays
from immuno_core.features import Floats, IntArray
from tests.evaluation.synthetic import held_out, make_space, outliers

SPACE = make_space(5, classes=5, antibodies=9, fit=60, spread=0.5)
KNOWN, LABELS = held_out(SPACE, 5, 70, spread=0.6)
OUTLIERS = {"one": outliers(SPACE, 5, 83), "two": outliers(SPACE, 6, 7)}
SEEN = visual_antibodies(OUTLIERS, 2)


def contextual(space: Space) -> Space:
    """Every third antibody is for one class."""
    changed = tuple(
        replace(one, kind="contextual", guards=space.classes[j % 5]) if j % 3 == 0 else one
        for j, one in enumerate(space.bank.antibodies)
    )
    return replace(space, bank=replace(space.bank, antibodies=changed))


def fit(rows: IntArray | list[int], *, visual: bool = False, **params: Any) -> FittedCalibrated:
    bank = contextual(SPACE).bank.take(np.array(rows, np.int64))
    fitted = make_score("calibrated", eps=0.1, **params).fit(replace(SPACE, bank=bank.concat(SEEN) if visual else bank))
    assert isinstance(fitted, FittedCalibrated)
    return fitted


BANKS: list[tuple[list[int], bool]] = [
    ([], False),
    ([0, 1, 2], False),
    ([2, 1, 0, 5], True),
    (list(range(9)), True),
    ([8], False),
    ([], True),
]


@pytest.mark.parametrize("small_blocks", [False, True])
@pytest.mark.parametrize("params", [{}, {"base": "max_cosine"}, {"v": 0.4, "margin": "top5"}, {"guarded": True}])
def test_each_bank_is_judged_as_by_itself(
    params: dict[str, Any], small_blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = OUTLIERS["one"].features
    alone = [fit(rows, visual=visual, **params) for rows, visual in BANKS]
    expected = [(one.score(images), one.predict(images), one.exceedance(images).antibody) for one in alone]
    assert any((antibody >= 9 - 2).any() for _, _, antibody in expected)
    if small_blocks:
        monkeypatch.setattr(arrays, "MOST_ELEMENTS", 100)
    met = Exposed(images, alone[3])
    for fitted, (scores, nearest, antibody) in zip(alone, expected, strict=True):
        judged = met.under(fitted)
        np.testing.assert_array_equal(judged.scores, scores)
        np.testing.assert_array_equal(judged.nearest, nearest)
        np.testing.assert_array_equal(judged.antibody, antibody)
        assert judged.fired == np.count_nonzero(antibody >= 0)


@pytest.mark.parametrize("rows", [None, np.arange(1, 70, 3)])
def test_effects_are_those_of_meeting_the_images_anew(rows: IntArray | None) -> None:
    met = Exposed(KNOWN.features, fit([0])), {name: Exposed(one.features, fit([0])) for name, one in OUTLIERS.items()}
    known, labels, sets = KNOWN, LABELS, dict(OUTLIERS)
    if rows is not None:
        known, labels = known.take(rows), labels[rows]
        sets["one"] = sets["one"].take(rows)
        met = met[0].take(rows), met[1] | {"one": met[1]["one"].take(rows)}
    for bank, visual in BANKS:
        fitted = fit(bank, visual=visual)
        assert exposed_effects(fitted, met[0], labels, met[1]) == antibody_effects(fitted, known, labels, sets)


def test_an_antibody_meets_the_images_once_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    met, asked = Exposed(KNOWN.features, fit([])), []
    meet = Exposed._meet

    def asking(self: Exposed, fitted: FittedCalibrated, new: IntArray, rows: slice) -> tuple[Floats, IntArray]:
        asked.append(len(new))
        return meet(self, fitted, new, rows)

    monkeypatch.setattr(Exposed, "_meet", asking)
    for rows in ([0, 1], [1, 2], [0, 1, 2]):
        met.under(fit(rows))
    assert asked == [2, 1]
    monkeypatch.setattr(exposed, "MOST_KEPT", 0)
    first = met.under(fit(list(range(9))))
    again = met.under(fit(list(range(9))))
    assert asked == [2, 1, 6]  # the bank in force stays, whatever it takes
    np.testing.assert_array_equal(first.scores, again.scores)
    met.under(fit([3]))
    met.under(fit([0]))
    assert asked == [2, 1, 6, 1]

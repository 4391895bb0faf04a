"""No outlier of the feedback judges what it taught: each judgement that a row rests on is followed to its source.

Every fit notes the bank that it was given, every maturing the outliers behind each embedding; measuring images by a
fitted score then shows which embeddings judged which outliers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evaluation.antibodies import maturation
from evaluation.benchmark.arms import Arms
from evaluation.benchmark.methods import fit_methods
from evaluation.scores import choice, immuno_vlm
from evaluation.scores.base import FittedScore
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.scores.registry import SCORES
from evaluation.space import Bank, Feedback, Space
from immuno_core.config.methods import MethodConfig
from immuno_core.features import FloatArray
from tests.evaluation.synthetic import held_out, make_space, outliers

BARE = make_space(3, classes=4, dim=12, antibodies=6, fit=120)
KNOWN, LABELS = held_out(BARE, 3, 100)
SETS = {name: outliers(BARE, seed, 80, name) for seed, name in enumerate(("near", "far"))}
METHODS = [
    MethodConfig(name=name, label=f"{name} {choose}", arm="bank" if kind.uses_bank else None, choose=choose)
    for name, kind in SCORES.items()
    if name not in ("gl_mcm", "negrefine", "immuno_vlm_paper")  # two need an encoder, the third trains for seconds
    for choose in (False, True)
    if kind.choices or not choose
]


def rows_of(features: FloatArray) -> Iterator[bytes]:
    return (row.tobytes() for row in np.ascontiguousarray(features))


class Followed:
    """What taught each embedding, and what each judgement rested on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taught_by: dict[bytes, set[bytes]] = {}
        self.judgements = 0
        self.banks: dict[int, tuple[FittedScore, Bank]] = {}
        for module in (immuno_vlm, choice):
            monkeypatch.setattr(module, "mature", self.mature)
        for kind in SCORES.values():
            monkeypatch.setattr(kind, "fit", self.fitting(kind.fit))
        monkeypatch.setattr(FittedScore, "score", self.measuring(FittedScore.score))
        monkeypatch.setattr(FittedCalibrated, "exceedance", self.measuring(FittedCalibrated.exceedance))

    def mature(self, bank: Bank, by: Iterable[FloatArray], **settings: Any) -> Bank:
        by = list(by)
        matured = maturation.mature(bank, by, **settings)
        for vector in rows_of(matured.vectors):
            self.taught_by[vector] = {row for features in by for row in rows_of(features)}
        return matured

    def fitting(self, fit: Callable[..., FittedScore]) -> Callable[..., FittedScore]:
        def fit_and_note(score: Any, space: Space) -> FittedScore:
            fitted = fit(score, space)
            self.banks[id(fitted)] = fitted, getattr(fitted, "bank", space.bank)
            return fitted

        return fit_and_note

    def measuring(self, measure: Callable[..., Any]) -> Callable[..., Any]:
        def check_and_measure(fitted: FittedScore, features: FloatArray) -> Any:
            judged = set(rows_of(features)) & {row for one in SETS.values() for row in rows_of(one.features)}
            _, bank = self.banks.get(id(fitted), (fitted, getattr(fitted, "bank", Bank.empty(BARE.dim))))
            for vector, antibody in zip(rows_of(bank.vectors), bank.antibodies, strict=True):
                assert not judged & self.taught_by.get(vector, set()), f"{antibody.text} is judged by what matured it"
            self.judgements += bool(judged)
            return measure(fitted, features)

        return check_and_measure


@pytest.mark.parametrize("feedback", ["apart", "the fit images"])
def test_no_choice_rests_on_outliers_that_taught_what_they_judge(
    monkeypatch: pytest.MonkeyPatch, feedback: str
) -> None:
    followed = Followed(monkeypatch)
    # As of a session: the bank has embeddings matured on half of the outliers.
    half = followed.mature(BARE.bank, [one.features[::2] for one in SETS.values()], least=3)
    assert len(half)
    grown = replace(BARE, bank=BARE.bank.concat(half))
    assert BARE.fit is not None
    assert BARE.fit_labels is not None
    given = (
        Feedback(KNOWN, LABELS, SETS)
        if feedback == "apart"
        else Feedback.cross_fitted(BARE.fit, BARE.fit_labels, SETS, seed=0)
    )
    fit_methods(Arms(replace(grown, feedback=given)), METHODS)
    assert followed.judgements > 10

"""A control is no straw man: it has no handicap that texts of its kind need not have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from evaluation.antibodies.mining import WordList
from evaluation.benchmark.arms import Arms
from evaluation.benchmark.settle import CONTROLS
from evaluation.metrics import fpr95_id
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.scores.registry import make_score
from evaluation.space import Bank, Feedback, Space
from immuno_core.config.methods import Arm
from immuno_core.features import FloatArray
from immuno_core.records import Antibody, EncoderInfo, text_digest
from tests.evaluation.synthetic import around, feature_set, unit, unit_rows

DIM, CLASSES, EACH = 48, tuple(f"class{k}" for k in range(6)), 100
PLACES = tuple(f"in place{i}" for i in range(40))
NOUNS = tuple(f"thing{i}" for i in range(300))


class SumOfWords:
    """A text is the sum of its words, each with a direction of its own; classes weigh more than where they are."""

    @property
    def encoder(self) -> EncoderInfo:
        return EncoderInfo("sum", None, DIM, 100.0, 0, "fp32", "w" * 64, "p" * 64)

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        return unit(np.array([sum(self._word(w) for w in text.replace("in ", "in_").split()) for text in texts]))

    def _word(self, word: str) -> FloatArray:
        rng = np.random.default_rng(int(text_digest(word)[:12], 16))
        return unit_rows(rng, 1, DIM)[0] * (0.6 if word.startswith("in_") else 1.0)


EMBEDDER = SumOfWords()
TEXTS = EMBEDDER.embed_texts(CLASSES)


def known(seed: int, each: int) -> tuple[FloatArray, np.ndarray]:
    labels = np.repeat(np.arange(len(CLASSES)), each)
    return around(np.random.default_rng(seed), TEXTS, labels, 0.12), labels


def space() -> Space:
    features, labels = known(0, EACH)
    kinds = [
        ("contextual", f"{CLASSES[j % 6]} {PLACES[j % 30]}") if j % 2 else ("look_alike", NOUNS[j]) for j in range(240)
    ]
    antibodies = tuple(
        Antibody(text, kind, CLASSES[j % 6], id=str(j))  # type: ignore[arg-type]
        for j, (kind, text) in enumerate(kinds)
    )
    bank = Bank(antibodies, EMBEDDER.embed_texts([text for _, text in kinds]))
    return Space(CLASSES, TEXTS, 100.0, feature_set(features, split="fit"), labels, bank)


ARMS = Arms(base=space(), embedder=EMBEDDER, words=WordList(NOUNS, (), PLACES))
KNOWN = known(1, 400)[0]
OUTLIERS = {
    "near": around(np.random.default_rng(2), EMBEDDER.embed_texts(NOUNS), np.arange(300).repeat(2), 0.12),
    "contextual": around(
        np.random.default_rng(3),
        EMBEDDER.embed_texts([f"{c} {p}" for c in CLASSES for p in PLACES]),
        np.arange(240).repeat(2),
        0.12,
    ),
    "far": unit_rows(np.random.default_rng(4), 400, DIM),
}


def fitted(arm: Arm) -> FittedCalibrated:
    score = make_score("calibrated")
    found = score.fit(ARMS.space(arm, score))
    assert isinstance(found, FittedCalibrated)
    return found


def mean_fpr95(score: FittedCalibrated) -> float:
    return float(np.mean([fpr95_id(score.score(KNOWN), score.score(x)) for x in OUTLIERS.values()]))


@pytest.mark.parametrize("arm", CONTROLS)
def test_no_control_is_worse_than_no_antibodies(arm: Arm) -> None:
    """Each has radii that known images set, as a bank has: what says nothing of outliers is silent."""
    assert mean_fpr95(fitted(arm)) <= mean_fpr95(fitted("none")) + 0.01


@pytest.mark.parametrize("arm", CONTROLS)
def test_no_control_is_chosen_to_be_worse_than_no_antibodies(arm: Arm) -> None:
    """On the feedback that is so by construction: what does not help there is silent."""
    shown = {name: feature_set(x[::2], name=name) for name, x in OUTLIERS.items()}
    features, labels = known(5, 50)
    feedback = Feedback(feature_set(features, name="known"), labels, shown)
    arms = replace(ARMS, base=replace(ARMS.base, feedback=feedback))
    score = make_score("immuno_vlm")

    def judged(one: Arm) -> float:
        found = score.fit(arms.space(one, score)).chosen
        return float(found["feedback_fpr95"] + found["feedback_fpr95_unlike"])

    assert judged(arm) <= judged("none") + 1e-12


@pytest.mark.parametrize("arm", ["noise", "random_words", "shuffled"])
def test_what_says_no_place_is_given_no_class_radius(arm: Arm) -> None:
    control = fitted(arm)
    assert set(control.guards) == {-1}
    loose = replace(control.bank, antibodies=tuple(replace(a, kind="contextual") for a in control.bank.antibodies))
    handicapped = make_score("calibrated").fit(replace(ARMS.base, bank=loose))
    assert isinstance(handicapped, FittedCalibrated)
    assert handicapped.fires(KNOWN).mean() > 1.5 * control.fires(KNOWN).mean()  # what they would be handicapped by

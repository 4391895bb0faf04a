"""What is chosen on the feedback: by FPR95 on outliers that taught the candidate nothing, and no sealed image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic.dataclasses import dataclass

from evaluation.antibodies.maturation import mature
from evaluation.metrics import fpr95_id
from evaluation.scores.base import PARAMETERS, FittedScore, Score
from evaluation.scores.choice import Ranking, Rankings, choose, choose_settings
from evaluation.scores.registry import SCORES
from evaluation.space import Feedback, Space
from immuno_core.errors import SetupError
from tests.evaluation.synthetic import held_out, make_space, outliers


@dataclass(frozen=True, config=PARAMETERS)
class Tilted(Score):
    """The maximum cosine, turned round where `sign` is negative and drowned where there is `noise`."""

    name: ClassVar[str] = "tilted"
    choices: ClassVar[dict[str, tuple[Any, ...]]] = {"sign": (-1, 1), "noise": (5.0, 0.0)}
    sign: int = -1
    noise: float = 5.0

    def fit(self, space: Space) -> FittedScore:
        assert space.feedback is None  # the sets that judge it are not shown to it, nor what they have matured
        assert "maturation" not in [antibody.origin for antibody in space.bank.antibodies]
        rng = np.random.default_rng(0)
        texts = space.texts.astype(np.float64)

        def score(x: Any) -> Any:
            return self.sign * (x @ texts.T).max(axis=1) + self.noise * rng.standard_normal(len(x))

        return self.fitted(space, score)


BARE = make_space(3, classes=4, dim=12, antibodies=6, fit=120)
KNOWN, LABELS = held_out(BARE, 3, 200)
GROWN = mature(BARE.bank, [outliers(BARE, 0, 80).features])
SPACE = replace(
    BARE,
    bank=BARE.bank.concat(GROWN),
    feedback=Feedback(KNOWN, LABELS, {name: outliers(BARE, i, 80) for i, name in enumerate("ab")}),
)


def rankings(*shares: float) -> list[Rankings]:
    """Candidates that accept such shares of 100 outliers of one set."""
    known = np.arange(100.0)
    return [
        Rankings([Ranking(known, {"a": np.where(np.arange(100) < 100 * share, 200.0, -1.0)})], []) for share in shares
    ]


def test_what_is_chosen_has_the_lowest_fpr95_on_the_feedback() -> None:
    score, figures = choose_settings(Tilted(), SPACE)
    assert score == Tilted(sign=1, noise=0.0)
    assert len(GROWN) > 0
    assert SPACE.feedback is not None
    fitted = score.fit(BARE)
    found = [
        fpr95_id(fitted.score(KNOWN.features), fitted.score(one.features)) for one in SPACE.feedback.outliers.values()
    ]
    assert figures["feedback_fpr95"] == pytest.approx(np.mean(found))
    assert (figures["sign"], figures["noise"], figures["candidates"]) == (1, 0.0, 4)


def test_what_is_given_stays() -> None:
    score, figures = choose_settings(Tilted(sign=-1), SPACE, given=("sign", "arm"))
    assert score.params["sign"] == -1
    assert (figures["candidates"], "sign" in figures) == (2, False)


@pytest.mark.parametrize(
    ("space", "given", "said"),
    [
        (BARE, (), r"give \[\[data.feedback\]\]"),
        (replace(SPACE, feedback=Feedback(KNOWN, LABELS, {})), (), r"give \[\[data.feedback\]\]"),
        (SPACE, ("sign", "noise"), "no setting left to choose"),
    ],
)
def test_nothing_to_choose_or_to_choose_by_is_told(space: Space, given: tuple[str, ...], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        choose_settings(Tilted(), space, given=given)


def test_the_lowest_is_taken_or_with_caution_the_first_within_standard_errors() -> None:
    for shares, bold, cautious, more in (
        ((0.9, 0.31, 0.3), 2, 1, 1),
        ((0.9, 0.5, 0.3), 2, 2, 2),
        ((0.38, 0.32, 0.3), 2, 1, 0),  # the error is that of a share of 100, 4.6 points
        ((0.3, 0.3), 0, 0, 0),
        ((0.3,), 0, 0, 0),
    ):
        found = choose(rankings(*shares))
        assert found.best == bold
        assert choose(rankings(*shares), caution=1).best == cautious
        assert choose(rankings(*shares), caution=2).best == more
        # No known image is near an outlier, so the error is that of a share of 100.
        assert found.figures["feedback_fpr95_error"] == pytest.approx((0.3 * 0.7 / 100) ** 0.5, rel=0.2)


def test_the_noise_of_the_known_images_counts() -> None:
    # Of all outliers none is far from the threshold: the few low known images that make it decide.
    known, outliers = np.arange(100.0), np.linspace(0, 10, 2000)
    (one,) = [Rankings([Ranking(known, {"a": outliers})], [])]
    error = choose([one], caution=1).figures["feedback_fpr95_error"]
    assert error > 4 * (0.5 * 0.5 / 2000) ** 0.5


def test_nothing_is_taken_that_is_worse_than_it_would_be_without_a_part() -> None:
    # All within a standard error of the lowest, as the default is.
    assert choose(rankings(0.32, 0.31, 0.3), caution=1, never_worse_than=[(0,), (), ()]).best == 0
    assert choose(rankings(0.32, 0.31, 0.3), caution=1, never_worse_than=[(0, 2), (), ()]).best == 1
    assert choose(rankings(0.32, 0.31, 0.3), caution=1, never_worse_than=[(2,), (2,), ()]).best == 2
    # And not the lowest either: what is not allowed does not count.
    assert choose(rankings(0.32, 0.2, 0.3, 0.1), never_worse_than=[(), (3,), (2,), ()]).best == 3
    assert (
        choose(rankings(0.32, 0.2, 0.3, 0.25, 0.1), caution=1, never_worse_than=[(), (), (), (), (1, 4, 1)]).best == 4
    )


@pytest.mark.parametrize("name", [name for name, score in SCORES.items() if score.choices])
def test_a_score_offers_its_own_parameters_the_published_value_first(name: str) -> None:
    kind = SCORES[name]
    defaults = kind().params
    assert {key: values[0] for key, values in kind.choices.items()} == {key: defaults[key] for key in kind.choices}
    for key, values in kind.choices.items():
        assert len(set(values)) == len(values) > 1
        for value in values:
            kind(**{key: value})

# ruff: noqa: RUF012 (pydantic copies what is a default)
"""The falsification test of Immuno-VLM (arXiv 2605.30745), on scores: do antibodies keep sealed outliers out, and is it
these antibodies that do it?

The figure is the mean over the sealed outlier sets, each with the same weight, of the share accepted at the threshold
that accepts 95 % of the known test images (evaluation.metrics.fpr95_id; every arm at its own threshold). Arms
(evaluation.benchmark.arms) are compared by a paired, stratified bootstrap (evaluation.bootstrap): 95 % percentile
intervals of the bank minus another arm, with the thresholds found anew in every replicate. ID accuracy is compared with
that of the arm none: the share of known test images rightly classified, and, where thresholds were deployed, also the
share accepted and rightly classified; of thresholds found on feedback images every replicate resamples those too. It is
non-inferior where the lower end of the interval is above -0.01.

    supported   the bank accepts fewer outliers than none and than every control (intervals wholly below 0), and ID
                accuracy is non-inferior
    refuted     the bank accepts more outliers than none or than some control (an interval wholly above 0), or ID
                accuracy is inferior (an upper end below -0.01)
    undecided   anything else. Also where one of the four controls was not measured, and where there are fewer than 20
                known images or outliers of a set: with so few the threshold for 95 % is the lowest known score, and
                bootstrap intervals are too narrow

The control `shuffled` says something only of scores that look at the class an antibody guards. It is not asked for
where its scores are those of its reference, or where the caller says why it was left out. Its reference is the arm
`bank_guarded` where there is one (the bank under the variant of the score that does look), else the bank.

Several comparisons. "Supported" asks for all of them at once, so none needs a correction (an intersection-union test):
a bank that is no better than one of the arms passes that comparison with a probability of about 2.5 %, and all of them
at most as often. "Refuted" asks for any one of them, and is not corrected: a bank that is exactly as good as none and
as each of four controls is called refuted with a probability of up to 12.5 %, less as the comparisons go together. The
reasons give every comparison with its interval: a refutation by one narrow miss among many is to be read as that.

What the intervals do not cover. They say how the figures would move with other test images of the same sets, and with
thresholds from other feedback images. What was fitted and chosen, the bank, the words and vectors drawn for the
controls, the encoder and the choice of outlier sets are taken as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.benchmark.fields import Interval, Number, Part, Share, Text
from evaluation.bootstrap import (
    EVERYTHING,
    REPLICATES,
    Estimate,
    MethodScores,
    Threshold,
    accepted_and_right,
    resample,
    right_difference,
)
from immuno_core.errors import SetupError

CONTROLS = ("noise", "random_words", "random_places", "random_texts", "shuffled", "neglabel")
"""Those that "supported" cannot do without. Other arms that are handed in (`pixels`) are controls too."""
BANK, NONE = "bank", "none"
REFERENCES = {"shuffled": "bank_guarded"}
"""The arm that a control is compared with instead of the bank, where it was measured."""
MARGIN = 0.01
FEWEST = 20
Status = Literal["supported", "refuted", "undecided"]
# Sums of shares in another order differ by less.
_DECIMALS = 12


@dataclass(frozen=True, slots=True)
class _Criterion:
    """One of the things that "supported" asks for, with the sentence that says whether it is so.

    `holds`: True, False where the opposite is shown, None where neither is.
    """

    holds: bool | None
    sentence: str


class Estimated(Part):
    """A share, or a difference of shares, with its 95 % interval."""

    value: Number = None
    interval: Interval = None


class Accuracy(Part):
    """A share of the known images with the bank and without, and whether the bank costs no more than the margin."""

    bank: Share = None
    none: Share = None
    difference: Estimated = Estimated()
    """Paired: the bank minus none."""
    non_inferior: bool | None = None


class Verdict(Part):
    """The verdict on the antibodies; `status` is None where it was not asked for.

    Everything is by arm (`immuno_core.config.methods.Arm`). `bank_minus` is paired: negative = the bank accepts fewer
    outliers.
    """

    status: Status | None = None
    reasons: tuple[str, ...] = ()
    method: Text = ""
    margin: Number = None
    sets: tuple[str, ...] = ()
    acceptance: dict[str, Estimated] = {}
    bank_minus: dict[str, Estimated] = {}
    """The reference of the arm minus the arm."""
    per_set: dict[str, dict[str, Share]] = {}
    id_accuracy: Accuracy | None = None
    accepted_and_right: Accuracy | None = None
    """The same for the known images that the deployed threshold accepts and that are rightly classified."""
    references: dict[str, Text] = {}
    """What an arm was compared with, where that is not the bank itself."""
    left_out: dict[str, Text] = {}
    """Why an arm was not measured."""


def settle(
    method: str,
    arms: Mapping[str, MethodScores],
    *,
    seed: int,
    thresholds: Mapping[str, Threshold] | None = None,
    left_out: Mapping[str, str] | None = None,
    replicates: int = REPLICATES,
) -> Verdict:
    """Return the verdict on a method, in shares in [0, 1].

    `arms` are the scores by arm, "bank" and "none" among them; every other one is a control, but for `bank_guarded`.
    `thresholds` are those deployed, by arm (those of bank and none are looked at); `left_out` says of an arm why it was
    not measured. The same arguments give the same verdict.

    Raises SetupError where bank or none is missing, for arms that were not measured on the same images, for scores that
    evaluation.metrics refuses, and for thresholds that are NaN or of only one of the two.
    """
    for arm in (BANK, NONE):
        if arm not in arms:
            raise SetupError(f"a verdict needs the arms 'bank' and 'none'; '{arm}' is missing")
    references = {arm: other for arm, other in REFERENCES.items() if arm in arms and other in arms}
    reasons_left_out = {arm: "it was not measured" for arm in CONTROLS if arm not in arms} | dict(left_out or {})
    needed = [arm for arm in CONTROLS if arm not in arms and (arm != "shuffled" or arm not in (left_out or {}))]
    if "shuffled" in arms and _same_scores(arms["shuffled"], arms[references.get("shuffled", BANK)]):
        reasons_left_out["shuffled"] = "it changes no score: the method does not look at the class an antibody guards"
        references.pop("shuffled", None)
        arms = {arm: scores for arm, scores in arms.items() if arm not in ("shuffled", REFERENCES["shuffled"])}
    compared = [NONE, *(arm for arm in arms if arm not in (BANK, NONE, *REFERENCES.values()))]
    found = resample(arms, seed=seed, count=replicates, names=("fpr95_id",))
    acceptance = {arm: _tidy(found.mean("fpr95_id", arm)) for arm in arms}
    minus = {arm: _tidy(found.paired_difference("fpr95_id", references.get(arm, BANK), arm)) for arm in compared}
    costs = {"id_accuracy": _accuracy(arms, dict.fromkeys((BANK, NONE), EVERYTHING), "ID accuracy", seed, replicates)}
    if thresholds is not None:
        accepted = "The share of known images accepted and rightly classified"
        costs["accepted_and_right"] = _accuracy(arms, thresholds, accepted, seed, replicates)
    criteria = [
        *(_fewer(arm, minus[arm], acceptance[references.get(arm, BANK)], acceptance[arm]) for arm in compared),
        *(criterion for _, criterion in costs.values()),
        *(_Criterion(None, f"The control {arm} is missing: {reasons_left_out[arm]}.") for arm in needed),
    ]
    too_few = _too_few(arms[BANK])
    status = _status(criteria) if not too_few else "undecided"
    return Verdict(
        status=status,
        reasons=(*too_few, *_sentences(criteria, status)),
        method=method,
        margin=MARGIN,
        sets=found.sets,
        acceptance={arm: _estimated(estimate) for arm, estimate in acceptance.items()},
        bank_minus={arm: _estimated(estimate) for arm, estimate in minus.items()},
        per_set={
            name: {arm: float(found.points["fpr95_id"][a, s]) for a, arm in enumerate(found.methods)}
            for s, name in enumerate(found.sets)
        },
        **{what: accuracy for what, (accuracy, _) in costs.items()},
        references=references,
        left_out=reasons_left_out,
    )


def _same_scores(a: MethodScores, b: MethodScores) -> bool:
    """Whether two arms have the same scores of the same sets."""
    return (
        a.outliers.keys() == b.outliers.keys()
        and np.array_equal(a.known, b.known)
        and all(np.array_equal(a.outliers[name], b.outliers[name]) for name in a.outliers)
    )


def _accuracy(
    arms: Mapping[str, MethodScores], thresholds: Mapping[str, Threshold], share: str, seed: int, replicates: int
) -> tuple[Accuracy, _Criterion]:
    """A share of the known images with the bank and without, and whether the bank costs no more than the margin."""
    for arm in (BANK, NONE):
        if arm not in thresholds or math.isnan(thresholds[arm].value):
            raise SetupError(
                f"the deployed threshold of the arm '{arm}' is missing; give those of bank and none, or neither"
            )
    bank, none = (accepted_and_right(arms[arm], thresholds[arm]) for arm in (BANK, NONE))
    pair = thresholds[BANK], thresholds[NONE]
    if all(one is EVERYTHING for one in pair) and np.array_equal(arms[BANK].right, arms[NONE].right):
        difference = Estimate(0.0, 0.0, 0.0)  # antibodies do not touch the predicted class
    else:
        difference = _tidy(right_difference(arms[BANK], arms[NONE], pair, seed=seed, count=replicates))
    holds = True if difference.low > -MARGIN else False if difference.high < -MARGIN else None
    finding = {True: "is not inferior", False: "is inferior", None: "is not shown to be non-inferior"}[holds]
    return (
        Accuracy(bank=bank, none=none, difference=_estimated(difference), non_inferior=holds is True),
        _Criterion(
            holds,
            f"{share} {finding}: {_percent(bank)} with the bank, {_percent(none)} without "
            f"({_interval(difference)}; the margin is {_points(MARGIN)}).",
        ),
    )


def _fewer(arm: str, minus: Estimate, bank: Estimate, other: Estimate) -> _Criterion:
    """The bank accepts fewer outliers than an arm."""
    against = "no texts" if arm == NONE else f"the control {arm}"
    holds = True if minus.high < 0 else False if minus.low > 0 else None
    change = {
        True: f"the bank accepts {_points(-minus.value)} fewer outliers",
        False: f"the bank accepts {_points(minus.value)} more outliers",
        None: "it is not shown that the bank accepts fewer outliers",
    }[holds]
    return _Criterion(
        holds,
        f"Against {against}, {change}: {_percent(bank.value)} against {_percent(other.value)} ({_interval(minus)}).",
    )


def _too_few(bank: MethodScores) -> list[str]:
    counts = {"known test images": len(bank.known)}
    counts |= {f"outliers in '{name}'": len(scores) for name, scores in bank.outliers.items()}
    return [
        f"There are {count} {what}, and a verdict needs at least {FEWEST}."
        for what, count in counts.items()
        if count < FEWEST
    ]


def _status(criteria: Sequence[_Criterion]) -> Status:
    if any(one.holds is False for one in criteria):
        return "refuted"
    return "supported" if all(one.holds for one in criteria) else "undecided"


def _sentences(criteria: Sequence[_Criterion], status: Status) -> list[str]:
    """Every criterion's sentence, those that decided first."""
    decided = {"supported": True, "refuted": False, "undecided": None}[status]
    return [one.sentence for one in sorted(criteria, key=lambda one: one.holds is not decided)]


def _tidy(estimate: Estimate) -> Estimate:
    """The estimate without rounding, so that arms of equal figures differ by exactly 0."""
    return Estimate(*(round(value, _DECIMALS) + 0.0 for value in estimate))


def _estimated(estimate: Estimate) -> Estimated:
    return Estimated(value=estimate.value, interval=(estimate.low, estimate.high))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _interval(estimate: Estimate) -> str:
    return f"95 % interval of the difference {100 * estimate.low:+.1f} to {100 * estimate.high:+.1f} points"

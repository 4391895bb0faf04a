"""How immuno_vlm chooses among candidates on the feedback split; the rule is stated in evaluation.scores.immuno_vlm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from evaluation.antibodies.maturation import mature
from evaluation.metrics import fpr95_id
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.space import Bank, Feedback, Space
from immuno_core.features import FloatArray, Floats

_ALL, _EVEN, _ODD = slice(None), slice(0, None, 2), slice(1, None, 2)


class Fusion(NamedTuple):
    """The weights of a fused base (evaluation.scores.bases)."""

    w: float
    v: float


class Candidate(NamedTuple):
    """A setting that may be chosen."""

    fusion: Fusion
    beta: float
    matured: bool


class Firing(NamedTuple):
    """The largest exceedance of a bank on the known feedback images (n,), and on images of each outlier set."""

    known: Floats
    outliers: Mapping[str, Floats]

    def rows(self, rows: slice) -> Firing:
        """Return it on some rows of each outlier set."""
        return Firing(self.known, {name: e[rows] for name, e in self.outliers.items()})

    def only(self, name: str) -> Firing:
        """Return it on one outlier set."""
        return Firing(self.known, {name: self.outliers[name]})


class Judgement(NamedTuple):
    """Mean FPR95 over sets: of outliers like those that matured the bank, and unlike them (None with one set)."""

    like: float
    unlike: float | None

    @property
    def mean(self) -> float:
        """What candidates are compared by: both views count alike."""
        return self.like if self.unlike is None else (self.like + self.unlike) / 2


@dataclass(frozen=True, eq=False)
class Trial:
    """What every candidate's scores on the feedback are made of.

    `bases` maps fusions to b on the known images and on each outlier set. `plain` is the firing of the bank itself;
    `halves` of the two banks matured on one half of each outlier set, each on the *other* half's rows (the even rows
    are judged by the first); `unlike` of banks matured without a set, each on that set.
    """

    bases: Mapping[Fusion, tuple[Floats, Mapping[str, Floats]]]
    plain: Firing
    halves: tuple[Firing, Firing]
    unlike: Mapping[str, Firing]

    @classmethod
    def of(
        cls,
        space: Space,
        feedback: Feedback,
        fit: Callable[[Space, Fusion, float], FittedCalibrated],
        *,
        fusions: Sequence[Fusion],
        g: float,
    ) -> Trial:
        """Measure what is needed, once. `fit(space, fusion, beta)` gives the calibrated score."""
        known, sets = feedback.known.features, {name: images.features for name, images in feedback.outliers.items()}
        bare = replace(space, bank=Bank.empty(space.dim))
        bases = {}
        for fusion in fusions:
            base = fit(bare, fusion, 0.0)
            bases[fusion] = (base.score(known), {name: base.score(x) for name, x in sets.items()})

        def firing(bank: Bank, judged: Mapping[str, FloatArray], beside: Firing | None, rows: slice) -> Firing:
            fitted = fit(replace(space, bank=bank), Fusion(1.0, 0.0), 1.0)
            own = Firing(
                fitted.exceedance(known).largest, {name: fitted.exceedance(x).largest for name, x in judged.items()}
            )
            if beside is None:
                return own
            return Firing(
                np.maximum(own.known, beside.known),
                {name: np.maximum(e, beside.outliers[name][rows]) for name, e in own.outliers.items()},
            )

        plain = firing(space.bank, sets, None, _ALL)
        even, odd = ({name: x[rows] for name, x in sets.items()} for rows in (_EVEN, _ODD))
        return cls(
            bases=bases,
            plain=plain,
            halves=(
                firing(mature(space.bank, odd.values(), g=g), even, plain, _EVEN),
                firing(mature(space.bank, even.values(), g=g), odd, plain, _ODD),
            ),
            unlike={
                name: firing(
                    mature(space.bank, [x for other, x in sets.items() if other != name], g=g),
                    {name: sets[name]},
                    plain,
                    _ALL,
                )
                for name in (sets if len(sets) > 1 else ())
            },
        )

    def fpr95(self, candidate: Candidate) -> Judgement:
        """Return what a candidate accepts of the feedback outliers at 95 % acceptance of known images."""
        if candidate.matured:
            even, odd, unlike = *self.halves, list(self.unlike.values())
        else:
            even, odd = self.plain.rows(_EVEN), self.plain.rows(_ODD)
            unlike = [self.plain.only(name) for name in self.unlike]
        like = [*self._fpr95(candidate, even, _EVEN), *self._fpr95(candidate, odd, _ODD)]
        others = [value for firing in unlike for value in self._fpr95(candidate, firing, _ALL)]
        return Judgement(float(np.mean(like)), float(np.mean(others)) if others else None)

    def error(self, judgement: Judgement) -> float:
        """The standard error of a mean share of the outliers, as if it were one share of them all."""
        share, count = judgement.mean, sum(len(e) for e in self.plain.outliers.values())
        return float(np.sqrt(share * (1 - share) / count))

    def _fpr95(self, candidate: Candidate, firing: Firing, rows: slice) -> list[float]:
        known, outliers = self.bases[candidate.fusion]
        scores = known - candidate.beta * firing.known
        return [
            fpr95_id(scores, outliers[name][rows] - candidate.beta * e) for name, e in firing.outliers.items() if len(e)
        ]


def choose(trial: Trial, candidates: Sequence[Candidate]) -> tuple[Candidate, dict[str, Any]]:
    """Return the candidate to use, the first of equals, and the figures behind it as plain JSON values.

    Of candidates with the base of the best one, the first that is within one standard error of it is taken (after the
    rule of Breiman et al., 1984): a beta far from the default, or a maturation, that cannot be told from it here is
    likely to be worse on outliers unlike any of these. The first candidate is the default.
    """
    judgements = {candidate: trial.fpr95(candidate) for candidate in candidates}
    lowest = min(candidates, key=lambda candidate: judgements[candidate].mean)
    within = judgements[lowest].mean + trial.error(judgements[lowest])
    same_base = (candidate for candidate in candidates if candidate.fusion == lowest.fusion)
    best = next(candidate for candidate in same_base if judgements[candidate].mean <= within)
    return best, {
        "feedback_fpr95": judgements[best].like,
        "feedback_fpr95_unlike": judgements[best].unlike,
        "feedback_fpr95_of_defaults": judgements[candidates[0]].like,
        "candidates": len(candidates),
    }

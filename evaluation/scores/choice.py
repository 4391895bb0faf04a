"""How immuno_vlm chooses among candidates on the feedback split; the rule is stated in evaluation.scores.immuno_vlm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    """The largest exceedance of a bank on the known feedback images (n,), and on some `rows` of outlier sets."""

    known: Floats
    outliers: Mapping[str, Floats]
    rows: slice = _ALL

    def on(self, name: str | None = None, rows: slice = _ALL) -> Firing:
        """Return it on some of all rows of one outlier set, or of each."""
        return Firing(self.known, {n: e[rows] for n, e in self.outliers.items() if name in (None, n)}, rows)


class Judges(NamedTuple):
    """The firing of banks on outliers like those that matured them, and unlike them."""

    like: Sequence[Firing]
    unlike: Sequence[Firing]


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

    `bases` maps fusions to b on the known images and on each outlier set. `judges` are those of the bank as it is
    (False) and with matured antibodies (True): the like are then the two banks matured on one half of each outlier set,
    each on the *other* half's rows; the unlike are banks matured without a set, each on that set.
    """

    bases: Mapping[Fusion, tuple[Floats, Mapping[str, Floats]]]
    judges: Mapping[bool, Judges]

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

        def firing(bank: Bank, judged: Mapping[str, FloatArray]) -> Firing:
            fitted = fit(replace(space, bank=bank), Fusion(1.0, 0.0), 1.0)
            largest = {name: fitted.exceedance(x).largest for name, x in judged.items()}
            return Firing(fitted.exceedance(known).largest, largest)

        plain = firing(space.bank, sets)

        def matured(by: Iterable[FloatArray], on: Firing) -> Firing:
            """With antibodies matured by some outliers, where the bank alone is `on`."""
            own = firing(mature(space.bank, by, g=g), {name: sets[name][on.rows] for name in on.outliers})
            both = {name: np.maximum(e, on.outliers[name]) for name, e in own.outliers.items()}
            return Firing(np.maximum(own.known, on.known), both, on.rows)

        even, odd = plain.on(rows=_EVEN), plain.on(rows=_ODD)
        apart = [plain.on(name) for name in sets] if len(sets) > 1 else []
        like = [matured([x[other.rows] for x in sets.values()], half) for half, other in ((even, odd), (odd, even))]
        unlike = [matured([x for name, x in sets.items() if name not in on.outliers], on) for on in apart]
        return cls(bases, {False: Judges([even, odd], apart), True: Judges(like, unlike)})

    def fpr95(self, candidate: Candidate) -> Judgement:
        """Return what a candidate accepts of the feedback outliers at 95 % acceptance of known images."""
        like, others = (
            [value for firing in firings for value in self._fpr95(candidate, firing)]
            for firings in self.judges[candidate.matured]
        )
        return Judgement(float(np.mean(like)), float(np.mean(others)) if others else None)

    def error(self, judgement: Judgement) -> float:
        """The standard error of a mean share of the outliers, as if it were one share of them all."""
        share = judgement.mean
        count = sum(len(e) for firing in self.judges[False].like for e in firing.outliers.values())
        return float(np.sqrt(share * (1 - share) / count))

    def _fpr95(self, candidate: Candidate, firing: Firing) -> list[float]:
        known, outliers = self.bases[candidate.fusion]
        scores = known - candidate.beta * firing.known
        return [
            fpr95_id(scores, outliers[name][firing.rows] - candidate.beta * e)
            for name, e in firing.outliers.items()
            if len(e)
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

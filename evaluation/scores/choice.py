"""How settings are chosen on the feedback split: by one judge, for our scores and for everybody's.

A candidate is judged by how it ranks feedback images from which it learned nothing (`Rankings`): by outliers *like*
those that it learned from, and *unlike* them. `choose` is the rule: with caution for ours, and without for everybody
else's, so that a rival is at its best. `choose_settings` chooses among the settings that a
score offers (`Score.choices`); what immuno_vlm chooses among is in evaluation.scores.immuno_vlm, and learns from
outliers, so that its rankings (`Trial`) are made of banks matured on other outliers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np

from evaluation.antibodies.maturation import mature
from evaluation.bootstrap import thresholds_anew
from evaluation.metrics import fpr95_id
from evaluation.scores.base import Score, held_out
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.space import Bank, Feedback, Space
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, FloatArray, Floats

_ALL, _EVEN, _ODD = slice(None), slice(0, None, 2), slice(1, None, 2)
RESAMPLES = 200
AUTO: Final = "auto"
"""What stands for a setting that is chosen."""


class Ranking(NamedTuple):
    """The scores of the known feedback images (n,), and of some `rows` of outlier sets."""

    known: Floats
    outliers: Mapping[str, Floats]
    rows: slice = _ALL

    def fpr95(self) -> list[float]:
        """Of each set, the share accepted at 95 % acceptance of known images; none of an empty one."""
        return [fpr95_id(self.known, scores) for scores in self.outliers.values() if len(scores)]


class Rankings(NamedTuple):
    """How a candidate ranks outliers like those that it learned from, and unlike them (none with one set)."""

    like: Sequence[Ranking]
    unlike: Sequence[Ranking]

    @property
    def judgement(self) -> Judgement:
        """Both in a figure each."""
        like, unlike = ([value for one in view for value in one.fpr95()] for view in self)
        return Judgement(float(np.mean(like)), float(np.mean(unlike)) if unlike else None)


class Judgement(NamedTuple):
    """Mean FPR95 over sets: of outliers like those that a candidate learned from, and unlike (None with one set)."""

    like: float
    unlike: float | None

    @property
    def mean(self) -> float:
        """What candidates are compared by: both views count alike."""
        return self.like if self.unlike is None else (self.like + self.unlike) / 2


class Choice(NamedTuple):
    """Which of the candidates to use, by number, and the figures behind it as plain JSON values."""

    best: int
    figures: dict[str, Any]


def choose(ranked: Sequence[Rankings], *, cautious: bool, without: int = 0) -> Choice:
    """Return the candidate to use, the first of equals; the first is the default.

    That with the lowest FPR95; `cautious`, the first of all that is within one standard error of it (after the rule of
    Breiman et al., 1984), but none that is worse than one of the last `without`, which have no antibodies: what is far
    from the default, and cannot be told from it here, is likely to be worse on other images. The error is that of the
    lowest over resamples of the feedback: of the known images, and with them the threshold, as of the outliers. (That
    of the difference is smaller, and with it the choice changed with the images.)
    """
    judged = [one.judgement for one in ranked]
    means = [one.mean for one in judged]
    lowest = means.index(min(means))
    error = float(_resampled(ranked[lowest]).std())
    within = min([means[lowest] + (error if cautious else 0.0), *means[len(means) - without :]])
    best = next(i for i, mean in enumerate(means) if mean <= within)
    figures = {
        "feedback_fpr95": judged[best].like,
        "feedback_fpr95_unlike": judged[best].unlike,
        "feedback_fpr95_of_defaults": judged[0].like,
        "feedback_fpr95_error": error,
        "candidates": len(ranked),
    }
    return Choice(best, figures)


def _resampled(one: Rankings) -> Floats:
    """A candidate's mean judgement (R,) on resamples of the feedback."""
    rng = np.random.default_rng(0)
    views = [view for view in one if view]
    thresholds = iter(thresholds_anew([each.known for view in views for each in view], RESAMPLES, rng))
    sizes = {name: sum(len(each.outliers[name]) for each in one.like) for name in one.like[0].outliers}
    drawn = {name: rng.multinomial(m, np.full(m, 1 / m), size=RESAMPLES) for name, m in sizes.items() if m}
    means = []
    for view in views:
        shares = []
        for each in view:
            threshold = next(thresholds)[:, None]
            for name, scores in each.outliers.items():
                if len(scores):
                    counts = drawn[name][:, each.rows]
                    accepted = (counts * (scores >= threshold)).sum(axis=1)
                    shares.append(accepted / np.maximum(counts.sum(axis=1), 1))
        means.append(np.mean(shares, axis=0))
    mean: Floats = np.mean(means, axis=0)
    return mean


class Chosen(NamedTuple):
    """A score with the settings that were chosen, and the figures behind it as plain JSON values."""

    score: Score
    figures: dict[str, Any]


def free_settings(score: Score, given: Collection[str]) -> dict[str, tuple[Any, ...]]:
    """Return what of a score's settings may be chosen, where some are given. Raises SetupError for nothing."""
    free = {name: values for name, values in score.choices.items() if name not in given}
    if not free:
        what = ", ".join(score.choices) or "it offers none"
        raise SetupError(f"the score '{score.name}' has no setting left to choose ({what}); leave out choose = true")
    return free


def choose_settings(
    score: Score,
    space: Space,
    *,
    given: Collection[str] = (),
    asked: Callable[[FeatureSet, Score], FeatureSet] = lambda images, _: images,
) -> Chosen:
    """Return the score with those of `score.choices` that were not `given` chosen on the feedback.

    No score chosen so learns from outliers, and antibodies that some of these have matured are left out of the bank
    meanwhile, so that all of them are judges. `asked` adds to a set what a score needs of its patches.
    Raises SetupError as `free_settings` does, and where there are no feedback outliers.
    """
    free = free_settings(score, given)
    if space.feedback is None or not space.feedback.outliers:
        raise SetupError("settings are chosen on feedback outliers; give [[data.feedback]], or leave out choose = true")
    known, outliers = space.feedback.known, space.feedback.outliers
    texts = replace(space, bank=space.bank.unmatured)

    def rankings(candidate: Score) -> Rankings:
        fitted = candidate.fit(replace(texts, feedback=None))
        scores = {name: fitted.score_set(asked(images, candidate)) for name, images in outliers.items()}
        of_known = held_out(
            texts,
            lambda some: fitted if some is texts else candidate.fit(replace(some, feedback=None)),
            lambda one, images: one.score_set(images),
            asked(known, candidate),
        )
        apart = [Ranking(of_known, {name: one}) for name, one in scores.items()]
        return Rankings([Ranking(of_known, scores)], apart if len(apart) > 1 else [])

    candidates = [
        replace(score, **dict(zip(free, values, strict=True)))  # type: ignore[type-var]  # every score is a dataclass
        for values in itertools.product(*free.values())
    ]
    # A rival is to be at its best: nothing is in the way of the lowest.
    best, figures = choose([rankings(one) for one in candidates], cautious=False)
    settings = {name: getattr(candidates[best], name) for name in free}
    return Chosen(candidates[best], {**settings, **figures})


# ---- what immuno_vlm chooses among


class Fusion(NamedTuple):
    """The weights of a fused base (evaluation.scores.bases), and the shrinkage of its covariance."""

    w: float
    v: float
    shrinkage: float | None = None


class Candidate(NamedTuple):
    """A setting of immuno_vlm that may be chosen."""

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
        sets = {name: images.features for name, images in feedback.outliers.items()}
        bare = replace(space, bank=Bank.empty(space.dim))
        bases = {}
        for fusion in fusions:
            base = fit(bare, fusion, 0.0)
            of_known = _held_out(bare, base, fit, fusion, lambda fitted, images: fitted.score(images.features))
            bases[fusion] = (of_known, {name: base.score(x) for name, x in sets.items()})

        def firing(bank: Bank, judged: Mapping[str, FloatArray]) -> Firing:
            grown, alone = replace(space, bank=bank), Fusion(1.0, 0.0)
            fitted = fit(grown, alone, 1.0)
            of_known = _held_out(grown, fitted, fit, alone, lambda some, x: some.exceedance(x.features).largest)
            return Firing(of_known, {name: fitted.exceedance(x).largest for name, x in judged.items()})

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

    def ranked(self, candidate: Candidate) -> Rankings:
        """How a candidate ranks the feedback images."""
        return Rankings(*([self._ranked(candidate, one) for one in view] for view in self.judges[candidate.matured]))

    def _ranked(self, candidate: Candidate, firing: Firing) -> Ranking:
        known, outliers = self.bases[candidate.fusion]
        scores = {name: outliers[name][firing.rows] - candidate.beta * e for name, e in firing.outliers.items()}
        return Ranking(known - candidate.beta * firing.known, scores, firing.rows)


def _held_out(
    space: Space,
    fitted: FittedCalibrated,
    fit: Callable[[Space, Fusion, float], FittedCalibrated],
    fusion: Fusion,
    measure: Callable[[FittedCalibrated, FeatureSet], Floats],
) -> Floats:
    """A measure of the known feedback images (n,), where `fitted` is the score on the whole space."""
    return held_out(space, lambda some: fitted if some is space else fit(some, fusion, fitted.beta), measure)

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
from evaluation.antibodies.visual import clusters
from evaluation.bootstrap import thresholds_anew
from evaluation.metrics import fpr95_id
from evaluation.scores.base import Score, held_out
from evaluation.scores.bases import Bases, values_of
from evaluation.scores.calibrated import Makings
from evaluation.scores.radii import Calibration
from evaluation.space import Bank, Feedback, Space
from immuno_core.arrays import in_blocks, product
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, FloatArray, Floats

_ALL, _EVEN, _ODD = slice(None), slice(0, None, 2), slice(1, None, 2)
RESAMPLES = 200
CAUTION = 2.0
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


def choose(
    ranked: Sequence[Rankings], *, caution: float = 0.0, never_worse_than: Sequence[Collection[int]] | None = None
) -> Choice:
    """Return the candidate to use, the first of equals; the first is the default.

    The first of all whose FPR95 is within `caution` standard errors of the lowest (after the rule of Breiman et al.,
    1984, who have one): what is far from the default, and cannot be told from it here, is likely to be worse on other
    images. `never_worse_than` names for each candidate others than which it must not be worse. The error is that of the
    lowest over resamples of the feedback: of the known images, and with them the threshold, as of the outliers. (That
    of the difference is smaller, and with it the choice changed with the images.)
    """
    judged = [one.judgement for one in ranked]
    means = [one.mean for one in judged]
    bounds = never_worse_than if never_worse_than is not None else [()] * len(means)
    earns = [all(mean <= means[i] for i in others) for mean, others in zip(means, bounds, strict=True)]
    lowest = min((i for i, earned in enumerate(earns) if earned), key=means.__getitem__)
    error = float(_resampled(ranked[lowest]).std())
    best = next(i for i, mean in enumerate(means) if earns[i] and mean <= means[lowest] + caution * error)
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
    best, figures = choose([rankings(one) for one in candidates])
    settings = {name: getattr(candidates[best], name) for name in free}
    return Chosen(candidates[best], {**settings, **figures})


# ---- what immuno_vlm chooses among


class Fusion(NamedTuple):
    """The weights of a fused base (evaluation.scores.bases)."""

    w: float
    v: float


class Seen(NamedTuple):
    """Visual antibodies: how many, the eps of their radii, and their weight (evaluation.scores.sight)."""

    number: int
    eps: float
    weight: float


class Candidate(NamedTuple):
    """A setting of immuno_vlm that may be chosen. With beta 0 the texts are silent."""

    fusion: Fusion
    beta: float
    matured: bool
    seen: Seen | None = None

    @property
    def silent(self) -> Candidate:
        """The same without what texts do."""
        return self._replace(beta=0.0, matured=False)


class Firing(NamedTuple):
    """The largest exceedance of a bank on the known feedback images (n,), and on some `rows` of outlier sets; or what
    visual antibodies take from the score there, at the weight 1."""

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
    each on the *other* half's rows; the unlike are banks matured without a set, each on that set. `seen` are the same
    of visual antibodies, by how many and with which eps.
    """

    bases: Mapping[Fusion, tuple[Floats, Mapping[str, Floats]]]
    judges: Mapping[bool, Judges]
    seen: Mapping[tuple[int, float], Judges]
    calibration: Calibration
    """Of the bank as it is."""

    @classmethod
    def of(
        cls,
        makings: Makings,
        feedback: Feedback,
        *,
        fusions: Sequence[Fusion],
        g: float,
        seen: Collection[Seen | None],
    ) -> Trial:
        """Measure what is needed, once, of the space's bank of texts. `makings` are crossed."""
        space, parts, known = makings.space, feedback.parts, feedback.known.features
        sets = {name: _in_turn(images.features) for name, images in feedback.outliers.items()}
        if parts is None:
            of_known = _base_values(makings.bases, fusions, known)
        else:
            of_known = np.empty((len(fusions), len(known)))
            for part in np.unique(parts):
                rows = np.flatnonzero(parts == part)
                of_known[:, rows] = _base_values(makings.bases.without(int(part)), fusions, known[rows])
        of_sets = {name: _base_values(makings.bases, fusions, x) for name, x in sets.items()}
        bases = {
            fusion: (of_known[i], {name: values[i] for name, values in of_sets.items()})
            for i, fusion in enumerate(fusions)
        }

        def firing(bank: Bank, calibration: Calibration, judged: Mapping[str, FloatArray]) -> Firing:
            alone = replace(makings.score, w=1.0, v=0.0, beta=1.0)
            fitted = makings.fitted(alone, bank, calibration, Bank.empty(space.dim))
            on_known = fitted.exceedance(known).largest if parts is None else calibration.fired
            return Firing(on_known, {name: fitted.exceedance(x).largest for name, x in judged.items()})

        calibration = makings.calibrate(space.bank)
        plain = firing(space.bank, calibration, sets)

        def matured(by: Iterable[FloatArray], on: Firing) -> Firing:
            """With antibodies matured by some outliers, where the bank alone is `on`."""
            bank = mature(space.bank, by, g=g)
            own = firing(bank, makings.calibrate(bank), {name: sets[name][on.rows] for name in on.outliers})
            both = {name: np.maximum(e, on.outliers[name]) for name, e in own.outliers.items()}
            return Firing(np.maximum(own.known, on.known), both, on.rows)

        even, odd = plain.on(rows=_EVEN), plain.on(rows=_ODD)
        apart = [plain.on(name) for name in sets] if len(sets) > 1 else []
        # What is judged, and by which outliers the judged antibodies were made.
        like = [(half, [x[other.rows] for x in sets.values()]) for half, other in ((even, odd), (odd, even))]
        unlike = [(on, [x for name, x in sets.items() if name not in on.outliers]) for on in apart]

        def sight(by: Sequence[FloatArray], on: Firing, number: int, eps: float) -> Firing:
            """With visual antibodies made of some outliers."""
            if not sum(map(len, by)):
                return Firing(np.zeros_like(on.known), {n: np.zeros_like(e) for n, e in on.outliers.items()}, on.rows)
            found = makings.whitened.sight(clusters(by, number).centres, eps=eps, weight=1.0)
            taken = found.taken(known) if parts is None else found.taken_where(found.own)
            return Firing(taken, {name: found.taken(sets[name][on.rows]) for name in on.outliers}, on.rows)

        return cls(
            bases,
            {
                False: Judges([even, odd], apart),
                True: Judges([matured(by, on) for on, by in like], [matured(by, on) for on, by in unlike]),
            },
            {
                (number, eps): Judges(
                    [sight(by, on, number, eps) for on, by in like], [sight(by, on, number, eps) for on, by in unlike]
                )
                for number, eps in sorted({(one.number, one.eps) for one in seen if one})
            },
            calibration,
        )

    def ranked(self, candidate: Candidate) -> Rankings:
        """How a candidate ranks the feedback images."""
        views = self.judges[candidate.matured]
        if candidate.seen is None:
            return Rankings(*([self._ranked(candidate, one, None) for one in view] for view in views))
        seen = self.seen[candidate.seen.number, candidate.seen.eps]
        return Rankings(
            *(
                [self._ranked(candidate, one, also) for one, also in zip(view, others, strict=True)]
                for view, others in zip(views, seen, strict=True)
            )
        )

    def _ranked(self, candidate: Candidate, firing: Firing, seen: Firing | None) -> Ranking:
        known, outliers = self.bases[candidate.fusion]
        known = known - candidate.beta * firing.known
        scores = {name: outliers[name][firing.rows] - candidate.beta * e for name, e in firing.outliers.items()}
        if seen is not None and candidate.seen is not None:
            weight = candidate.seen.weight
            known = known - weight * seen.known
            scores = {name: values - weight * seen.outliers[name] for name, values in scores.items()}
        return Ranking(known, scores, firing.rows)


def _in_turn(features: FloatArray) -> FloatArray:
    """Images (n, d) with the first half of them in the even rows, the second in the odd ones.

    Images lie in the order of their folders, or of the classes of a benchmark. So the halves are of other classes, as
    the outliers will be that are met, and not of the same.
    """
    n = len(features)
    order = np.empty(n, dtype=np.int64)
    order[_EVEN], order[_ODD] = np.arange((n + 1) // 2), np.arange((n + 1) // 2, n)
    in_turn: FloatArray = features[order]
    return in_turn


def _base_values(bases: Bases, fusions: Sequence[Fusion], features: FloatArray) -> Floats:
    """b (F, n) of images (n, d) by each fusion."""
    made = [bases.base(one.w, one.v) for one in fusions]
    width = 3 * len(bases.texts) + bases.space.dim + max(one.width for one in made)
    return in_blocks(features, width, lambda x: np.stack(values_of(made, x, product(x, bases.texts)), axis=1)).T

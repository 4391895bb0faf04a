"""Affinity maturation within the loop: antibodies move toward the outliers nearest to them, if that is shown to help.

The texts' own embeddings are matured on the outliers of the first half of the feedback. Matured embeddings are
antibodies of their own, beside their parents, and replace those matured in an earlier generation. They are kept when
they are shown to help twice, on images that matured nothing:

- *like* the outliers that matured them: the second half, against the bank as it was, must get better;
- *unlike* them: each outlier set judges embeddings matured on the other sets alone, and these together must not get
  worse beyond chance, nor by as much as the others get better. This is the honest figure for outliers that nobody has
  seen, and a hard one: the sets of a mini-world differ in kind.

A session with a single outlier set has nothing unlike; then the first test decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from agents.acceptance import CHANCE, Change, Decision, change, change_on
from agents.feedback import Boundary, Half, Halves
from db import new_id
from evaluation.antibodies.maturation import DEFAULT_PULL, mature
from evaluation.bootstrap import MethodScores
from evaluation.space import Bank
from immuno_core.features import FeatureSet, FloatArray

LEAST_OUTLIERS = 3
"""Of the first half, to mature an antibody: half of what evaluation.antibodies.maturation asks for, rounded up."""
Measure = Callable[[Bank], Boundary]


@dataclass(frozen=True, slots=True)
class Matured:
    """`antibodies` alone, the `bank` with them, what that gives, and whether it is kept."""

    antibodies: Bank
    bank: Bank
    boundary: Boundary
    decision: Decision


@dataclass(frozen=True, slots=True)
class Maturation:
    """Matures banks and judges what came of it."""

    outliers: Mapping[str, FeatureSet]
    halves: Halves
    measure: Measure
    seed: int

    def try_on(self, bank: Bank, before: Boundary) -> Matured | None:
        """Return what maturing `bank` (boundary: `before`) gives; None where no antibody has enough outliers."""
        texts = bank.unmatured
        antibodies = self._mature(texts, self.outliers)
        if not len(antibodies):
            return None
        grown = texts.concat(antibodies)
        boundary = self.measure(grown)
        like = change_on(self.halves.second, before, boundary, seed=self.seed)
        unlike = self._unlike(texts)
        return Matured(antibodies, grown, boundary, self._decide(like, unlike, len(antibodies)))

    def _mature(self, texts: Bank, sets: Iterable[str]) -> Bank:
        """Return antibodies matured on the first half of some outlier sets, under ids of their own."""
        matured = mature(texts, [self._shown(name) for name in sets], g=DEFAULT_PULL, least=LEAST_OUTLIERS)
        return replace(matured, antibodies=tuple(replace(antibody, id=new_id()) for antibody in matured.antibodies))

    def _shown(self, name: str) -> FloatArray:
        features: FloatArray = self.outliers[name].features[self.halves.first.outliers[name]]
        return features

    def _unlike(self, texts: Bank) -> Change | None:
        """What outliers that matured nothing make of it: each set, by what the others matured; all in one figure."""
        names = tuple(self.outliers)
        if len(names) < 2:
            return None
        plain = self.measure(texts)
        before: dict[str, MethodScores] = {}
        after: dict[str, MethodScores] = {}
        for name in names:
            antibodies = self._mature(texts, [other for other in names if other != name])
            matured = self.measure(texts.concat(antibodies)) if len(antibodies) else plain
            # The second half of the known images; all images of the set, none of which matured anything here.
            judged = Half(self.halves.second.known, {other: np.arange(len(self.outliers[other])) for other in names})
            before[name], after[name] = _only(name, plain.on(judged)), _only(name, matured.on(judged))
        changes = [change(before[name], after[name], seed=self.seed) for name in names]
        return _mean(changes)

    def _decide(self, like: Change, unlike: Change | None, count: int) -> Decision:
        measured = {"antibodies": count, "like": asdict(like)}
        said = f"outliers like those that matured them: {like}"
        if unlike is not None:
            measured["unlike"] = asdict(unlike)
            said += f"; unlike: {unlike}"
        both = like.auroc if unlike is None else like.auroc + unlike.auroc
        helps = like.auroc > 0 and like.no_worse(CHANCE) and both > 0 and (unlike is None or unlike.no_worse(CHANCE))
        return Decision(helps, f"{count} matured embeddings {'kept' if helps else 'not kept'}; {said}", measured)


def _mean(changes: Sequence[Change]) -> Change:
    """The mean over sets. Their images differ, so their errors are independent, but for the known images they share."""

    def error(values: list[float]) -> float:
        return float(np.sqrt(np.sum(np.square(values)))) / len(values)

    return Change(
        float(np.mean([change.auroc for change in changes])),
        error([change.auroc_error for change in changes]),
        float(np.mean([change.fpr95 for change in changes])),
        error([change.fpr95_error for change in changes]),
    )


def _only(name: str, scores: MethodScores) -> MethodScores:
    return scores._replace(outliers={name: scores.outliers[name]})

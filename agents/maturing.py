"""What the loop learns from outliers beside texts: antibodies that move toward them, and what they look like.

The texts' own embeddings are matured on the outliers of the first half of the feedback. Matured embeddings are
antibodies of their own, beside their parents, and replace those matured in an earlier generation. Visual antibodies
(evaluation.antibodies.visual) are made of the same outliers, and replace those of an earlier generation. Both are kept
when they are shown to help twice, on images that they were not made of:

- *like* the outliers that made them: the second half, against the bank as it was, must get better;
- *unlike* them: each outlier set judges those made of the other sets alone, beside the texts, and these together must
  not get worse beyond chance, nor by as much as the others get better. This is the honest figure for outliers that
  nobody has seen, and a hard one: the sets of a mini-world differ in kind.

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
from evaluation.antibodies.visual import visual_antibodies
from evaluation.bootstrap import MethodScores
from evaluation.scores.immuno_vlm import DEFAULT_VISUAL
from evaluation.space import Bank
from immuno_core.features import FeatureSet

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


Make = Callable[[Bank, Iterable[str]], Bank]
"""Antibodies that some outlier sets make, beside a bank of texts, under ids of their own."""


@dataclass(frozen=True, slots=True)
class Maturation:
    """Matures banks, adds visual antibodies, and judges what came of it."""

    outliers: Mapping[str, FeatureSet]
    halves: Halves
    measure: Measure
    seed: int

    def mature(self, bank: Bank, before: Boundary) -> Matured | None:
        """Return what maturing `bank` (boundary: `before`) gives; None where no antibody has enough outliers."""
        return self._try(bank.unmatured, bank.visual, self._matured, before, "matured embeddings")

    def see(self, bank: Bank, before: Boundary) -> Matured | None:
        """Return what visual antibodies give to `bank` (boundary: `before`) in place of those it has."""
        texts = bank.unmatured
        return self._try(texts, bank.worded.without(texts.ids), self._visual, before, "visual antibodies")

    def _try(self, texts: Bank, others: Bank, make: Make, before: Boundary, what: str) -> Matured | None:
        antibodies = make(texts, self.outliers)
        if not len(antibodies):
            return None
        grown = texts.concat(others).concat(antibodies)
        boundary = self.measure(grown)
        like = change_on(self.halves.second, before, boundary, seed=self.seed)
        decision = _decide(like, self._unlike(texts, make), len(antibodies), what)
        return Matured(antibodies, grown, boundary, decision)

    def _matured(self, texts: Bank, sets: Iterable[str]) -> Bank:
        return _renamed(
            mature(texts, [one.features for one in self._shown(sets).values()], g=DEFAULT_PULL, least=LEAST_OUTLIERS)
        )

    def _visual(self, _texts: Bank, sets: Iterable[str]) -> Bank:
        return _renamed(visual_antibodies(self._shown(sets), DEFAULT_VISUAL))

    def _shown(self, sets: Iterable[str]) -> dict[str, FeatureSet]:
        """The first half of outlier sets."""
        return {name: self.outliers[name].take(self.halves.first.outliers[name]) for name in sets}

    def _unlike(self, texts: Bank, make: Make) -> Change | None:
        """What outliers that made nothing make of it: each set, by what the others made; all in one figure."""
        names = tuple(self.outliers)
        if len(names) < 2:
            return None
        plain = self.measure(texts)
        before: dict[str, MethodScores] = {}
        after: dict[str, MethodScores] = {}
        for name in names:
            antibodies = make(texts, [other for other in names if other != name])
            grown = self.measure(texts.concat(antibodies)) if len(antibodies) else plain
            # The second half of the known images; all images of the set, none of which made anything here.
            judged = Half(self.halves.second.known, {other: np.arange(len(self.outliers[other])) for other in names})
            before[name], after[name] = _only(name, plain.on(judged)), _only(name, grown.on(judged))
        changes = [change(before[name], after[name], seed=self.seed) for name in names]
        return _mean(changes)


def _renamed(bank: Bank) -> Bank:
    return replace(bank, antibodies=tuple(replace(antibody, id=new_id()) for antibody in bank.antibodies))


def _decide(like: Change, unlike: Change | None, count: int, what: str) -> Decision:
    measured = {"antibodies": count, "like": asdict(like)}
    said = f"outliers like those that made them: {like}"
    if unlike is not None:
        measured["unlike"] = asdict(unlike)
        said += f"; unlike: {unlike}"
    both = like.auroc if unlike is None else like.auroc + unlike.auroc
    helps = like.auroc > 0 and like.no_worse(CHANCE) and both > 0 and (unlike is None or unlike.no_worse(CHANCE))
    return Decision(helps, f"{count} {what} {'kept' if helps else 'not kept'}; {said}", measured)


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

"""TANL's words, chosen offline on the feedback: the rival of the loop that has the same feedback and no agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
from pydantic.dataclasses import dataclass

from evaluation.antibodies.mining import NEGLABEL_TEMPLATE
from evaluation.scores.base import PARAMETERS, FittedScore, Score, log_sum_exp
from evaluation.scores.choice import AUTO, Ranking, Rankings, choose
from evaluation.scores.negative_labels import Templates
from evaluation.space import Bank, Feedback, Space
from immuno_core.arrays import blocks, product
from immuno_core.config.methods import Arm
from immuno_core.config.numbers import real, whole
from immuno_core.features import FeatureSet, FloatArray, Floats, IntArray

PUBLISHED: Final = 1000
"""Words."""
_ALL, _EVEN, _ODD = slice(None), slice(0, None, 2), slice(1, None, 2)
CANDIDATES: Final = (PUBLISHED, 10, 30, 100, 300, 3000)


@dataclass(frozen=True, config=PARAMETERS)
class Tanl(Score):
    """TANL, test-time activated negative labels (CVPR 2026), with the selection made offline on the feedback.

        Act_j(X) = mean over the images X of softmax_j([c(x, t_1..K), c(x, a_1..A)] / T)
        a_1, a_2, ... in the order of Act(outliers) - Act(known images), the largest first
        S(x)     = 1/M sum_{m <= M} E(x) / (E(x) + sum_{j <= m} e^{c(x, a_j) / T}),   E(x) = sum_k e^{c(x, t_k) / T}

    Higher = more in-distribution. The authors take activations from the test stream, by their score's own guesses; here
    they are those of the feedback images, known as what they are, so that the method competes with whatever else
    learns from the same feedback and no test image is looked at. M = 1,000 as in the paper, T = 0.01. `most = "auto"`
    chooses M on the feedback: halves of every set judge one another's words, and each set those of the others. Words
    are those of the whole word list (the arm "words"), or the configured bank. Without feedback outliers they stay in
    their order.

    `tau` T > 0; `most` M >= 1, or "auto".
    """

    name: ClassVar[str] = "tanl"
    uses_fit: ClassVar[bool] = False
    uses_bank: ClassVar[bool] = True
    uses_feedback: ClassVar[bool] = True
    default_arm: ClassVar[Arm] = "words"
    tau: Annotated[float, real(ge=1e-6)] = 0.01
    most: Annotated[int, whole(1)] | Literal["auto"] = PUBLISHED
    templates: Templates = (NEGLABEL_TEMPLATE,)

    def fit(self, space: Space) -> FittedScore:
        """Put the words in order, and choose how many if asked to. Matured antibodies are no words."""
        words, feedback = space.bank.unmatured, space.feedback
        published = PUBLISHED if self.most == AUTO else self.most
        if feedback is None or not feedback.outliers or not len(words):
            return self._fitted(space, words.take(np.arange(min(published, len(words)))), {})
        told = _Activations.of(space, words, feedback, self.tau)
        figures: dict[str, Any] = {"words": min(published, len(words))}
        if self.most == AUTO and min(map(len, (feedback.known, *feedback.outliers.values()))) > 1:
            figures = self._chosen(space, words, feedback, told)
        return self._fitted(space, words.take(told.order()[: figures["words"]]), figures)

    def _fitted(self, space: Space, bank: Bank, figures: Mapping[str, Any]) -> _FittedTanl:
        return _FittedTanl(
            name=self.name,
            class_vectors=space.texts.astype(np.float64),
            antibodies=bank.vectors.astype(np.float64),
            tau=self.tau,
            figures=figures,
            settled_as=replace(self, most=figures["words"]) if self.most == AUTO and figures else None,
        )

    def _chosen(self, space: Space, words: Bank, feedback: Feedback, told: _Activations) -> dict[str, Any]:
        """The number of words to use, and the figures behind it."""

        names = list(feedback.outliers)
        like = [
            _Judged(told.order(learn, learn), names, judge, judge) for learn, judge in ((_EVEN, _ODD), (_ODD, _EVEN))
        ]
        unlike = [_Judged(told.order(_EVEN, without=name), [name], _ALL, _ODD) for name in names if len(names) > 1]

        def ranking(one: _Judged, most: int) -> Ranking:
            fitted = self._fitted(space, words.take(one.order[:most]), {})
            scores = {name: fitted.score(feedback.outliers[name].features[one.outliers]) for name in one.names}
            return Ranking(fitted.score(feedback.known.features[one.known]), scores, one.outliers)

        candidates = [most for most in CANDIDATES if most <= len(words)] or [len(words)]
        ranked = [Rankings(*([ranking(one, most) for one in view] for view in (like, unlike))) for most in candidates]
        best, figures = choose(ranked)
        return {"words": candidates[best], **figures}


class _Judged(NamedTuple):
    """An order of the words, and the images it is judged by: of which outlier sets, and which rows."""

    order: IntArray
    names: Sequence[str]
    outliers: slice
    known: slice


class _Activations(NamedTuple):
    """Softmax mass (2, A) of each word, summed over the even and the odd images, and how many these are (2,)."""

    known: tuple[Floats, IntArray]
    outliers: Mapping[str, tuple[Floats, IntArray]]

    @classmethod
    def of(cls, space: Space, bank: Bank, feedback: Feedback, tau: float) -> _Activations:
        texts, words = (rows.astype(np.float64).T / tau for rows in (space.texts, bank.vectors))

        def mass(features: FloatArray) -> Floats:
            total = np.zeros(words.shape[1])
            for rows in blocks(len(features), 2 * (texts.shape[1] + 2 * words.shape[1])):
                x = features[rows].astype(np.float64)
                negative = x @ words
                every = np.logaddexp(log_sum_exp(x @ texts), log_sum_exp(negative))
                total += np.exp(negative - every[:, None]).sum(axis=0)
            return total

        def halves(images: FeatureSet) -> tuple[Floats, IntArray]:
            parts = [images.features[half] for half in (_EVEN, _ODD)]
            return np.stack([mass(part) for part in parts]), np.array([len(part) for part in parts])

        return cls(halves(feedback.known), {name: halves(images) for name, images in feedback.outliers.items()})

    def order(self, of_known: slice = _ALL, of_outliers: slice = _ALL, without: str = "") -> IntArray:
        """The words (A,), those first that outliers of these halves activate more than known images of theirs do."""
        sets = [one for name, one in self.outliers.items() if name != without]

        def mean(some: Iterable[tuple[Floats, IntArray]], half: slice) -> Floats:
            # Of the two rows, the slices take the even ones, the odd ones or both, as they do of the images.
            sums, counts = zip(*((mass[half].sum(axis=0), number[half].sum()) for mass, number in some), strict=True)
            total: Floats = np.sum(sums, axis=0) / np.sum(counts)
            return total

        ordered: IntArray = np.argsort(mean([self.known], of_known) - mean(sets, of_outliers), kind="stable")
        return ordered


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _FittedTanl(FittedScore):
    antibodies: Floats
    """(M, d), the most active first."""
    tau: float
    figures: Mapping[str, Any]
    settled_as: Score | None

    @property
    def width(self) -> int:
        return super().width + 3 * len(self.antibodies)

    @property
    def chosen(self) -> dict[str, Any]:
        return dict(self.figures)

    @property
    def settled(self) -> Score | None:
        return self.settled_as

    @property
    def remarks(self) -> tuple[str, ...]:
        return () if self.figures else ("there are no feedback outliers to put the words in order by",)

    def _score_block(self, x: Floats) -> Floats:
        if not len(self.antibodies):
            return np.ones(len(x))
        known = log_sum_exp(product(x, self.class_vectors) / self.tau)[:, None]
        negative = product(x, self.antibodies) / self.tau
        top = np.maximum(known, negative.max(axis=1, keepdims=True))
        mass = np.exp(known - top)
        share: Floats = (mass / (mass + np.exp(negative - top).cumsum(axis=1))).mean(axis=1)
        return share

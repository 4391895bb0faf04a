"""Immuno-VLM as its paper has it (Fang, Fang & Ji, ICML 2026, arXiv 2605.30745), phase by phase.

    mu_k   prototypes with the text's weight alpha and the cap xi          (evaluation.scores.prototypes)
    a_j    the bank, or what the band-pass on c(a_j, mu_k) leaves of it    (evaluation.antibodies.selection)
    f      the residual adapter, trained by the push-pull loss             (evaluation.scores.paper.vaccination)
    S_DIS(x) = max_k c(f(x), mu_k) - lambda_inf max_j c(f(x), a_j)
    tau_k  the score that the share `target` of class k reaches, by a Weibull tail  (evaluation.scores.paper.thresholds)
    S(x)   = S_DIS(x) - tau_k*(x),  k*(x) = argmax_k c(f(x), mu_k)         higher = more in-distribution

So accepting iff S(x) >= 0 is the paper's rule, and what is deployed; FPR95 moves all tau_k together. As the formula
reads, f moves images only: mu_k and a_j stay.

Which images fit what. The prototypes of the score are made of all fit images; those that the adapter is trained on, of
its training part alone. The tails need scores of images that made neither: each image is compared with its class's
prototype made without it, and where an adapter is in force only the images held out of its training count (they did
choose its epoch). Scores count for the class they are predicted as, since that is whose tau will judge.

The paper's ablations are parameters. No push: push = False, or lambda_push = 0. Visual mean only: alpha = 0, xi = pi.
Text only: alpha = 1. No EVT: evt = False, which leaves S_DIS in the adapted space. No adapter: adapter = False. Without
both it is the score s_dis. Without fit images there are no prototypes but the texts, no adapter and no EVT; with one
class, or one image per class, no adapter. The paper publishes no parameter but m = 0.2; the defaults are those of the
modules above.

A bank that was chosen on the very fit images makes their scores, and so the thresholds, too high.
"""

from __future__ import annotations

import math
from dataclasses import dataclass as plain_dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from evaluation.antibodies.selection import SelectionRules, guarded_classes, in_band
from evaluation.metrics import ACCEPTANCE
from evaluation.scores.base import PARAMETERS, Choices, RepelledImages, Score
from evaluation.scores.paper.thresholds import LEAST, ClassThresholds, class_thresholds
from evaluation.scores.paper.vaccination import Adapter, AdapterSettings, Vaccination, vaccinate
from evaluation.scores.prototypes import DEFAULT_ALPHA, DEFAULT_XI, leave_one_out
from evaluation.scores.s_dis import FittedDifference, prototype_vectors
from evaluation.space import Bank, Space
from immuno_core.arrays import in_blocks, product
from immuno_core.config.numbers import MOST_SEED, real, whole
from immuno_core.features import FloatArray, Floats, IntArray

_Pair = Annotated[tuple[float, float], Field(strict=False)]
"""A list in TOML and JSON."""


@dataclass(frozen=True, config=PARAMETERS)
class ImmunoVlmPaper(Score):
    """The paper's method. `alpha`, `xi`, `lambda_inf` as in s_dis; the rest belongs to the part that is named."""

    name: ClassVar[str] = "immuno_vlm_paper"
    choices: ClassVar[Choices] = MappingProxyType({"adapter": (True, False), "lambda_inf": (1.0, 0.5, 0.25)})
    uses_bank: ClassVar[bool] = True
    lambda_inf: Annotated[float, real(ge=0)] = 1.0
    alpha: Annotated[float, real(ge=0, most=1)] = DEFAULT_ALPHA
    xi: Annotated[float, real(ge=0, most=math.pi)] = DEFAULT_XI
    band: _Pair = (0.0, 1.0)
    """Quantiles, per guarded class, between which antibodies are kept. (0, 1) keeps all."""
    bounds: _Pair | None = None
    """The cosines (delta_safe, delta_risk) instead."""
    adapter: bool = True
    push: bool = True
    lambda_push: Annotated[float, real(ge=0)] = AdapterSettings().lambda_push
    eta: Annotated[float, real(ge=0)] = AdapterSettings().eta
    margin: Annotated[float, real(ge=-1, most=1)] = AdapterSettings().margin
    margin_quantile: Annotated[float, real(ge=0, most=1)] | None = None
    most_kappa: Annotated[float, real(gt=0)] | None = None
    """Cap of kappa in the pull; None for the encoder's logit scale."""
    seed: Annotated[int, whole(0, MOST_SEED)] = 0
    """Of the adapter: what it holds out, its first weights, its batches."""
    evt: bool = True
    target: Annotated[float, real(gt=0, lt=1)] = ACCEPTANCE
    """Share of known images that every tau_k is to accept."""
    least: Annotated[int, whole(1)] = LEAST
    """Scores from which a class has a tail of its own."""

    def __post_init__(self) -> None:
        SelectionRules(band=self.band, bounds=self.bounds)  # raises SetupError here, not after the embedding

    def fit(self, space: Space) -> FittedPaper:
        """Make the prototypes, filter the antibodies, train the adapter, and set the thresholds."""
        mu = prototype_vectors(space, alpha=self.alpha, xi=self.xi)
        bank = self._kept(space, mu)
        antibodies = bank.vectors.astype(np.float64)
        vaccination = self._vaccinate(space, bank)
        adapter = vaccination.adapter if vaccination else Adapter.identity(space.dim)
        return FittedPaper(
            name=self.name,
            class_vectors=mu,
            antibodies=antibodies,
            weight=self.lambda_inf,
            bank=bank,
            adapter=adapter,
            vaccination=vaccination,
            thresholds=self._thresholds(space, antibodies, adapter, vaccination),
        )

    def _kept(self, space: Space, mu: Floats) -> Bank:
        rules = SelectionRules(band=self.band, bounds=self.bounds)
        passed = in_band(space.bank.vectors, mu, guarded_classes(space.bank.guards, space.classes), rules)
        return space.bank if passed.all() else space.bank.take(np.flatnonzero(passed))

    def _vaccinate(self, space: Space, bank: Bank) -> Vaccination | None:
        if not self.adapter or space.fit is None or space.fit_labels is None or len(space.classes) < 2:
            return None
        settings = AdapterSettings(
            lambda_push=self.lambda_push if self.push else 0.0,
            eta=self.eta,
            margin=self.margin,
            margin_quantile=self.margin_quantile,
            most_kappa=space.logit_scale if self.most_kappa is None else self.most_kappa,
            seed=self.seed,
        )
        return vaccinate(
            space.texts,
            space.fit.features,
            space.fit_labels,
            bank.vectors,
            alpha=self.alpha,
            xi=self.xi,
            settings=settings,
        )

    def _thresholds(
        self, space: Space, antibodies: Floats, adapter: Adapter, vaccination: Vaccination | None
    ) -> ClassThresholds | None:
        if not self.evt or space.fit is None or space.fit_labels is None:
            return None
        adapted = adapter.apply(space.fit.features)
        left_out = leave_one_out(
            space.texts, space.fit.features, space.fit_labels, alpha=self.alpha, xi=self.xi, adapted=adapted
        )
        rows = vaccination.held_out if vaccination and not adapter.is_identity else np.arange(len(adapted))
        scores = left_out.cosine[rows] - self.lambda_inf * _nearest(adapted[rows], antibodies)
        return class_thresholds(
            scores, left_out.nearest[rows], count=len(space.classes), target=self.target, least=self.least
        )


def _nearest(features: FloatArray, antibodies: Floats) -> Floats:
    """max_j c(x, a_j) (n,); 0 without antibodies."""
    if not len(antibodies):
        return np.zeros(len(features))
    return in_blocks(features, len(antibodies) + features.shape[1], lambda x: (x @ antibodies.T).max(axis=1))


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class FittedPaper(FittedDifference):
    """S_DIS of adapted images, less the threshold of the class they are predicted as.

    `bank` has the antibodies that passed the band, in the order of `antibodies`. Without `vaccination` the adapter is
    the identity; without `thresholds` the score is S_DIS itself.
    """

    adapter: Adapter
    vaccination: Vaccination | None
    thresholds: ClassThresholds | None

    @property
    def chosen(self) -> dict[str, Any]:
        """Antibodies kept; the adapter's epoch and its validation loss; how many classes have a tail of their own."""
        chosen: dict[str, Any] = {"antibodies": len(self.bank)}
        if self.vaccination is not None:
            validation = [losses.total for losses in self.vaccination.validation]
            chosen["epoch"] = self.vaccination.epoch
            chosen["margin"] = self.vaccination.margin
            if validation:
                chosen |= {"validation_before": validation[0], "validation_after": validation[self.vaccination.epoch]}
        if self.thresholds is not None:
            chosen["own_tails"] = int(self.thresholds.own.sum())
            chosen["shared_tails"] = len(self.thresholds.fell_back)
        return chosen

    @property
    def own_threshold(self) -> float | None:
        """0, the paper's rule, where there are tau_k."""
        return None if self.thresholds is None else 0.0

    def _predict_block(self, x: Floats) -> IntArray:
        return self._repelled(x).nearest

    def _repelled(self, x: Floats) -> RepelledImages:
        # An antibody's effect is measured with f and tau_k as they are: it is not trained or calibrated again.
        seen = super()._repelled(self.adapter.block(x))
        if self.thresholds is None:
            return seen
        return seen._replace(base=self.thresholds.margin(seen.base, seen.nearest))

    def _score_block(self, x: Floats) -> Floats:
        seen = self._repelled(x)
        if not len(self.antibodies):
            return seen.base
        nearest: Floats = (product(seen.points, self.antibodies)).max(axis=1)
        return seen.base - self.weight * nearest

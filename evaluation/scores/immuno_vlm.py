"""immuno_vlm: our pipeline whole, with its choices made on fit and feedback images by a rule.

    S(x) = b(x) - beta max_j max(0, d_j(x) - r_j)           higher = more in-distribution

the calibrated score (evaluation.scores.calibrated) with its three parts: the fused base, self-calibrated radii, and a
bank to which affinity maturation (evaluation.antibodies.maturation) has added. What differs between data sets is chosen
by cross-validation on the feedback split, among few candidates:

- w: the default 1 (closeness without distinctness), or 0.35;
- v: the default 0.75 (typicality, by Mahalanobis distance), or 0; the former with the default shrinkage of the
  covariance, 0.2, or that by the rule of Ledoit & Wolf;
- beta: the default 2.5, half of it, twice, or four times;
- whether matured antibodies (g = 0.3) are added;
- whether there are antibodies at all (else beta = 0).

Outliers that matured an antibody never judge it, nor what a session matured by them: of the bank only embeddings of
texts are looked at, and they are matured anew. A candidate is judged twice: by outliers *like* those that matured its
antibodies (the halves of each set judge one another), and by outliers *unlike* them (each set judges antibodies matured
on the other sets), since both turn up. Of all candidates the first in the order above is taken whose mean of the two
FPR95s, each a mean over the sets, is within one standard error of the lowest (evaluation.scores.choice.choose), and not
above that of any base without antibodies: a bank that does not earn its keep on the feedback is silent. Where
the known feedback images are the fit images, the score of each is that of a fit without its part of them. No sealed
image is looked at. What was chosen, and the figures, are in `chosen`. See also
docs/method.md#what-is-chosen-and-on-what.

Without feedback the defaults hold and nothing is matured; without fit images the base is the maximum cosine and every
radius 0. The default base is the one that was best on development worlds, with antibodies and without; eps = 0.001 and
alpha = 0.9 as in evaluation.scores.calibrated. The paper's residual adapter is not
part of it: under S_DIS it did harm wherever it was tried (the method `immuno_vlm_paper` has it, to compare).
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic.dataclasses import dataclass

from evaluation.antibodies.maturation import DEFAULT_PULL, mature
from evaluation.scores.base import PARAMETERS, FittedScore, Score
from evaluation.scores.bases import BaseName
from evaluation.scores.calibrated import Calibrated, FittedCalibrated
from evaluation.scores.choice import AUTO, Candidate, Fusion, Trial, choose
from evaluation.scores.prototypes import DEFAULT_ALPHA
from evaluation.space import Bank, Space
from immuno_core.config.numbers import real

DEFAULT_W, DEFAULT_V, DEFAULT_SHRINKAGE, DEFAULT_BETA = 1.0, 0.75, 0.2, 2.5
_WS = (DEFAULT_W, 0.35)
_VS = (DEFAULT_V, 0.0)
_SHRINKAGES = (DEFAULT_SHRINKAGE, None)
_BETAS = (DEFAULT_BETA, DEFAULT_BETA / 2, 2 * DEFAULT_BETA, 4 * DEFAULT_BETA)


@dataclass(frozen=True, config=PARAMETERS)
class ImmunoVlm(Score):
    """Our pipeline. `w`, `v`, `shrinkage`, `beta` and `maturation` may be "auto": chosen by the rule of the module.

    `w`, `v` in [0, 1], `beta` >= 0, `shrinkage` as in evaluation.scores.calibrated; `eps` in (0, 1), `alpha` and `g`
    in [0, 1]. For ablations: another `base`, where w and v have no say; `radii`
    False takes 0 for each radius; `guarded`, `class_radii` and `class_eps` as in evaluation.scores.calibrated.
    """

    name: ClassVar[str] = "immuno_vlm"
    uses_bank: ClassVar[bool] = True
    uses_feedback: ClassVar[bool] = True
    eps: Annotated[float, real(gt=0, lt=1)] = 0.001
    alpha: Annotated[float, real(ge=0, most=1)] = DEFAULT_ALPHA
    base: BaseName = "fused"
    w: Annotated[float, real(ge=0, most=1)] | Literal["auto"] = "auto"
    v: Annotated[float, real(ge=0, most=1)] | Literal["auto"] = "auto"
    shrinkage: Annotated[float, real(ge=0, most=1)] | Literal["auto"] | None = "auto"
    beta: Annotated[float, real(ge=0)] | Literal["auto"] = "auto"
    g: Annotated[float, real(ge=0, most=1)] = DEFAULT_PULL
    maturation: bool | Literal["auto"] = "auto"
    radii: bool = True
    guarded: bool = False
    class_radii: bool = True
    class_eps: Annotated[float, real(gt=0, lt=1)] = 0.02

    def fit(self, space: Space) -> FittedScore:
        """Choose on the feedback, and fit the calibrated score with what was chosen.

        Where there are outliers to mature by, antibodies that a session matured are left out: by outliers of the same
        sets, which would judge them here.
        """
        if _has_outliers(space):
            space = replace(space, bank=space.bank.unmatured)
        candidates, matured = self._candidates(space), Bank.empty(space.dim)
        silent = self._silent(space)
        chosen: dict[str, Any] = {}
        best = candidates[0]
        if space.feedback is not None and len(candidates) > 1:
            trial = Trial.of(space, space.feedback, self._calibrated, fusions=self._fusions, g=self.g)
            every = [*candidates, *silent]
            found, chosen = choose([trial.ranked(one) for one in every], cautious=True, without=len(silent))
            best = every[found]
        if best.matured and space.feedback is not None:
            matured = mature(space.bank, [images.features for images in space.feedback.outliers.values()], g=self.g)
        fitted = self._calibrated(replace(space, bank=space.bank.concat(matured)), best.fusion, best.beta)
        choices = {**best.fusion._asdict(), "beta": best.beta, "matured": len(matured), **chosen}
        settled = replace(self, **best.fusion._asdict(), beta=best.beta, maturation=best.matured)
        free = AUTO in (self.w, self.v, self.shrinkage, self.beta, self.maturation)
        return FittedImmunoVlm(
            **{**vars(fitted), "name": self.name},
            choices=choices,
            settings=settled,
            lacks=_lacking(space) if free else (),
        )

    def _candidates(self, space: Space) -> list[Candidate]:
        """What may be chosen, the default first."""
        has_feedback = _has_outliers(space)
        fusions = self._fusions if has_feedback else self._fusions[:1]
        betas = (_BETAS if has_feedback else _BETAS[:1]) if self.beta == "auto" else (self.beta,)
        if not has_feedback or not len(space.bank):
            grown: tuple[bool, ...] = (False,)
        else:
            grown = (False, True) if self.maturation == "auto" else (self.maturation,)
        return [Candidate(fusion, beta, matured) for matured in grown for fusion in fusions for beta in betas]

    def _silent(self, space: Space) -> list[Candidate]:
        """What nothing that is chosen may be worse than: every base without antibodies."""
        free = _has_outliers(space) and len(space.bank) > 0 and self.beta == AUTO
        return [Candidate(fusion, 0.0, False) for fusion in self._fusions] if free else []

    @property
    def _fusions(self) -> tuple[Fusion, ...]:
        if self.base != "fused":
            return (Fusion(1.0, 0.0),)
        ws = _WS if self.w == "auto" else (self.w,)
        vs = _VS if self.v == "auto" else (self.v,)
        shrinkages = _SHRINKAGES if self.shrinkage == "auto" else (self.shrinkage,)
        return tuple(Fusion(w, v, s) for v in vs for s in (shrinkages if v else shrinkages[:1]) for w in ws)

    def _calibrated(self, space: Space, fusion: Fusion, beta: float) -> FittedCalibrated:
        fitted = Calibrated(
            eps=self.eps,
            alpha=self.alpha,
            w=fusion.w,
            v=fusion.v,
            shrinkage=fusion.shrinkage,
            beta=beta,
            base=self.base,
            guarded=self.guarded,
            class_radii=self.class_radii,
            class_eps=self.class_eps,
        ).fit(space)
        return fitted if self.radii else replace(fitted, radii=np.zeros_like(fitted.radii))


def _lacking(space: Space) -> tuple[str, ...]:
    """What there is not to choose by."""
    if not _has_outliers(space):
        return ("no [[data.feedback]] to choose by: its settings are the defaults, and nothing is matured",)
    if space.feedback is not None and len(space.feedback.outliers) == 1:
        return ("one [[data.feedback]] set: no outliers unlike it judged what was chosen",)
    return ()


def _has_outliers(space: Space) -> bool:
    return space.feedback is not None and bool(space.feedback.outliers)


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class FittedImmunoVlm(FittedCalibrated):
    """The calibrated score with what was chosen."""

    choices: dict[str, Any]
    settings: ImmunoVlm
    lacks: tuple[str, ...]

    @property
    def settled(self) -> ImmunoVlm:
        """With w, v, beta and maturation as they were chosen."""
        return self.settings

    @property
    def chosen(self) -> dict[str, Any]:
        """w, v, beta, how many antibodies were matured, and where there was a choice the figures behind it."""
        return self.choices | super().chosen

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a choice lacked."""
        return self.lacks

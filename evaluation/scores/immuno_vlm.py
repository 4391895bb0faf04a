"""immuno_vlm: our pipeline whole, with its choices made on fit and feedback images by a rule.

    S(x) = b(x) - beta max_{j text} e_j(x) - s max_{c visual} e_c(x)         higher = more in-distribution

the calibrated score (evaluation.scores.calibrated) with its parts: the fused base, self-calibrated radii, a bank to
which affinity maturation (evaluation.antibodies.maturation) has added, and visual antibodies, what the outliers of the
feedback look like (evaluation.antibodies.visual). What differs between data sets is chosen by cross-validation on the
feedback split, among few candidates, the default of each first:

- v: 0.8 of the share of fit images that lie, each as if it had not been one of them, nearest to the mean of their own
  class: typicality (by Mahalanobis distance) counts as far as it can be trusted; or 0;
- w: 0.35, or 1 (closeness without distinctness);
- beta: 2.5, half of it, twice, or four times;
- whether matured antibodies (g = 0.3) are added;
- whether there are visual antibodies (10);
- whether there are antibodies with texts at all (else beta = 0).

Outliers that made an antibody never judge it, nor what a session made by them: of the bank only embeddings of texts are
looked at, and the others are made anew. A candidate is judged twice: by outliers *like* those that made its antibodies
(the halves of each set, which are of other classes where images lie by class, judge one another), and by outliers
*unlike* them (each set judges antibodies made by the other sets), since both turn up. Of all candidates the first is
taken whose mean of the two FPR95s, each a mean over the sets, is within two standard errors of the lowest
(evaluation.scores.choice.choose): trials on development worlds showed that a bolder choice is worse on other outliers
than none. But no bank is used that is worse than the same, or than what would be chosen, with silent texts: what does
not earn its keep on the feedback is silent. Where the known feedback images are the fit images, the score
of each is that of a fit without it. No sealed image is looked at. What was chosen, and the figures, are in `chosen`.
See also docs/method.md#what-is-chosen-and-on-what.

Without feedback the defaults hold and nothing is made of it; without fit images the base is the maximum cosine and
every radius 0. The defaults were best on development worlds, real and drawn; eps = 0.001 and
alpha = 0.9 as in evaluation.scores.calibrated. The paper's residual adapter is not
part of it: under S_DIS it did harm wherever it was tried (the method `immuno_vlm_paper` has it, to compare).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic.dataclasses import dataclass

from evaluation.antibodies.maturation import DEFAULT_PULL, mature
from evaluation.antibodies.visual import visual_antibodies
from evaluation.scores.base import PARAMETERS, FittedScore, Score
from evaluation.scores.bases import BaseName
from evaluation.scores.calibrated import Calibrated, FittedCalibrated, Makings
from evaluation.scores.choice import AUTO, CAUTION, Candidate, Fusion, Seen, Trial, choose
from evaluation.scores.prototypes import DEFAULT_ALPHA
from evaluation.scores.sight import DEFAULT_VISUAL_EPS, DEFAULT_VISUAL_WEIGHT
from evaluation.space import Bank, Space
from immuno_core.config.numbers import real, whole

DEFAULT_W, DEFAULT_SHRINKAGE, DEFAULT_BETA = 0.35, 0.2, 2.5
_WS = (DEFAULT_W, 1.0)
TRUST = 0.8
_BETAS = (DEFAULT_BETA, DEFAULT_BETA / 2, 2 * DEFAULT_BETA, 4 * DEFAULT_BETA)
DEFAULT_VISUAL = 10


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
    shrinkage: Annotated[float, real(ge=0, most=1)] | None = DEFAULT_SHRINKAGE
    beta: Annotated[float, real(ge=0)] | Literal["auto"] = "auto"
    g: Annotated[float, real(ge=0, most=1)] = DEFAULT_PULL
    maturation: bool | Literal["auto"] = "auto"
    visual: Annotated[int, whole(0)] | Literal["auto"] = "auto"
    visual_eps: Annotated[float, real(gt=0, lt=1)] = DEFAULT_VISUAL_EPS
    visual_weight: Annotated[float, real(ge=0)] = DEFAULT_VISUAL_WEIGHT
    radii: bool = True
    guarded: bool = False
    class_radii: bool = True
    class_eps: Annotated[float, real(gt=0, lt=1)] = 0.02

    def fit(self, space: Space) -> FittedScore:
        """Choose on the feedback, and fit the calibrated score with what was chosen.

        Where there are outliers to learn from, antibodies that a session made of outliers are left out: of the same
        sets, which would judge them here.
        """
        if _has_outliers(space):
            space = replace(space, bank=space.bank.unmatured)
        makings = Makings(self._calibrated(Fusion(1.0, 0.0), 0.0), space, crossed=True)
        candidates = self._candidates(makings)
        chosen: dict[str, Any] = {}
        best, calibration = candidates[0], None
        if space.feedback is not None and len(candidates) > 1:
            trial = Trial.of(
                makings,
                space.feedback,
                fusions=sorted({one.fusion for one in candidates}),
                g=self.g,
                seen={one.seen for one in candidates},
            )
            calibration = trial.calibration
            ranked = [trial.ranked(one) for one in candidates]
            # Texts have to earn their keep: nothing is used that is worse than the same, or than what would be chosen,
            # with silent texts.
            silent = [i for i, one in enumerate(candidates) if not one.beta]
            bare = [silent[choose([ranked[i] for i in silent], caution=CAUTION).best]] if silent else []
            place = {candidates[i]: i for i in silent}
            bounds = [[place[one.silent], *bare] if one.beta and silent else () for one in candidates]
            found, chosen = choose(ranked, caution=CAUTION, never_worse_than=bounds)
            best = candidates[found]
        outliers = space.feedback.outliers if space.feedback is not None else {}
        bank, visual = space.bank.worded, space.bank.visual
        calibration = makings.calibrate(bank) if calibration is None else calibration
        matured = Bank.empty(space.dim)
        if best.matured:
            matured = mature(bank, [images.features for images in outliers.values()], g=self.g)
            calibration = calibration.concat(makings.calibrate(matured))
        if best.seen is not None:
            visual = visual.concat(visual_antibodies(outliers, best.seen.number))
        score = self._calibrated(best.fusion, best.beta, best.seen)
        fitted = makings.fitted(score, bank.concat(matured), calibration, visual)
        settings: dict[str, Any] = {
            "w": best.fusion.w,
            "v": best.fusion.v,
            "beta": best.beta,
            "visual": best.seen.number if best.seen is not None else 0,
        }
        return FittedImmunoVlm(
            **{**vars(fitted), "name": self.name},
            choices={**settings, "matured": len(matured), **chosen},
            settings=replace(self, **settings, maturation=best.matured),
            lacks=_lacking(space) if AUTO in (self.w, self.v, self.beta, self.maturation, self.visual) else (),
        )

    def _candidates(self, makings: Makings) -> list[Candidate]:
        """What may be chosen, the default first, and those whose texts are silent last."""
        fusions, space = self._fusions(makings), makings.space
        betas = _BETAS if self.beta == "auto" else (self.beta,)
        grown = (True, False) if self.maturation == "auto" else (self.maturation,)
        sights: tuple[Seen | None, ...] = (None,)
        if self.visual and space.fit is not None:
            number = DEFAULT_VISUAL if self.visual == "auto" else self.visual
            seen = Seen(number, self.visual_eps, self.visual_weight)
            sights = (seen, None) if self.visual == "auto" else (seen,)
        if not _has_outliers(space):
            return [Candidate(fusions[0], betas[0], matured=False)]
        if not len(space.bank):
            betas, grown = betas[:1], (False,)
        with_texts = [Candidate(*one) for one in itertools.product(fusions, betas, grown, sights)]
        free = len(space.bank) > 0 and self.beta == AUTO
        return with_texts + ([Candidate(f, 0.0, False, seen) for f in fusions for seen in sights] if free else [])

    def _fusions(self, makings: Makings) -> list[Fusion]:
        """Which bases may be chosen, the default first."""
        if self.base != "fused" or makings.space.fit is None:
            return [Fusion(1.0, 0.0)]
        ws = _WS if self.w == "auto" else (self.w,)
        vs: tuple[float, ...] = (self.v,) if self.v != "auto" else ()
        if self.v == "auto":
            vs = (TRUST * float(makings.bases.left_out.own_is_nearest.mean()), 0.0)
        return [Fusion(w, v) for v in vs for w in ws]

    def _calibrated(self, fusion: Fusion, beta: float, seen: Seen | None = None) -> Calibrated:
        return Calibrated(
            eps=self.eps,
            alpha=self.alpha,
            w=fusion.w,
            v=fusion.v,
            shrinkage=self.shrinkage,
            beta=beta,
            base=self.base,
            guarded=self.guarded,
            class_radii=self.class_radii,
            class_eps=self.class_eps,
            radii=self.radii,
            visual_eps=seen.eps if seen else DEFAULT_VISUAL_EPS,
            visual_weight=seen.weight if seen else 0.0,
        )


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

"""What is accepted: thresholds from known images by order statistics, with intervals, and the table of calibration.

    tau      the largest threshold that accepts at least the share `accept` of n known images
    [lo, hi] 95 % interval of the quantile of all known images that tau estimates: the order statistics whose ranks are
             the 2.5 % and 97.5 % points of Binomial(n, 1 - accept), free of any distribution (Conover, Practical
             Nonparametric Statistics, 3rd ed., section 3.2)

An end of the interval is None where n is too small to tell it (fewer than 72 images at 95 %). The known images are ones
that the score was not fitted on, or each was scored by a fit without it (evaluation.shield.calibration).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import binom

from evaluation.metrics import threshold_at
from evaluation.shield.head import PARTS, JudgedArrays
from immuno_core.features import Floats

Share = Annotated[float, Field(ge=0, le=1)]
DEFAULT_ACCEPT: Final = 0.95
DEFAULT_REVIEW: Final = 0.02
FEWEST_OF_A_CLASS: Final = 20
"""Known images below which a class has no threshold of its own: one of them would decide it."""
_LEVEL: Final = 0.95
_RECORD = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
SCORE: Final = "score"
TABLES: Final = (SCORE, *PARTS)


class Threshold(BaseModel):
    """Accept iff score >= value; from `images` known images, with the 95 % interval `low` to `high`."""

    model_config = _RECORD
    value: float
    images: int
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, scores: Floats, accept: float) -> Threshold:
        """Return the threshold that accepts the share of known images with these scores (n,), n >= 1."""
        n, ordered = len(scores), np.sort(scores)
        low, high = (int(binom.ppf(end, n, 1 - accept)) for end in ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2))
        return cls(
            value=threshold_at(scores, accept),
            images=n,
            low=float(ordered[low - 1]) if low >= 1 else None,
            high=float(ordered[high]) if high < n else None,
        )


class Thresholds(BaseModel):
    """The threshold of all images, those of single classes where they were asked for, and the band around them."""

    model_config = _RECORD
    accept: Annotated[float, Field(gt=0, le=1)] = DEFAULT_ACCEPT
    """The share of known images that is to be accepted."""
    review: Share = DEFAULT_REVIEW
    """The share of known images about the threshold that a person decides on."""
    overall: Threshold
    classes: dict[str, Threshold] = {}
    too_few: tuple[str, ...] = ()
    """Classes that share the common one since fewer than 20 known images were taken for them."""

    @classmethod
    def of(
        cls,
        judged: JudgedArrays,
        classes: Sequence[str],
        *,
        accept: float = DEFAULT_ACCEPT,
        review: float = DEFAULT_REVIEW,
        per_class: bool = False,
    ) -> Thresholds:
        """Set them on known images (n >= 1); a class's own on the images that are taken for it."""
        own, too_few = {}, []
        for k, name in enumerate(classes if per_class else ()):
            scores = judged.score[judged.classes[:, 0] == k]
            if len(scores) >= FEWEST_OF_A_CLASS:
                own[name] = Threshold.of(scores, accept)
            else:
                too_few.append(name)
        return cls(
            accept=accept,
            review=review,
            overall=Threshold.of(judged.score, accept),
            classes=own,
            too_few=tuple(too_few),
        )

    def told(self) -> str:
        """Say in a line what the thresholds rest on, and where that is little."""
        of, images = self.overall, f"{self.overall.images:,} known images"
        if of.low is None or of.high is None:
            said = (
                f"threshold {of.value:.4f} of {images}: too few to say how far it may be off "
                f"({fewest(self.accept)} tell that)"
            )
        else:
            said = f"threshold {of.value:.4f}, 95 % interval {of.low:.4f} to {of.high:.4f}, of {images}"
        if self.too_few:
            named = ", ".join(self.too_few[:5]) + (", ..." if len(self.too_few) > 5 else "")
            said += f"; {len(self.too_few)} class(es) with fewer than {FEWEST_OF_A_CLASS} images share it ({named})"
        return said


def fewest(accept: float) -> int:
    """Return how many known images have a threshold whose interval has both ends."""
    n = 2
    while binom.ppf((1 - _LEVEL) / 2, n, 1 - accept) < 1 or binom.ppf((1 + _LEVEL) / 2, n, 1 - accept) >= n:
        n += 1
    return n


@dataclass(frozen=True, eq=False)
class KnownScores:
    """How known images score: `tables` by the names of TABLES, each sorted (m,), and how often antibodies fire.

    `fired` (A,) is the share of known images of which each antibody of the bank takes most, of `images`.
    """

    tables: Mapping[str, Floats]
    fired: Floats
    images: int

    @classmethod
    def of(cls, judged: JudgedArrays, antibodies: int) -> KnownScores:
        """Take it of known images (n >= 1); of more than 1,001 the tables keep as many quantiles."""
        columns = {SCORE: judged.score, **dict(zip(PARTS, judged.parts.T, strict=True))}
        n = len(judged.score)
        tables = {name: _table(np.sort(values)) for name, values in columns.items()}
        found = judged.antibody[judged.antibody >= 0]
        return cls(tables, np.bincount(found, minlength=antibodies) / n, n)

    def share_below(self, values: Floats, table: str = SCORE) -> Floats:
        """Return (n,) the share of known images that lie lower than each of the values (n,)."""
        ordered = self.tables[table]
        shares: Floats = np.searchsorted(ordered, values, side="left") / len(ordered)
        return shares

    def quantile(self, share: float) -> float:
        """Return the score that the share of known images lies below."""
        return float(np.quantile(self.tables[SCORE], min(max(share, 0.0), 1.0)))

    def band(self, thresholds: Thresholds) -> tuple[float, float]:
        """Return how far below and above a threshold scores are for a person to decide."""
        at, half = 1 - thresholds.accept, thresholds.review / 2
        middle = self.quantile(at)
        return middle - self.quantile(at - half), self.quantile(at + half) - middle


_MOST_ROWS: Final = 1001


def _table(ordered: Floats) -> Floats:
    if len(ordered) <= _MOST_ROWS:
        return ordered
    table: Floats = np.quantile(ordered, np.linspace(0, 1, _MOST_ROWS))
    return table

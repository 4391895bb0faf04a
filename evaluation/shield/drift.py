"""Whether the images that a shield judges are still what it was calibrated on: a window of them against known images.

    PSI = sum over ten equal shares of known scores of (q_i - p_i) ln(q_i / p_i)         the population stability index
    KS  = the two-sample test of Kolmogorov and Smirnov between the scores of the window and those of known images

q_i is the share of the window in the i-th tenth, p_i = 1 / 10, each smoothed by half an image. There is drift where the
index exceeds 0.25, as is usual (Siddiqi, Credit Risk Scorecards, 2006), and the test is surer than one in a million:
the test alone finds differences too small to matter in large windows, and the index alone is noise in small ones. Of
known images neither is to be expected in tens of thousands of looks (tests/evaluation/shield/test_drift.py).
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.stats import binom, ks_2samp

from evaluation.shield.head import JudgedArrays
from evaluation.shield.thresholds import SCORE, KnownScores, Thresholds
from immuno_core.features import Floats

WINDOW: Final = 200
_FEWEST: Final = 50
"""Images, below which nothing is said."""
_EVERY: Final = 10
"""Images between two looks."""
_MOST_PSI: Final = 0.25
_SURE: Final = 1e-6
_TENTHS: Final = 10
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Drift:
    """What a window of judged images looks like beside the known ones."""

    images: int
    """In the window."""
    accepted: float
    """The share at or above its threshold."""
    expected: float
    """The share of known images that the shield is to accept."""
    typicality: float
    """The median share of known images that score lower; 0.5 of known images."""
    psi: float | None
    """None as long as the window has fewer than 50 images."""
    p_value: float | None
    """Of the two-sample test."""
    drifted: bool
    fired: tuple[tuple[str, float, float], ...] = ()
    """Antibodies that take most from more images than of known ones: their ids, that share, and the known one."""

    def told(self) -> str:
        """Say it in a line."""
        if self.psi is None or self.p_value is None:
            return f"{self.images} images judged: too few to tell drift ({_FEWEST} are needed)"
        said = (
            f"of the last {self.images} images {100 * self.accepted:.1f} % are accepted ({100 * self.expected:g} % of "
            f"known ones); PSI {self.psi:.2f}, KS test p = {self.p_value:.1g}"
        )
        return f"drift: {said}" if self.drifted else f"no drift: {said}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        fired = [{"antibody": one, "share": share, "known": known} for one, share, known in self.fired]
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "fired"}
        return {**plain, "fired": fired}


class Watch:
    """Counts judged images in a window. Any thread may add."""

    def __init__(
        self,
        thresholds: Thresholds,
        known: KnownScores,
        *,
        classes: tuple[str, ...],
        antibodies: tuple[str, ...],
        window: int = WINDOW,
    ) -> None:
        """`classes` and `antibodies` are the names and ids of the shield's; `window` >= 50 images."""
        self._known, self._antibodies = known, antibodies
        self._expected = thresholds.accept
        self._thresholds = np.array([thresholds.classes.get(name, thresholds.overall).value for name in classes])
        self._edges = np.quantile(known.tables[SCORE], np.linspace(0, 1, _TENTHS + 1)[1:-1])
        self._scores: deque[float] = deque(maxlen=max(window, _FEWEST))
        self._accepted: deque[bool] = deque(maxlen=self._scores.maxlen)
        self._fired: deque[int] = deque(maxlen=self._scores.maxlen)
        self._since, self._lock = 0, threading.Lock()
        self._state = Drift(0, 0.0, self._expected, 0.0, None, None, drifted=False)

    @property
    def state(self) -> Drift:
        """What was found at the last look."""
        return self._state

    def add(self, judged: JudgedArrays) -> Drift:
        """Count images (n,), in their order, and return what was found at the last look at the window."""
        accepted = judged.score >= self._thresholds[judged.classes[:, 0]]
        with self._lock:
            for score, passed, row in zip(judged.score, accepted, judged.antibody, strict=True):
                self._scores.append(float(score))
                self._accepted.append(bool(passed))
                self._fired.append(int(row))
                self._since += 1
                if self._since >= _EVERY and len(self._scores) >= _FEWEST:
                    self._state, self._since = self._look(), 0
            if len(self._scores) < _FEWEST:
                self._state = self._few()
            return self._state

    def _few(self) -> Drift:
        n = len(self._scores)
        accepted = sum(self._accepted) / n if n else 0.0
        return Drift(n, accepted, self._expected, self._typicality(), None, None, drifted=False)

    def _typicality(self) -> float:
        scores = np.array(self._scores)
        return float(np.median(self._known.share_below(scores))) if len(scores) else 0.0

    def _look(self) -> Drift:
        scores = np.array(self._scores)
        psi = self._psi(scores)
        p_value = float(ks_2samp(scores, self._known.tables[SCORE], method="asymp").pvalue)
        return Drift(
            images=len(scores),
            accepted=sum(self._accepted) / len(scores),
            expected=self._expected,
            typicality=self._typicality(),
            psi=psi,
            p_value=p_value,
            drifted=psi > _MOST_PSI and p_value < _SURE,
            fired=self._more_often(len(scores)),
        )

    def _psi(self, scores: Floats) -> float:
        counts = np.bincount(np.searchsorted(self._edges, scores, side="right"), minlength=_TENTHS)
        shares = (counts + 0.5) / (len(scores) + _TENTHS / 2)
        return float(((shares - 1 / _TENTHS) * np.log(shares * _TENTHS)).sum())

    def _more_often(self, n: int) -> tuple[tuple[str, float, float], ...]:
        """Antibodies that fire more often than chance allows, by how rare that is among known images."""
        found = []
        for row, count in Counter(row for row in self._fired if row >= 0).items():
            # One image more than there was, so that what never fired may do so once.
            known = (self._known.fired[row] * self._known.images + 1) / (self._known.images + 1)
            if (chance := float(binom.sf(count - 1, n, known))) < _SURE:
                found.append((chance, self._antibodies[row], count / n, float(self._known.fired[row])))
        return tuple((one, share, known) for _, one, share, known in sorted(found)[:_NAMED])

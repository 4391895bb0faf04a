"""What every score is: parameters that are fitted on a Space, and a fitted score that ranks images.

    score = make_score("mcm", temperature=1.0)     # evaluation.scores
    fitted = score.fit(space)
    fitted.score(features)                         # (n,) float64, higher = more in-distribution

A score is one file with one frozen dataclass of parameters (pydantic checks their values) and one `FittedScore`. It
works on float32 embeddings in float64, block by block: memory does not grow with the number of images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from evaluation.blocks import blocks
from evaluation.checks import check_unit_rows
from evaluation.features import FloatArray, IntArray
from evaluation.space import Space

Floats = NDArray[np.float64]

PARAMETERS = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""For the pydantic dataclass of a score's parameters: no text where a number belongs, no unknown name, no NaN."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedScore(ABC):
    """A score ready to rank images. `class_vectors` (K, d) are what it takes the classes to be: texts or prototypes."""

    name: str
    class_vectors: Floats

    @property
    def dim(self) -> int:
        """Dimensions d of the embeddings."""
        return int(self.class_vectors.shape[1])

    @property
    def width(self) -> int:
        """Numbers held per image while scoring; decides how many images a block has."""
        return 2 * len(self.class_vectors) + self.dim

    def score(self, features: FloatArray) -> Floats:
        """Return the scores (n,) of images (n, d), n >= 0.

        Raises SetupError for another d, NaN, and rows that are not of unit norm.
        """
        check_unit_rows(features, what="images to score", dim=self.dim)
        scores = np.empty(len(features))
        for rows in blocks(len(features), self.width):
            scores[rows] = self._score_block(features[rows].astype(np.float64))
        return scores

    def predict(self, features: FloatArray) -> IntArray:
        """Return the nearest class (n,) of images (n, d) by cosine to `class_vectors`; the first of equals.

        Raises SetupError as `score` does.
        """
        check_unit_rows(features, what="images to classify", dim=self.dim)
        nearest = np.empty(len(features), dtype=np.int64)
        for rows in blocks(len(features), self.width):
            nearest[rows] = (features[rows].astype(np.float64) @ self.class_vectors.T).argmax(axis=1)
        return nearest

    @abstractmethod
    def _score_block(self, x: Floats) -> Floats:
        """Scores (b,) of a block of images (b, d)."""


class Score(ABC):
    """A score's parameters; subclasses are frozen dataclasses."""

    name: ClassVar[str]
    uses_bank: ClassVar[bool] = False
    """Whether antibodies change it."""

    @abstractmethod
    def fit(self, space: Space) -> FittedScore:
        """Return the score fitted on what is known. Deterministic."""

    @property
    def params(self) -> dict[str, Any]:
        """Every parameter with the value in force, defaults included."""
        return asdict(self) if is_dataclass(self) else {}


def log_sum_exp(values: Floats) -> Floats:
    """Return log sum exp over the last axis (b, m) -> (b,), without overflow."""
    top = values.max(axis=-1, keepdims=True)
    total: Floats = np.log(np.exp(values - top).sum(axis=-1)) + top[..., 0]
    return total


def top_probability(cosines: Floats, temperature: float) -> Floats:
    """Return max_k softmax_k(c / T) (b,) of cosines (b, K): the MCM score."""
    top = cosines.max(axis=1, keepdims=True)
    probability: Floats = 1.0 / np.exp((cosines - top) / temperature).sum(axis=1)
    return probability

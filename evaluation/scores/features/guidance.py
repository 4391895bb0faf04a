"""NNGuide and fDBD: zero-shot logits weighed by what fit images are near, and by how far the next class is."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from types import MappingProxyType
from typing import Annotated, ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from evaluation.scores.base import PARAMETERS, Choices, FittedScore, Score, fit_images, log_sum_exp
from evaluation.scores.features.distances import FIT_ROWS
from evaluation.space import Space
from immuno_core.arrays import blocks, in_blocks, product
from immuno_core.config.numbers import whole
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray, Floats

_NO_DISTANCE = 1e-8


@dataclass(frozen=True, config=PARAMETERS)
class NnGuide(Score):
    """NNGuide, nearest-neighbour guidance (Park, Jung & Teoh, ICCV 2023, arXiv 2309.14888).

        E(x) = LSE_k s c(x, t_k)
        S(x) = E(x) times the mean of the K largest E(f_i) c(x, f_i)      higher = more in-distribution

    f_i are the fit images, s the logit scale of the encoder. K = 10, the authors' choice for ImageNet. Uses fit images,
    no labels, and class names.

    `k` >= 1; with fewer fit images all of them count.
    """

    name: ClassVar[str] = "nnguide"
    choices: ClassVar[Choices] = MappingProxyType({"k": (10, 1, 2, 5, 20, 50, 100)})
    k: Annotated[int, whole(1)] = 10

    def fit(self, space: Space) -> FittedScore:
        """Take the fit images with their energies. Raises SetupError where there are none."""
        images = fit_images(space, self.name).images.features
        texts = space.logit_scale * space.texts.astype(np.float64)
        energies = in_blocks(images, 2 * len(texts) + space.dim, lambda x: log_sum_exp(product(x, texts)))
        return _FittedNnGuide(
            name=self.name,
            class_vectors=space.texts.astype(np.float64),
            scale=space.logit_scale,
            fit=images,
            energies=energies,
            k=min(self.k, len(images)),
        )


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _FittedNnGuide(FittedScore):
    scale: float
    fit: FloatArray
    """(n, d), n >= k."""
    energies: Floats
    """(n,)"""
    k: int

    @property
    def width(self) -> int:
        return super().width + 3 * (self.k + min(FIT_ROWS, len(self.fit)))

    def _score_block(self, x: Floats) -> Floats:
        nearest = np.empty((len(x), 0))
        for rows in blocks(len(self.fit), 1, most=FIT_ROWS):
            nearest = np.concatenate(
                [nearest, product(x, self.fit[rows].astype(np.float64)) * self.energies[rows]], axis=1
            )
            nearest = np.partition(nearest, max(nearest.shape[1] - self.k, 0), axis=1)[:, -self.k :]
        guided: Floats = log_sum_exp(self.scale * (product(x, self.class_vectors))) * nearest.mean(axis=1)
        return guided


@dataclass(frozen=True, config=PARAMETERS)
class Fdbd(Score):
    """fDBD, fast decision-boundary detection (Liu & Qin, ICML 2024, arXiv 2312.11536).

        S(x) = mean over k != y of  (c(x, t_y) - c(x, t_k)) / |t_y - t_k|,  divided by |x - m|

    Higher = more in-distribution. y is the predicted class, m the mean of the fit images: how far on average the
    boundaries to other classes are, against how far the image is from all. The logit scale cancels. No parameters. Uses
    fit images, no labels, and class names. Of two classes with one text there is no boundary, and its distance is 0.
    """

    name: ClassVar[str] = "fdbd"

    def fit(self, space: Space) -> FittedScore:
        """Take the mean of the fit images. Raises SetupError without fit images, and for a single class."""
        images = fit_images(space, self.name).images.features
        if len(space.classes) < 2:
            raise SetupError(f"the score '{self.name}' measures the way to another class, and there is only one")
        texts, mean = space.texts.astype(np.float64), images.mean(axis=0, dtype=np.float64)
        squares = np.einsum("ij,ij->i", texts, texts)
        apart = np.sqrt(np.maximum(squares[:, None] + squares - 2 * texts @ texts.T, 0))

        def score(x: Floats) -> Floats:
            cosines = product(x, texts)
            nearest = cosines.argmax(axis=1)
            above, between = cosines.max(axis=1)[:, None] - cosines, apart[nearest]
            ways = np.divide(above, between, out=np.zeros_like(above), where=between > _NO_DISTANCE)
            away = np.maximum(np.linalg.norm(x - mean, axis=1), _NO_DISTANCE)
            found: Floats = ways.sum(axis=1) / (len(texts) - 1) / away
            return found

        return self.fitted(space, score)

"""ViM and NECO: how much of an image lies in the principal directions of the fit images, and its logits beside it.

Logits are those of zero-shot classification, s c(x, t_k) with the logit scale s of the encoder: a linear layer without
bias. Both papers tune the number of principal directions to the network; `principal` is their share of the dimensions.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from evaluation.scores.base import PARAMETERS, Choices, FittedScore, Score, fit_images, log_sum_exp
from evaluation.space import Space
from immuno_core.arrays import blocks
from immuno_core.config.numbers import real
from immuno_core.features import FloatArray, Floats

_NO_SPREAD = 1e-12


@dataclass(frozen=True, config=PARAMETERS)
class Vim(Score):
    """ViM, virtual-logit matching (Wang et al., CVPR 2022, arXiv 2203.10807).

        S(x) = LSE_k s c(x, t_k) - alpha |P x|                    higher = more in-distribution
        alpha = mean of max_k s c(x, t_k) / mean of |P x|         over the fit images

    P projects onto what is left of the space without the principal directions of the fit images about the origin (that
    of a layer without bias). The authors keep 512 or 1,000 directions of 768 to 2,048; of a space as small as CLIP's
    half is kept here unless `principal` says otherwise. Uses fit images, no labels, and class names.

    `principal` in (0, 1), the share of the dimensions that is principal; at least one on either side.
    """

    name: ClassVar[str] = "vim"
    choices: ClassVar[Choices] = MappingProxyType({"principal": (0.5, 0.125, 0.25, 0.75, 0.9)})
    principal: Annotated[float, real(gt=0, lt=1)] = 0.5

    def fit(self, space: Space) -> FittedScore:
        """Find the directions and alpha. Raises SetupError without fit images."""
        images = fit_images(space, self.name).images.features
        texts = space.logit_scale * space.texts.astype(np.float64).T
        directions = _directions(images, np.zeros(space.dim), np.ones(space.dim))
        rest = directions[:, _count(self.principal, space.dim) :]
        logit = norm = 0.0
        for rows in blocks(len(images), texts.shape[1] + space.dim):
            x = images[rows].astype(np.float64)
            logit += float((x @ texts).max(axis=1).sum())
            norm += float(np.linalg.norm(x @ rest, axis=1).sum())
        alpha = logit / max(norm, _NO_SPREAD)
        return self.fitted(space, lambda x: log_sum_exp(x @ texts) - alpha * np.linalg.norm(x @ rest, axis=1))


@dataclass(frozen=True, config=PARAMETERS)
class Neco(Score):
    """NECO, neural-collapse inspired detection (Ben Ammar et al., ICLR 2024, arXiv 2310.06823).

        S(x) = |P z| / |z|  max_k s c(x, t_k),   z = (x - m) / sd         higher = more in-distribution

    z is x standardised by mean and deviation of each dimension over the fit images, and P projects onto the first
    principal directions of theirs, as in the authors' code. They tune the number of directions; half of the dimensions
    are kept here unless `principal` says otherwise. Uses fit images, no labels, and class names.

    `principal` in (0, 1), the share of the dimensions that is principal; at least one on either side.
    """

    name: ClassVar[str] = "neco"
    choices: ClassVar[Choices] = MappingProxyType({"principal": (0.5, 0.03, 0.06, 0.125, 0.25, 0.75, 0.9)})
    principal: Annotated[float, real(gt=0, lt=1)] = 0.5

    def fit(self, space: Space) -> FittedScore:
        """Find means, deviations and directions. Raises SetupError without fit images."""
        images = fit_images(space, self.name).images.features
        texts = space.logit_scale * space.texts.astype(np.float64).T
        mean = images.mean(axis=0, dtype=np.float64)
        deviation = images.std(axis=0, dtype=np.float64)
        deviation[deviation < _NO_SPREAD] = 1.0
        kept = _directions(images, mean, deviation)[:, : _count(self.principal, space.dim)]

        def score(x: Floats) -> Floats:
            z = (x - mean) / deviation
            share = np.linalg.norm(z @ kept, axis=1) / np.maximum(np.linalg.norm(z, axis=1), _NO_SPREAD)
            product: Floats = share * (x @ texts).max(axis=1)
            return product

        return self.fitted(space, score)


def _count(share: float, dim: int) -> int:
    """So many of the dimensions."""
    return min(max(round(share * dim), 1), max(dim - 1, 1))


def _directions(images: FloatArray, mean: Floats, deviation: Floats) -> Floats:
    """The principal directions (d, d) of (x - mean) / deviation about 0, as columns, the one with most spread first."""
    dim = images.shape[1]
    scatter = np.zeros((dim, dim))
    for rows in blocks(len(images), 2 * dim):
        z = (images[rows].astype(np.float64) - mean) / deviation
        scatter += z.T @ z
    directions: Floats = np.linalg.eigh(scatter)[1][:, ::-1]
    return directions

"""The scores that need class texts alone: maximum cosine, MSP, MCM, energy, GEN, GL-MCM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from types import MappingProxyType
from typing import Annotated, ClassVar, NoReturn

import numpy as np
from pydantic.dataclasses import dataclass

from evaluation.scores.base import PARAMETERS, Choices, FittedFunction, FittedScore, Score, log_sum_exp, top_probability
from evaluation.space import Space
from immuno_core.arrays import product
from immuno_core.config.numbers import real, whole
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, FloatArray, Floats, LocalRequest


def _on_texts(score: Score, space: Space, of_cosines: Callable[[Floats], Floats]) -> FittedScore:
    """The score that is a function of an image's cosines (b, K) to the class texts."""
    texts = space.texts.astype(np.float64)
    return score.fitted(space, lambda x: of_cosines(product(x, texts)))


@dataclass(frozen=True, config=PARAMETERS)
class MaxLogit(Score):
    """Maximum cosine to a class text: the plain baseline, which often beats MCM. Also known as the max-logit score
    (Hendrycks et al., ICML 2022, arXiv 1911.11132) up to the logit scale, which changes no ranking.

        S(x) = max_k c(x, t_k)                                    higher = more in-distribution

    No parameters. Uses class names only.
    """

    name: ClassVar[str] = "max_logit"
    uses_fit: ClassVar[bool] = False

    def fit(self, space: Space) -> FittedScore:
        """Take the class texts."""
        return _on_texts(self, space, lambda cosines: cosines.max(axis=1))


@dataclass(frozen=True, config=PARAMETERS)
class Msp(Score):
    """MSP, the maximum softmax probability (Hendrycks & Gimpel, ICLR 2017, arXiv 1610.02136), on CLIP's logits.

        S(x) = max_k softmax_k(s c(x, t))                         higher = more in-distribution

    s is the logit scale the encoder was trained to (about 100 for CLIP): the probability that zero-shot classification
    gives its answer. It is the MCM score with T = 1 / s. No parameters. Uses class names only.
    """

    name: ClassVar[str] = "msp"
    uses_fit: ClassVar[bool] = False

    def fit(self, space: Space) -> FittedScore:
        """Take the class texts and the logit scale."""
        return _on_texts(self, space, lambda cosines: top_probability(cosines, 1 / space.logit_scale))


@dataclass(frozen=True, config=PARAMETERS)
class Mcm(Score):
    """MCM, the maximum concept matching score (Ming et al., NeurIPS 2022, arXiv 2211.13445).

        S(x) = max_k softmax_k(c(x, t) / T)                       higher = more in-distribution

    T = 1 on raw cosines (no logit scale), as in the authors' code. Uses class names only.

    `temperature` T > 0.
    """

    name: ClassVar[str] = "mcm"
    uses_fit: ClassVar[bool] = False
    choices: ClassVar[Choices] = MappingProxyType({"temperature": (1.0, 0.3, 0.1, 0.03, 0.01)})
    temperature: Annotated[float, real(ge=1e-6)] = 1.0

    def fit(self, space: Space) -> FittedScore:
        """Take the class texts."""
        return _on_texts(self, space, lambda cosines: top_probability(cosines, self.temperature))


@dataclass(frozen=True, config=PARAMETERS)
class Energy(Score):
    """The energy score (Liu et al., NeurIPS 2020, arXiv 2010.03759), negated, on cosines.

        S(x) = T log sum_k exp(c(x, t_k) / T)                     higher = more in-distribution

    T = 1 on raw cosines as in the comparisons of the MCM line of papers; some use 0.01, the inverse of CLIP's logit
    scale. As T goes to 0 it becomes the maximum cosine. Uses class names only.

    `temperature` T > 0.
    """

    name: ClassVar[str] = "energy"
    uses_fit: ClassVar[bool] = False
    choices: ClassVar[Choices] = MappingProxyType({"temperature": (1.0, 0.3, 0.1, 0.03, 0.01)})
    temperature: Annotated[float, real(ge=1e-6)] = 1.0

    def fit(self, space: Space) -> FittedScore:
        """Take the class texts."""
        return _on_texts(self, space, lambda cosines: self.temperature * log_sum_exp(cosines / self.temperature))


@dataclass(frozen=True, config=PARAMETERS)
class Gen(Score):
    """GEN, the generalised entropy score (Liu, Lochman & Zach, CVPR 2023), negated, on CLIP's logits.

        S(x) = -sum over the M largest p_k of p_k^g (1 - p_k)^g,   p = softmax(s c(x, t))

    Higher = more in-distribution. s is the logit scale the encoder was trained to. g = 0.1 and M = 100, the authors'
    choice for ImageNet's 1,000 classes; with fewer classes than M all of them count. Uses class names only.

    `gamma` g > 0, `most` M >= 1.
    """

    name: ClassVar[str] = "gen"
    uses_fit: ClassVar[bool] = False
    choices: ClassVar[Choices] = MappingProxyType({"gamma": (0.1, 0.01, 0.5, 1.0), "most": (100, 10, 50, 1000)})
    gamma: Annotated[float, real(gt=0)] = 0.1
    most: Annotated[int, whole(1)] = 100

    def fit(self, space: Space) -> FittedScore:
        """Take the class texts and the logit scale."""

        def score(cosines: Floats) -> Floats:
            logits = space.logit_scale * cosines
            p = np.exp(logits - log_sum_exp(logits)[:, None])
            p = np.partition(p, max(p.shape[1] - self.most, 0), axis=1)[:, -self.most :]
            entropy: Floats = (np.maximum(p * (1 - p), 0) ** self.gamma).sum(axis=1)
            return -entropy

        return _on_texts(self, space, score)


@dataclass(frozen=True, config=PARAMETERS)
class GlMcm(Score):
    """GL-MCM (Miyai et al., arXiv 2304.04521, IJCV 2025): MCM of the whole image plus MCM of its best patch.

        S(x) = max_k softmax_k(c(x, t) / T) + lambda max_{i, k} softmax_k(c(x_i, t) / T)

    Higher = more in-distribution. x_i are the patches of the image, embedded in the space of the texts
    (cluster.encoder.patches). T = 1 on raw cosines and lambda = 1, the paper's; the authors' script for ImageNet takes
    lambda = 0.5. Uses class names only.

    The second term needs the images themselves, so it is computed where they are embedded: `local_request` says what,
    `Embedder.local_matching` does it, and `score_set` finds the answer in `FeatureSet.local`. Only a CLIP ViT or ResNet
    has such patches.

    `temperature` T > 0, `lambda_local` >= 0.
    """

    name: ClassVar[str] = "gl_mcm"
    uses_fit: ClassVar[bool] = False
    choices: ClassVar[Choices] = MappingProxyType({"lambda_local": (1.0, 0.5, 0.25, 0.0)})
    temperature: Annotated[float, real(ge=1e-6)] = 1.0
    lambda_local: Annotated[float, real(ge=0)] = 1.0

    def local_request(self, space: Space) -> LocalRequest:
        """Ask for the best match of a patch with a class text."""
        return LocalRequest(space.texts, self.temperature)

    def fit(self, space: Space) -> FittedScore:
        """Take the class texts."""
        whole = _on_texts(self, space, lambda cosines: top_probability(cosines, self.temperature))
        return _FittedGlMcm(**vars(whole), lambda_local=self.lambda_local, key=self.local_request(space).key)


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _FittedGlMcm(FittedFunction):
    lambda_local: float
    key: str
    """Where FeatureSet.local holds the local term."""

    def score(self, features: FloatArray) -> NoReturn:  # noqa: ARG002 - the signature of every score
        """Raise SetupError: embeddings alone say nothing of patches."""
        raise SetupError(
            "the score 'gl_mcm' looks at the patches of images, which their embeddings do not hold; "
            "score an embedded set whose `local` has the answer of Embedder.local_matching (score_set)"
        )

    def score_set(self, images: FeatureSet) -> Floats:
        """Return the scores (n,) of a set with its local term. Raises SetupError where that is missing."""
        local = images.local.get(self.key)
        if local is None:
            raise SetupError(
                f"set '{images.name}' lacks what the score 'gl_mcm' needs of its patches; "
                "add the answer of Embedder.local_matching to its `local`"
            )
        if local.shape != (len(images),) or not np.isfinite(local).all():
            raise SetupError(
                f"set '{images.name}': the local term is not {len(images)} finite numbers; ask for it again"
            )
        return super().score(images.features) + self.lambda_local * local

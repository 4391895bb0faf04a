"""GL-MCM (Miyai et al., arXiv 2304.04521, IJCV 2025): MCM of the whole image plus MCM of its best patch.

    S(x) = max_k softmax_k(c(x, t) / T) + lambda max_{i, k} softmax_k(c(x_i, t) / T)      higher = more in-distribution

x_i are the patches of the image, embedded in the space of the texts (cluster.patches). T = 1 on raw cosines and
lambda = 1, the paper's; the authors' script for ImageNet takes lambda = 0.5. Uses class names only.

The second term needs the images themselves, so it is computed where they are embedded: `local_request` says what,
`Embedder.local_matching` does it, and `score_set` finds the answer in `FeatureSet.local`. Only a CLIP ViT or ResNet
has such patches.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, ClassVar, NoReturn

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from evaluation.features import FeatureSet, FloatArray, LocalRequest
from evaluation.scores.base import PARAMETERS, FittedScore, Floats, Score, top_probability
from evaluation.space import Space
from immuno.errors import SetupError


@dataclass(frozen=True, config=PARAMETERS)
class GlMcm(Score):
    """Global and local maximum concept matching. `temperature` T > 0, `lambda_local` >= 0."""

    name: ClassVar[str] = "gl_mcm"
    temperature: Annotated[float, Field(gt=0)] = 1.0
    lambda_local: Annotated[float, Field(ge=0)] = 1.0

    def local_request(self, space: Space) -> LocalRequest:
        """Ask for the best match of a patch with a class text."""
        return LocalRequest(space.texts, self.temperature)

    def fit(self, space: Space) -> FittedScore:
        """Take the class texts."""
        return _Fitted(
            name=self.name,
            class_vectors=space.texts.astype(np.float64),
            temperature=self.temperature,
            lambda_local=self.lambda_local,
            key=self.local_request(space).key,
        )


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _Fitted(FittedScore):
    temperature: float
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

    def _score_block(self, x: Floats) -> Floats:
        """The global term (b,)."""
        return top_probability(x @ self.class_vectors.T, self.temperature)

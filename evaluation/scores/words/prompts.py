"""The rivals that need texts of their own: CMA's neutral prompts, and NegRefine's texts of two things at once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NoReturn

import numpy as np
from pydantic.dataclasses import dataclass
from scipy.special import expit

from evaluation.antibodies.mining import CSP_TEMPLATES, ensemble
from evaluation.scores.base import PARAMETERS, Choices, FittedScore, Score, log_sum_exp
from evaluation.scores.negative_labels import FittedGroups, NegLabel, Templates
from evaluation.space import Space
from immuno_core.arrays import blocks
from immuno_core.config.methods import Arm
from immuno_core.config.numbers import real, whole
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, FloatArray, Floats, IntArray, TextEmbedder
from immuno_core.records import text_digest


@dataclass(frozen=True, config=PARAMETERS)
class Cma(Score):
    """CMA, concept matching with agents (Lee et al., AAAI 2025, arXiv 2405.16766): MCM with neutral prompts beside it.

        S(x) = max_k e^{c(x, t_k) / T} / (sum_k e^{c(x, t_k) / T} + r K / P sum_p e^{c(x, n_p) / T})

    Higher = more in-distribution. n_p are P prompts that name nothing ("a photo of a thing.", the arm "neutral"), which
    attract what is no class. As in the authors' code there is one for each class (r = 1), the same ones again and again
    where they are fewer. T = 1 as for MCM, whose code theirs is built on.

    `temperature` T > 0; `ratio` r > 0.
    """

    name: ClassVar[str] = "cma"
    uses_fit: ClassVar[bool] = False
    uses_bank: ClassVar[bool] = True
    choices: ClassVar[Choices] = MappingProxyType(
        {"temperature": (1.0, 0.3, 0.1, 0.03, 0.01), "ratio": (1.0, 0.01, 0.1, 10.0)}
    )
    default_arm: ClassVar[Arm] = "neutral"
    temperature: Annotated[float, real(ge=1e-6)] = 1.0
    ratio: Annotated[float, real(gt=0)] = 1.0

    def fit(self, space: Space) -> FittedScore:
        """Take the class texts and the prompts."""
        texts, prompts = (rows.astype(np.float64).T / self.temperature for rows in (space.texts, space.bank.vectors))
        weight = np.log(self.ratio * texts.shape[1] / max(prompts.shape[1], 1))

        def score(x: Floats) -> Floats:
            known = x @ texts
            every = log_sum_exp(np.append(known, weight + x @ prompts, axis=1))
            share: Floats = np.exp(known.max(axis=1) - every)
            return share

        return self.fitted(space, score)


@dataclass(frozen=True, config=PARAMETERS)
class NegRefine(Score):
    """NegRefine (Ansari et al., ICCV 2025, arXiv 2507.09795): NegLabel, and a second look at images of two things.

        S(x) = NegLabel(x) + w max over p, n of  e^{s c(x, t(p and n))} / (e^{s c(x, t(p and n))} + e^{s c(x, n)})

    Higher = more in-distribution. p are the classes and n the words nearest to the image, `top` of each; where a text
    that names both fits better than the word alone, the image shows a known thing beside something else. w = 2, top = 5
    and the logit scale s, as in the authors' code, and NegLabel with its settings on CSP's words and templates. The
    authors have a language model drop proper nouns and sub-categories of classes from the words first; what is here is
    the score. The texts are made for each image, so an encoder is needed: `prepared`.

    `tau`, `groups`, `least` are NegLabel's; `weight` w >= 0; `top` >= 1.
    """

    name: ClassVar[str] = "negrefine"
    uses_fit: ClassVar[bool] = False
    uses_bank: ClassVar[bool] = True
    default_arm: ClassVar[Arm] = "csp"
    choices: ClassVar[Choices] = MappingProxyType({"weight": (2.0, 0.25, 0.5, 1.0, 4.0)})
    tau: Annotated[float, real(ge=1e-6)] = 0.01
    groups: Annotated[int, whole(1)] = 100
    least: Annotated[int, whole(1)] = 50
    weight: Annotated[float, real(ge=0)] = 2.0
    top: Annotated[int, whole(1)] = 5
    templates: Templates = CSP_TEMPLATES

    def fit(self, space: Space) -> FittedScore:
        """Fit NegLabel."""
        plain = NegLabel(tau=self.tau, groups=self.groups, least=self.least).fit(space)
        return _FittedNegRefine(
            name=self.name, class_vectors=plain.class_vectors, plain=plain, weight=self.weight, key=self._key(space)
        )

    def prepared(self, images: FeatureSet, space: Space, embedder: TextEmbedder | None) -> FeatureSet:
        """Add the second term of every image, from texts embedded for it."""
        key = self._key(space)
        if key in images.local or not len(space.bank):
            return images
        if embedder is None:
            raise SetupError("it embeds texts for each image, and so needs an encoder")
        texts, words = space.texts.astype(np.float64).T, space.bank.vectors.astype(np.float64).T
        found = np.empty(len(images))
        for rows in blocks(len(images), texts.shape[1] + words.shape[1] + self.top**2 * space.dim):
            x = images.features[rows].astype(np.float64)
            (known, _), (negative, beside) = (_largest(x @ each, self.top) for each in (texts, words))
            pairs = known[:, :, None] * words.shape[1] + negative[:, None, :]
            distinct, place = np.unique(pairs, return_inverse=True)
            both = [divmod(int(pair), words.shape[1]) for pair in distinct]
            said = [f"{space.classes[k]} and {space.bank.texts[j]}" for k, j in both]
            vectors = ensemble(embedder, self.templates, said)[place.reshape(len(x), -1)].astype(np.float64)
            cosines = np.einsum("ij,ipj->ip", x, vectors).reshape(pairs.shape)
            found[rows] = expit(space.logit_scale * (cosines - beside[:, None, :])).max(axis=(1, 2))
        return replace(images, local={**images.local, key: found})

    def _key(self, space: Space) -> str:
        vectors = (hashlib.sha256(rows.tobytes()).hexdigest() for rows in (space.texts, space.bank.vectors))
        said = text_digest(*self.templates), text_digest(*space.classes), text_digest(*space.bank.texts)
        return text_digest(self.name, str(self.top), *said, *vectors)


def _largest(cosines: Floats, top: int) -> tuple[IntArray, Floats]:
    """The places (b, top) of the largest of each row, and their values; all where there are fewer."""
    places = np.argsort(-cosines, axis=1, kind="stable")[:, :top]
    return places, np.take_along_axis(cosines, places, axis=1)


@plain_dataclass(frozen=True, eq=False, kw_only=True)
class _FittedNegRefine(FittedScore):
    plain: FittedGroups
    weight: float
    key: str
    """Where FeatureSet.local holds the second term."""

    @property
    def chosen(self) -> dict[str, Any]:
        return self.plain.chosen

    @property
    def remarks(self) -> tuple[str, ...]:
        return self.plain.remarks

    def score(self, features: FloatArray) -> NoReturn:  # noqa: ARG002 - the signature of every score
        """Raise SetupError: embeddings of images alone say nothing of texts."""
        raise SetupError(
            "the score 'negrefine' embeds texts for each image; score an embedded set that NegRefine.prepared gave"
        )

    def score_set(self, images: FeatureSet) -> Floats:
        """Return the scores (n,) of a set with its second term. Raises SetupError where that is missing."""
        plain = self.plain.score(images.features)
        if not len(self.plain.bank):
            return plain
        if self.key not in images.local:
            raise SetupError(f"set '{images.name}' lacks the second term of the score 'negrefine' (NegRefine.prepared)")
        return plain + self.weight * images.local[self.key]

    def _score_block(self, x: Floats) -> Floats:
        raise NotImplementedError  # `score` is refused

"""An encoder of kind "precomputed": texts are looked up in a table, images come with their embeddings. No model runs.

    [encoder]
    kind = "precomputed"
    texts = "texts.npz"       # arrays `texts` (n,) strings and `features` (n, d); or texts.safetensors with the tensor
    logit_scale = 100.0       # `features`, and texts.json beside it: {"texts": ["a photo of a tench.", ...]}

Image sets are feature files (evaluation.data.feature_files).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from evaluation.antibodies.vocabulary import seen_templates
from evaluation.data.feature_files import SUFFIXES, is_feature_set, read_feature_set, read_features, read_names
from immuno_core.config.run import EncoderConfig
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, FloatArray, LocalRequest
from immuno_core.records import EncoderInfo, ImageSet, text_digest
from immuno_core.text import composed

DEFAULT_LOGIT_SCALE = 100.0
"""CLIP's, and nearly that of every model trained since."""


class PrecomputedEmbedder:
    """`immuno_core.features.Embedder` over a table of texts; also a context manager, like the embedders with a model.

    Reads the table at once. Raises SetupError for a file that is missing or malformed, for rows that are not finite or
    have no direction, and for a text with two different embeddings.
    """

    def __init__(self, config: EncoderConfig) -> None:
        path = config.texts
        if path is None:
            raise SetupError('kind = "precomputed" needs texts, a table such as "texts.npz"')
        if path.suffix.lower() not in SUFFIXES:
            raise SetupError(f"{path} is no table of texts; give an .npz or a .safetensors file")
        self._path = path
        self._features = read_features(path)
        names = read_names(path, "texts", len(self._features))
        self._rows: dict[str, int] = {}
        for row, text in enumerate(map(composed, names)):
            first = self._rows.setdefault(text, row)
            if not np.array_equal(self._features[first], self._features[row]):
                raise SetupError(f"{path}: rows {first} and {row} are two embeddings of {text!r}; keep one of them")
        scale = DEFAULT_LOGIT_SCALE if config.logit_scale is None else config.logit_scale
        self._info = EncoderInfo(
            model=config.model or "precomputed",
            pretrained=config.pretrained,
            dim=self._features.shape[1],
            logit_scale=scale,
            image_size=0,
            precision="fp32",
            weights_digest=text_digest("precomputed", _content_digest(path), repr(scale)),
            preprocess_digest=text_digest("precomputed"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """There is nothing to let go of."""

    @property
    def encoder(self) -> EncoderInfo:
        """What fixes the embeddings: its digest is over the table's content."""
        return self._info

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts of the table: nothing else can be embedded."""
        return tuple(self._rows)

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Return (len(texts), d) float32 unit rows. Raises SetupError for texts that are not in the table."""
        texts = [composed(text) for text in texts]
        missing = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if missing:
            others = f" and {len(missing) - 1} more of the {len(texts)} asked for" if len(missing) > 1 else ""
            raise SetupError(
                f"the table {self._path} has no embedding of {missing[0]!r}{others}; its texts look like "
                f"{seen_templates(self._rows)}: set the template of classes or antibodies to that, add the texts, or "
                "use an encoder that runs a model"
            )
        return self._features[[self._rows[text] for text in texts]]

    def cut_texts(self, texts: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002
        """None: what the table holds was embedded elsewhere."""
        return ()

    def embed_images(self, images: ImageSet) -> FeatureSet:
        """Return the embeddings of a set that comes with them. Raises SetupError for a set of images."""
        if not is_feature_set(images):
            raise SetupError(
                f"set '{images.name}' has images, which an encoder of kind precomputed cannot embed; give their "
                'embeddings as features = "....npz"'
            )
        return read_feature_set(images, dim=self._info.dim)

    def local_matching(self, images: FeatureSet, request: LocalRequest) -> NDArray[np.float64]:  # noqa: ARG002
        """Raise SetupError: patches are embedded by a model only."""
        raise SetupError(
            f"set '{images.name}': an encoder of kind precomputed has no patch embeddings; leave out the scores that "
            "need them (gl_mcm), or use an encoder that runs a model"
        )


def _content_digest(path: Path) -> str:
    """SHA-256 over the table, and over the names beside it where it is a .safetensors."""
    digest = hashlib.sha256()
    for part in (path, path.with_suffix(".json")) if path.suffix.lower() == ".safetensors" else (path,):
        if part.exists():
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()

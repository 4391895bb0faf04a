"""The embedder that a configuration asks for."""

from __future__ import annotations

from contextlib import AbstractContextManager

from cluster.embedder import RayEmbedder
from cluster.journal import Journal
from cluster.progress import ProgressReport
from evaluation.features import Embedder
from evaluation.precomputed import PrecomputedEmbedder
from immuno.config import ClusterConfig, EncoderConfig


def make_embedder(
    encoder: EncoderConfig,
    cluster: ClusterConfig,
    *,
    ray_address: str | None = None,
    progress: ProgressReport | Journal | None = None,
) -> AbstractContextManager[Embedder]:
    """Return the embedder of an encoder, a context manager: through Ray, or of a table without any model.

    Neither loads a model or starts Ray before there is something to embed. Raises SetupError for a bad table.
    """
    if encoder.kind == "precomputed":
        return PrecomputedEmbedder(encoder)
    return RayEmbedder(encoder, cluster, ray_address=ray_address, progress=progress)

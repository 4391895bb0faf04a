"""What was asked of the patches of a shard's images: one number per image, stored; the patches themselves never are.

The key covers the shard (so the encoder and the files) and the request (texts and temperature).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cluster.shards import Shard
from cluster.store import EmbeddingStore
from evaluation.features import LocalRequest
from immuno.records import EncoderInfo, text_digest


def write_local(
    store: EmbeddingStore, encoder: EncoderInfo, shard: Shard, request: LocalRequest, values: NDArray[np.float64]
) -> None:
    """Store the answer (n,) for a shard of n images. Raises SetupError where the store refuses it."""
    key = _key(shard, request)
    store.write_values(_name(store, encoder, key), values, {"key": key, "encoder": encoder.digest})


def read_local(
    store: EmbeddingStore, encoder: EncoderInfo, shard: Shard, request: LocalRequest
) -> NDArray[np.float64] | None:
    """Return the stored answer (n,) for a shard; None where there is none, or not a whole one."""
    key = _key(shard, request)
    stored = store.read_values(_name(store, encoder, key))
    if stored is None or stored.metadata != {"key": key, "encoder": encoder.digest}:
        return None
    return stored.values if len(stored.values) == len(shard.paths) else None


def _key(shard: Shard, request: LocalRequest) -> str:
    return text_digest("local", shard.key, request.key)


def _name(store: EmbeddingStore, encoder: EncoderInfo, key: str) -> str:
    return store.name("local", encoder, key)

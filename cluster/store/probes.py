"""Probes: what an encoder gives for a few texts and images that never change, stored beside its embeddings.

An encoder's digest is over what it is made of: weights, architecture, preprocessing, precision. It cannot be over what
comes out, since processors, numbers of threads and versions round differently, and what is rounded to a grid once may
fall to its other side. But a library may make something else of the same files. So whenever a model is loaded its
probes are compared with the stored ones, within a tolerance that is far above rounding and far below another model.
"""

from __future__ import annotations

import contextlib
import json
from typing import Final

import numpy as np

from cluster.store.store import EmbeddingStore
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray
from immuno_core.records import EncoderInfo, text_digest
from immuno_core.text import read_json
from immuno_core.versions import versions

_TOLERANCE: Final = {"fp32": 2e-3, "fp16": 2e-2, "bf16": 1e-1}
"""How far apart two unit rows of one input may be, by the precision of the model."""


def agree(first: FloatArray, second: FloatArray, precision: str) -> bool:
    """Whether unit rows (n, d) may be those of the same inputs and the same encoder: they differ by rounding only."""
    return first.shape == second.shape and bool(
        (np.linalg.norm(first - second, axis=-1) <= _TOLERANCE[precision]).all()
    )


def check_probes(store: EmbeddingStore, encoder: EncoderInfo, probes: FloatArray) -> None:
    """Compare an encoder's probes (n, d) with the stored ones, or store them where there are none.

    Raises SetupError where they differ: embeddings from now on would not go with the stored ones.
    """
    if not np.isfinite(probes).all():
        return  # in half precision; each image is looked at then
    key = text_digest("probes 1", encoder.digest)
    name = store.name("probes", encoder, key)
    known = store.read_rows(name, encoder.dim)
    if known is None or known.metadata.get("encoder") != encoder.digest:
        made_with = {"key": key, "encoder": encoder.digest, "versions": json.dumps(versions())}
        with contextlib.suppress(SetupError):  # a store that cannot be written can be read
            store.write_rows(name, probes, made_with)
    elif not agree(known.array, probes, encoder.precision):
        before, now = read_json(known.metadata.get("versions", "{}")), versions()
        changed = ", ".join(f"{one} {before.get(one)} is now {now[one]}" for one in now if before.get(one) != now[one])
        raise SetupError(
            f"the encoder '{encoder.model}' no longer gives the embeddings that are stored in {store.place}, although "
            f"its files are the same ({changed or 'no version has changed'}): go back to what it was embedded with, or "
            "name another place as [cluster] store"
        )

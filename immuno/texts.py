"""Embeds the stored texts of a session that have no embedding of an encoder, and stores what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from db.embedding import add_embeddings, unembedded
from evaluation.classes import fill_template
from immuno.config import read_config

if TYPE_CHECKING:
    from db.store import AntibodyStore

_AT_ONCE = 4096
"""Texts in one transaction: what was embedded before a stop is kept."""


def embed_session(store: AntibodyStore, name: str, config_file: Path, *, ray_address: str | None = None) -> int:
    """Embed a session's texts with the encoder and the antibodies' template of a configuration; return how many.

    Texts that have an embedding of that encoder are left alone. Raises SetupError for an unknown session.
    """
    from cluster.factory import make_embedder
    from cluster.progress import RichProgress

    session, config = store.session(name), read_config(config_file)
    embedded = 0
    with make_embedder(config.encoder, config.cluster, ray_address=ray_address, progress=RichProgress()) as embedder:
        encoder = embedder.encoder
        missing = unembedded(store, session.id, encoder.digest)
        for some in (missing[start : start + _AT_ONCE] for start in range(0, len(missing), _AT_ONCE)):
            texts = fill_template(config.antibodies.template, [one.text for one in some])
            vectors = embedder.embed_texts(texts)
            embedded += add_embeddings(store, encoder, dict(zip((one.id for one in some), vectors, strict=True)))
    return embedded

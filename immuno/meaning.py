"""Any text as a session's encoder embeds it, to search the record by meaning. In this process: no Ray is started."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from db import SessionRecord
from db.exchange.banks import is_imported
from evaluation.data.precomputed import PrecomputedEmbedder
from immuno_core.config.run import RunConfig, parse_config
from immuno_core.errors import SetupError
from immuno_core.text import fill_template

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from immuno_core.features import Embedder


def config_of(session: SessionRecord) -> RunConfig:
    """Return the configuration that a session was started with. Raises SetupError for an imported bank: it has none."""
    if is_imported(session):
        raise SetupError(
            f"session '{session.name}' is an imported bank, which has no configuration; name one of the loop"
        )
    return parse_config(session.config, origin=f"session '{session.name}'", folder=Path())


class Meaning:
    """The encoder of a configuration; its model is loaded with the first text."""

    def __init__(self, config: RunConfig) -> None:
        """Raises SetupError for a bad table of texts."""
        self._template = config.antibodies.template
        self._embedder = _embedder(config)

    def digest_in(self, digests: tuple[str, ...]) -> str:
        """Return by which of these digests antibodies of this encoder are on record. Raises SetupError for none."""
        own = self._embedder.encoder
        for digest in (own.digest, own.older.digest):
            if digest in digests:
                return digest
        raise SetupError(f"nothing on record is of the encoder that the configuration names now ({own.model})")

    def vector(self, text: str) -> NDArray[np.float32]:
        """Return the (d,) embedding of a text. Raises SetupError for an encoder that cannot be loaded, and no text."""
        if not text.strip():
            raise SetupError("there is no text to look for")
        vector: NDArray[np.float32] = self._embedder.embed_texts(fill_template(self._template, [text]))[0]
        return vector


def _embedder(config: RunConfig) -> Embedder:
    from cluster import EncoderSpec, LocalEmbedder

    if config.encoder.kind == "precomputed":
        return PrecomputedEmbedder(config.encoder)
    return LocalEmbedder(EncoderSpec.from_config(config.encoder))

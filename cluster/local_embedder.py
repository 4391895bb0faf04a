"""The embedder of one process: an actor without Ray, for tests, notebooks and small sets."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Literal

from cluster.actors.actor import ActorSettings, EmbeddingActor
from cluster.actors.schedule import Work
from cluster.embedder import StoredEmbedder
from cluster.encoder.spec import EncoderSpec
from cluster.journal import Journal
from cluster.store.shards import FileIdentity
from cluster.store.store import EmbeddingStore, StoreDtype
from immuno_core.progress import ProgressReport
from immuno_core.system.temporary import OwnedFolder


class LocalEmbedder(StoredEmbedder):
    """Embeds in this process, without Ray; the model is loaded when there is something to embed."""

    def __init__(
        self,
        spec: EncoderSpec,
        store: Path | str | None = None,
        *,
        batch_size: int | Literal["auto"] = "auto",
        shard_size: int = 256,
        store_dtype: StoreDtype = "float32",
        file_identity: FileIdentity = "mtime",
        progress: ProgressReport | Journal | None = None,
    ) -> None:
        """Without a `store`, what is embedded is kept in a temporary folder as long as this object lives."""
        if store is None:
            folder = OwnedFolder("store-")
            weakref.finalize(self, folder.cleanup)
            store = folder.path
        super().__init__(spec, EmbeddingStore(store, dtype=store_dtype), shard_size, progress, file_identity)
        self._settings = ActorSettings(self.spec, batch_size, store=self.store.place)
        self._actor = EmbeddingActor(self._settings)

    def close(self) -> None:
        """Let go of the model. What is stored stays."""
        self._actor = EmbeddingActor(self._settings)

    def _run(self, work: Sequence[Work]) -> Generator[tuple[int, Any], None, None]:
        for index, piece in enumerate(work):
            yield index, getattr(self._actor, piece.method)(*piece.arguments)

"""The embedder of one process, without Ray: for tests, notebooks and small sets."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cluster.embedder import StoredEmbedder
from cluster.encoder.spec import EncoderSpec, require_same
from cluster.journal import Journal
from cluster.records import EmbeddedImages
from cluster.store.shards import FileIdentity, Shard, write_local, write_shard
from cluster.store.store import EmbeddingStore, StoreDtype
from immuno_core.features import FloatArray, LocalRequest
from immuno_core.progress import ProgressReport
from immuno_core.records import EncoderInfo

if TYPE_CHECKING:
    from cluster.encoder.encoder import Encoder


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
            store = Path(tempfile.mkdtemp(prefix="immuno-store-"))
            weakref.finalize(self, shutil.rmtree, store, ignore_errors=True)
        super().__init__(spec, EmbeddingStore(store, dtype=store_dtype), shard_size, progress, file_identity)
        self._batch_size = batch_size
        self._model: Encoder | None = None

    def close(self) -> None:
        """Let go of the model. What is stored stays."""
        self._model = None

    def _load_info(self) -> EncoderInfo:
        return self._loaded().info

    def _run_texts(self, batches: Sequence[list[str]]) -> Generator[tuple[int, FloatArray], None, None]:
        model = self._loaded(self.encoder)
        for i, batch in enumerate(batches):
            yield i, model.embed_texts(batch)

    def _run_shards(self, shards: Sequence[Shard]) -> Generator[tuple[int, EmbeddedImages], None, None]:
        model = self._loaded(self.encoder)
        for i, shard in enumerate(shards):
            embedded = model.embed_image_files(shard.paths)
            yield i, write_shard(self.store, model.info, shard, embedded)

    def _run_local(
        self, shards: Sequence[Shard], request: LocalRequest
    ) -> Generator[tuple[int, NDArray[np.float64]], None, None]:
        model = self._loaded(self.encoder)
        for i, shard in enumerate(shards):
            values = model.match_patches(shard.paths, request)
            write_local(self.store, model.info, shard, request, values)
            yield i, values

    def _loaded(self, expected: EncoderInfo | None = None) -> Encoder:
        if self._model is None:
            from cluster.encoder.encoder import load_encoder

            self._model = load_encoder(self.spec, batch_size=self._batch_size)
        if expected is not None:
            require_same(self._model.info, expected)
        return self._model

"""The embedder that a configuration asks for.

It looks into the store first (`cluster.embedder`). What is there is read back; only what is missing is embedded, and
for that alone a model is loaded and Ray started.

    with RayEmbedder(config.encoder, config.cluster) as embedder:
        texts = embedder.embed_texts(["a photo of a cat."])
        features = embedder.embed_images(images)
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from cluster.actors.actor import ActorSettings, plan_decode_threads
from cluster.actors.pool import EmbeddingPool, plan_actors
from cluster.actors.preflight import check_machines
from cluster.actors.runtime import connect, node_resources
from cluster.actors.schedule import Work
from cluster.embedder import StoredEmbedder
from cluster.encoder.spec import EncoderSpec
from cluster.journal import Journal
from cluster.store.store import EmbeddingStore, default_store_root
from evaluation.data.precomputed import PrecomputedEmbedder
from immuno_core.config.run import ClusterConfig, EncoderConfig
from immuno_core.errors import SetupError
from immuno_core.features import Embedder, LocalRequest
from immuno_core.progress import ProgressReport


class RayEmbedder(StoredEmbedder):
    """Embeds on Ray actors, started when there is something to embed and not before.

    Leaving its `with` block kills the actors, and shuts down Ray if it was started here.
    """

    def __init__(
        self,
        config: EncoderConfig,
        cluster: ClusterConfig,
        *,
        ray_address: str | None = None,
        progress: ProgressReport | Journal | None = None,
    ) -> None:
        """`ray_address` as `cluster.actors.runtime.connect` takes it: None: $RAY_ADDRESS, else a private cluster."""
        store = EmbeddingStore(cluster.store or default_store_root(), dtype=cluster.store_dtype)
        if store.place.startswith("memory://"):
            raise SetupError(
                f"the embedding store {store.place} is within one process, and the actors are others; name a folder or "
                "an object store (s3://...) as [cluster] store"
            )
        super().__init__(EncoderSpec.from_config(config), store, cluster.shard_size, progress, cluster.file_identity)
        self._cluster = cluster
        self._batch_size = config.batch_size
        self._ray_address = ray_address
        self._resources = contextlib.ExitStack()
        self._pool: EmbeddingPool | None = None

    def close(self) -> None:
        """Kill the actors, and shut down Ray if it was started here. What is stored stays; may be called twice."""
        self._pool = None
        self._resources.close()

    def _run(self, work: Sequence[Work]) -> Generator[tuple[int, Any], None, None]:
        return self.started().run(work)

    def _shared(self, request: LocalRequest) -> Any:
        import ray

        self.started()
        # Put once: with a thousand classes the texts are megabytes, and there may be a thousand shards.
        return ray.put(request)

    def started(self) -> EmbeddingPool:
        """Return the actors' pool; Ray is joined or started the first time. Raises SetupError where that fails."""
        if self._pool is None:
            self.journal.progress.note(f"starting Ray actors that load the encoder '{self.spec.label}'")
            with contextlib.ExitStack() as stack:
                stack.enter_context(connect(self._ray_address))
                mark = self.store.leave_mark()
                stack.callback(self.store.remove_mark, mark)
                nodes = node_resources()
                plan = plan_actors(self._cluster, self.spec.device, nodes)
                check_machines(self.spec, num_cpus=plan.num_cpus, num_gpus=plan.num_gpus, store=self.store.place)
                settings = ActorSettings(
                    spec=self.spec,
                    batch_size=self._batch_size,
                    threads=max(1, int(plan.num_cpus)),
                    gpus=plan.num_gpus,
                    decode_threads=plan_decode_threads(self._cluster, plan.num_gpus, nodes),
                    store=self.store.place,
                    mark=mark,
                    store_dtype=self.store.dtype,
                )
                self._pool = EmbeddingPool(plan, settings, self.journal, hung_seconds=self._cluster.hung_seconds)
                stack.callback(self._pool.close)
                self._resources = stack.pop_all()
        return self._pool


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

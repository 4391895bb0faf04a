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

import numpy as np
from numpy.typing import NDArray

from cluster.actors.actor import ActorSettings, ShardReceipt, plan_decode_threads
from cluster.actors.pool import EmbeddingPool, plan_actors
from cluster.actors.preflight import check_machines
from cluster.actors.runtime import connect, node_resources
from cluster.actors.schedule import Work
from cluster.embedder import StoredEmbedder
from cluster.encoder.spec import EncoderSpec
from cluster.journal import Journal
from cluster.records import EmbeddedImages
from cluster.store.shards import Shard, read_local, read_shard, write_local, write_shard
from cluster.store.store import EmbeddingStore, default_store_root
from evaluation.data.precomputed import PrecomputedEmbedder
from immuno_core.config.run import ClusterConfig, EncoderConfig
from immuno_core.errors import SetupError
from immuno_core.features import Embedder, FloatArray, LocalRequest
from immuno_core.progress import ProgressReport
from immuno_core.records import EncoderInfo


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

    def _load_info(self) -> EncoderInfo:
        if self.spec.is_architecture:
            # A mistyped name is cheaper to find here than after a cluster has been started.
            from cluster.encoder.loading import check_names

            check_names(self.spec)
        with contextlib.closing(self.started().run([Work("info", (), f"loading '{self.spec.label}'")])) as run:
            info: EncoderInfo = next(run)[1]
        return info

    def _run_texts(self, batches: Sequence[list[str]]) -> Generator[tuple[int, FloatArray], None, None]:
        work = [Work("embed_texts", (batch, self.encoder), f"the texts from {batch[0]!r} on") for batch in batches]
        with contextlib.closing(self.started().run(work)) as run:
            yield from run

    def _run_shards(self, shards: Sequence[Shard]) -> Generator[tuple[int, EmbeddedImages], None, None]:
        encoder = self.encoder
        work = [
            Work("embed_shard", (shard, encoder), f"the images from {shard.paths[0]} on", images=shard.paths)
            for shard in shards
        ]
        with contextlib.closing(self.started().run(work)) as run:
            for index, receipt in run:
                yield index, self._collect(shards[index], receipt)

    def _run_local(
        self, shards: Sequence[Shard], request: LocalRequest
    ) -> Generator[tuple[int, NDArray[np.float64]], None, None]:
        import ray

        encoder, pool = self.encoder, self.started()
        # Put once: with a thousand classes the texts are megabytes, and there may be a thousand shards.
        held = ray.put(request)
        work = [
            Work("match_patches", (shard, encoder, held), f"the patches of the images from {shard.paths[0]} on")
            for shard in shards
        ]
        with contextlib.closing(pool.run(work)) as run:
            for index, values in run:
                if values is not None:
                    write_local(self.store, encoder, shards[index], request, values)
                answer = read_local(self.store, encoder, shards[index], request)
                if answer is None:
                    raise self._lost()
                yield index, answer

    def _collect(self, shard: Shard, receipt: ShardReceipt) -> EmbeddedImages:
        """Return a shard's embeddings, which by now are in the store."""
        if receipt.embedded is not None:
            return write_shard(self.store, self.encoder, shard, receipt.embedded)
        embedded = read_shard(self.store, self.encoder, shard)
        if embedded is None:
            raise self._lost()
        return embedded

    def started(self) -> EmbeddingPool:
        """Return the actors' pool; Ray is joined or started the first time. Raises SetupError where that fails."""
        if self._pool is None:
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
                    use_gpu=plan.num_gpus > 0,
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

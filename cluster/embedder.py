"""The embedders that the rest of the system uses: through Ray, or in this process.

Both look into the store first. What is there is read back; only what is missing is embedded, and for that alone a model
is loaded and Ray started.

    with RayEmbedder(config.encoder, config.cluster) as embedder:
        texts = embedder.embed_texts(["a photo of a cat."])
        features = embedder.embed_images(images)
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from cluster.actor import ActorSettings, ShardReceipt, plan_decode_threads
from cluster.images import EmbeddedImages
from cluster.local import read_local, write_local
from cluster.pool import EmbeddingPool, Work, plan_actors
from cluster.progress import ProgressReport, SilentProgress
from cluster.runtime import connect, node_resources
from cluster.shards import Shard, cut_paths, cut_shards, is_final, read_shard, write_shard
from cluster.spec import EncoderSpec, OtherEncoderError, fingerprint, require_same, with_absolute_paths
from cluster.store import EmbeddingStore, default_store_root
from cluster.texts import TextCache
from evaluation.checks import check_unit_rows
from evaluation.feature_files import is_feature_set, read_feature_set
from evaluation.features import FeatureSet, FloatArray, LocalRequest
from evaluation.locations import feature_row
from immuno.config import ClusterConfig, EncoderConfig
from immuno.errors import ImmunoError, SetupError
from immuno.records import EncoderInfo, ImageSet, SkippedImage

if TYPE_CHECKING:
    from cluster.encoder import Encoder

_TEXTS_AT_ONCE: Final = 1024
"""Texts in a piece of work: a larger call is spread over the actors, and stored piece by piece."""


class _StoredEmbedder(ABC):
    """What both embedders share: `evaluation.features.Embedder` on top of the store, as a context manager."""

    def __init__(
        self, spec: EncoderSpec, store: EmbeddingStore, shard_size: int, progress: ProgressReport | None
    ) -> None:
        self.spec = with_absolute_paths(spec)
        self.store = store
        self._shard_size = shard_size
        self._progress = progress or SilentProgress()
        self._info: EncoderInfo | None = None
        self._texts: TextCache | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def encoder(self) -> EncoderInfo:
        """What fixes the embeddings. Loads the model only if this store has never seen it; then raises as it does."""
        if self._info is None:
            key = fingerprint(self.spec)
            self._info = self.store.read_encoder(key)
            if self._info is None:
                self._info = self._load_info()
                self.store.write_encoder(key, self._info)
        return self._info

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Return (len(texts), d) float32 unit rows. Order is kept; equal texts give equal rows.

        Raises SetupError for an encoder that cannot be loaded and a store that cannot be written.
        """
        if self._texts is None:
            self._texts = TextCache(self.store, self.encoder)
        missing = self._texts.missing(texts)
        batches = [missing[i : i + _TEXTS_AT_ONCE] for i in range(0, len(missing), _TEXTS_AT_ONCE)]
        if batches:
            with self._reporting(len(missing), "embedding texts"), contextlib.closing(self._run_texts(batches)) as run:
                for index, features in run:
                    self._texts.add(batches[index], features)
                    self._progress.advance(len(batches[index]))
        return self._texts.rows(texts)

    def embed_images(self, images: ImageSet) -> FeatureSet:
        """Return the embeddings of a set, rows in the order of its samples; unreadable images are skipped and listed.

        Finished shards are read from the store; every further one is stored as soon as it is done.
        A set that comes with its embeddings (evaluation.feature_files) is read from its file, and no model is asked.
        Raises SetupError for an encoder that cannot be loaded, a store that cannot be written, and a set none of whose
        images can be read.
        """
        encoder = self.encoder
        if is_feature_set(images):
            return read_feature_set(images, dim=encoder.dim)
        shards = cut_shards(images, encoder, self._shard_size)
        parts = [read_shard(self.store, encoder, shard) for shard in shards]
        todo = [i for i, part in enumerate(parts) if part is None or not is_final(shards[i], part)]
        if todo:
            missing = [shards[i] for i in todo]
            total = sum(len(shard.paths) for shard in missing)
            with (
                self._reporting(total, f"embedding images of {images.name}"),
                contextlib.closing(self._run_shards(missing)) as run,
            ):
                for index, embedded in run:
                    parts[todo[index]] = embedded
                    self._progress.advance(len(missing[index].paths))
        return _assemble(images, encoder, [part for part in parts if part is not None], self._shard_size)

    def local_matching(self, images: FeatureSet, request: LocalRequest) -> NDArray[np.float64]:
        """Return the request's answer (n,) for the images of an embedded set; their files are read once more.

        Answers are stored by shard, as embeddings are. Raises SetupError for texts of another encoder, an encoder
        without patch embeddings in the space of its texts, a set that came without images, and an image that can no
        longer be read.
        """
        if images.paths and feature_row(images.paths[0]) is not None:
            raise SetupError(
                f"set '{images.name}' comes as embeddings, without the images whose patches gl_mcm looks at; leave "
                "gl_mcm out, or give the images"
            )
        encoder = self.encoder
        check_unit_rows(request.texts, what="texts to match patches with", dim=encoder.dim)
        shards = cut_paths(images.paths, encoder, self._shard_size)
        stored = [read_local(self.store, encoder, shard, request) for shard in shards]
        parts = {i: values for i, values in enumerate(stored) if values is not None}
        todo = [i for i in range(len(shards)) if i not in parts]
        if todo:
            missing = [shards[i] for i in todo]
            total = sum(len(shard.paths) for shard in missing)
            with (
                self._reporting(total, f"matching patches of {images.name}"),
                contextlib.closing(self._run_local(missing, request)) as run,
            ):
                for index, values in run:
                    parts[todo[index]] = values
                    self._progress.advance(len(missing[index].paths))
        return np.concatenate([np.empty(0), *(parts[i] for i in range(len(shards)))])

    @contextlib.contextmanager
    def _reporting(self, total: int, description: str) -> Iterator[None]:
        self._progress.start(total, description)
        try:
            yield
        except OtherEncoderError:
            # Next time the model is asked again what it is.
            self.store.forget_encoder(fingerprint(self.spec))
            raise
        finally:
            self._progress.stop()

    @abstractmethod
    def close(self) -> None:
        """Let go of models and machines. What is stored stays; may be called twice."""

    @abstractmethod
    def _load_info(self) -> EncoderInfo: ...

    @abstractmethod
    def _run_texts(self, batches: Sequence[list[str]]) -> Generator[tuple[int, FloatArray], None, None]:
        """Embed batches of texts; yields (place in the list, (n, d) rows) in any order."""

    @abstractmethod
    def _run_shards(self, shards: Sequence[Shard]) -> Generator[tuple[int, EmbeddedImages], None, None]:
        """Embed and store shards; yields (place in the list, embeddings) in any order."""

    @abstractmethod
    def _run_local(
        self, shards: Sequence[Shard], request: LocalRequest
    ) -> Generator[tuple[int, NDArray[np.float64]], None, None]:
        """Answer a request for shards and store the answers; yields (place in the list, (n,) values) in any order."""


class RayEmbedder(_StoredEmbedder):
    """Embeds on Ray actors, started when there is something to embed and not before.

    Leaving its `with` block kills the actors, and shuts down Ray if it was started here.
    """

    def __init__(
        self,
        config: EncoderConfig,
        cluster: ClusterConfig,
        *,
        ray_address: str | None = None,
        progress: ProgressReport | None = None,
    ) -> None:
        """`ray_address` as `cluster.runtime.connect` takes it: None means $RAY_ADDRESS, else a private cluster."""
        store = EmbeddingStore(cluster.store or default_store_root())
        super().__init__(EncoderSpec.from_config(config), store, cluster.shard_size, progress)
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
            from cluster.loading import check_names

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
        work = [Work("embed_shard", (shard, encoder), f"the images from {shard.paths[0]} on") for shard in shards]
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
            write_shard(self.store, self.encoder, shard, receipt.embedded)
            return receipt.embedded
        embedded = read_shard(self.store, self.encoder, shard)
        if embedded is None:
            raise self._lost()
        return embedded

    def _lost(self) -> ImmunoError:
        return ImmunoError(f"a shard just written to the embedding store {self.store.root} cannot be read back")

    def started(self) -> EmbeddingPool:
        """Return the actors' pool; Ray is joined or started the first time. Raises SetupError where that fails."""
        if self._pool is None:
            with contextlib.ExitStack() as stack:
                stack.enter_context(connect(self._ray_address))
                mark = self.store.leave_mark()
                stack.callback(mark.unlink, missing_ok=True)
                nodes = node_resources()
                plan = plan_actors(self._cluster, self.spec.device, nodes)
                settings = ActorSettings(
                    spec=self.spec,
                    batch_size=self._batch_size,
                    threads=max(1, int(plan.num_cpus)),
                    use_gpu=plan.num_gpus > 0,
                    store=str(self.store.root),
                    mark=str(mark),
                    decode_threads=plan_decode_threads(self._cluster, plan.num_gpus, nodes),
                )
                self._pool = EmbeddingPool(plan, settings)
                stack.callback(self._pool.close)
                self._resources = stack.pop_all()
        return self._pool


class LocalEmbedder(_StoredEmbedder):
    """Embeds in this process, without Ray; the model is loaded when there is something to embed."""

    def __init__(
        self,
        spec: EncoderSpec,
        store: Path | None = None,
        *,
        batch_size: int | Literal["auto"] = "auto",
        shard_size: int = 256,
        progress: ProgressReport | None = None,
    ) -> None:
        """Without a `store`, what is embedded is kept in a temporary folder as long as this object lives."""
        if store is None:
            store = Path(tempfile.mkdtemp(prefix="immuno-store-"))
            weakref.finalize(self, shutil.rmtree, store, ignore_errors=True)
        super().__init__(spec, EmbeddingStore(store), shard_size, progress)
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
            write_shard(self.store, model.info, shard, embedded)
            yield i, embedded

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
            from cluster.encoder import load_encoder

            self._model = load_encoder(self.spec, batch_size=self._batch_size)
        if expected is not None:
            require_same(self._model.info, expected)
        return self._model


def _assemble(images: ImageSet, encoder: EncoderInfo, parts: Sequence[EmbeddedImages], shard_size: int) -> FeatureSet:
    """Put the shards of a set together, in the order of its samples."""
    starts = range(0, len(images.samples), shard_size)
    rows = [start + row for start, part in zip(starts, parts, strict=True) for row in part.rows()]
    failures = [failure for part in parts for failure in part.failures]
    if failures and not rows:
        raise SetupError(
            f"none of the {len(failures)} images of '{images.name}' can be read "
            f"(first: {failures[0].path}: {failures[0].reason})"
        )
    samples = [images.samples[row] for row in rows]
    features = [np.empty((0, encoder.dim), dtype=np.float32), *(part.features for part in parts)]
    return FeatureSet(
        name=images.name,
        split=images.split,
        features=np.concatenate(features),
        ids=tuple(sample.id for sample in samples),
        label_names=tuple(sample.label for sample in samples),
        paths=tuple(sample.path for sample in samples),
        skipped=tuple(SkippedImage(images.name, failure.path, failure.reason) for failure in failures),
    )

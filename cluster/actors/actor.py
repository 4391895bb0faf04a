"""The Ray actor that embeds: it holds one encoder, on the CPU cores or the GPU that Ray gave it.

A plain class, so that it can be tried without Ray; `cluster.actors.pool` turns it into an actor. Its methods are
idempotent: a shard embedded twice is stored twice under one key with the same content. Several may run at a time (Ray's
`max_concurrency`): then the images of one shard are decoded while the model is at work on another.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cluster.actors.schedule import KILLED
from cluster.encoder.spec import EncoderSpec, require_same
from cluster.records import EmbeddedImages, EmbeddedTexts, ShardStats
from cluster.store.probes import check_probes
from cluster.store.shards import Shard, write_local, write_shard
from cluster.store.store import EmbeddingStore, StoreDtype
from immuno_core.config.run import ClusterConfig
from immuno_core.errors import SetupError
from immuno_core.features import LocalRequest
from immuno_core.images import containing_file
from immuno_core.records import EncoderInfo, FailedImage

if TYPE_CHECKING:
    from cluster.encoder.encoder import Encoder


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ActorSettings:
    """What an embedding actor is started with."""

    spec: EncoderSpec
    batch_size: int | Literal["auto"]
    store: str
    mark: str | None = None
    """A file in the store that the driver left: an actor that sees it writes shards there by itself. None: the actor is
    within the driver's own process, to which it hands everything, and which it does not end."""
    threads: int | None = None
    """Of torch, in this actor; None: as they are."""
    gpus: float = 1.0
    """What Ray gives it of GPUs. An actor without one may still see GPUs that belong to others."""
    decode_threads: int = 1
    """That read and preprocess images ahead of the model."""
    store_dtype: StoreDtype = "float32"


def plan_decode_threads(cluster: ClusterConfig, num_gpus: float, nodes: Sequence[dict[str, float]]) -> int:
    """Return how many threads each actor decodes with, for actors with `num_gpus` on machines with these resources.

    By default one beside a CPU's model, which leaves it little to do; beside a GPU's its share of the CPU cores.
    """
    if cluster.decode_threads is not None:
        return cluster.decode_threads
    shares = [node.get("CPU", 0.0) * num_gpus / node["GPU"] for node in nodes if node.get("GPU", 0.0) >= num_gpus > 0]
    return max(1, int(min(shares, default=1)))


class ActorPlace(NamedTuple):
    """Where an actor runs."""

    host: str
    pid: int


class ShardReceipt(NamedTuple):
    """What comes back for a shard."""

    key: str
    embedded: EmbeddedImages | None
    """None where the actor has stored them; else the driver, whose store it cannot reach, does."""
    stats: ShardStats
    """Measured again when the shard is embedded again; everything else of two receipts for one shard is the same."""


class EmbeddingActor:
    """Embeds shards and texts. A method loads the model, not the constructor, whose errors Ray would wrap up."""

    def __init__(self, settings: ActorSettings) -> None:
        self._settings = settings
        self._store = EmbeddingStore(settings.store, dtype=settings.store_dtype)
        self._encoder: Encoder | None = None
        self._loading = threading.Lock()

    def place(self) -> ActorPlace:
        """Return where this actor runs; needs no model."""
        return ActorPlace(socket.gethostname(), os.getpid())

    def prepare(self) -> ActorPlace:
        """Load the model. Raises SetupError as `load_encoder` does."""
        self._loaded()
        return self.place()

    def info(self) -> EncoderInfo:
        """Return what the encoder is."""
        return self._loaded().info

    def embed_shard(self, shard: Shard, encoder: EncoderInfo, *, lethal: frozenset[int] = frozenset()) -> ShardReceipt:
        """Embed a shard with the encoder the driver means, and store it where the store is within reach.

        Rows in `lethal` are known to kill the process that embeds them: they are not touched, and stored as failures.
        Raises OtherEncoderError if this actor's weights are others; SetupError if it sees none of the files although
        the driver did, and if the store cannot be written.
        """
        # What is no regular file is never opened, and is a failure in its own row and batch.
        paths = [os.devnull if row in lethal else path for row, path in enumerate(shard.paths)]
        with self._ending_with_its_gpu():
            embedded, stats = self._loaded(encoder).measure_image_files(paths)
        killed = {row: FailedImage("", shard.paths[row], KILLED) for row in embedded.failures if row in lethal}
        embedded = embedded._replace(failures={**embedded.failures, **killed})
        if len(embedded.transient - shard.absent) == len(shard.paths) and not any(
            Path(containing_file(path)).exists() for path in shard.paths
        ):
            raise SetupError(
                f"the images are not visible on {socket.gethostname()} (first: {shard.paths[0]}); put them into a "
                "folder that all machines of the cluster share"
            )
        if not self._stores():
            return ShardReceipt(shard.key, embedded, stats)
        write_shard(self._store, encoder, shard, embedded)
        return ShardReceipt(shard.key, None, stats)

    def embed_paths(self, paths: Sequence[str], encoder: EncoderInfo) -> EmbeddedImages:
        """Embed some image files and store nothing: so a driver finds the one over which actors die.

        Raises OtherEncoderError if this actor's weights are others.
        """
        with self._ending_with_its_gpu():
            return self._loaded(encoder).embed_image_files(paths)

    def match_patches(self, shard: Shard, encoder: EncoderInfo, request: LocalRequest) -> NDArray[np.float64] | None:
        """Answer a request about the patches of a shard's images: (n,), or None where the actor has stored it.

        Raises OtherEncoderError if this actor's weights are others; SetupError as `Encoder.match_patches` does, and if
        the store cannot be written.
        """
        with self._ending_with_its_gpu():
            values = self._loaded(encoder).match_patches(shard.paths, request)
        if not self._stores():
            return values
        write_local(self._store, encoder, shard, request, values)
        return None

    def embed_texts(self, texts: Sequence[str], encoder: EncoderInfo) -> EmbeddedTexts:
        """Embed texts. Raises OtherEncoderError if its weights are others."""
        with self._ending_with_its_gpu():
            loaded = self._loaded(encoder)
            return EmbeddedTexts(loaded.embed_texts(texts), loaded.cut_texts(texts))

    def _loaded(self, expected: EncoderInfo | None = None) -> Encoder:
        with self._loading:
            if self._encoder is None:
                import torch

                from cluster.encoder.encoder import load_encoder

                if self._settings.threads is not None:
                    torch.set_num_threads(self._settings.threads)
                spec = self._settings.spec
                if spec.device == "auto" and not self._settings.gpus:
                    spec = replace(spec, device="cpu")
                encoder = load_encoder(
                    spec,
                    batch_size=self._settings.batch_size,
                    decode_threads=self._settings.decode_threads,
                    gpu_share=min(1.0, self._settings.gpus or 1.0),
                )
                if self._settings.mark is None or self._stores():
                    check_probes(self._store, encoder.info, encoder.probes())
                self._encoder = encoder
        if expected is not None:
            require_same(self._encoder.info, expected)
        return self._encoder

    def _stores(self) -> bool:
        return self._settings.mark is not None and self._store.sees(self._settings.mark)

    @contextlib.contextmanager
    def _ending_with_its_gpu(self) -> Iterator[None]:
        """End the process if its GPU has failed: CUDA serves no process any further that has seen it fail.

        The driver, if it is another process, then gives the work to a new actor, as it does when one dies.
        """
        try:
            yield
        except RuntimeError as error:
            import torch

            if self._settings.mark is None or not isinstance(error, torch.AcceleratorError):
                raise
            _log.critical("the GPU failed under process %d on %s: %s", os.getpid(), socket.gethostname(), error)
            os._exit(1)

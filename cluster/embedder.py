"""What both embedders share: they look into the store first, and embed only what is missing there.

Memory does not grow with a set: of its embeddings, one shard is in memory at a time (`cluster.store.assembly`).
"""

from __future__ import annotations

import contextlib
import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from cluster.actors.actor import ShardReceipt
from cluster.actors.schedule import Work
from cluster.encoder.spec import EncoderSpec, OtherEncoderError, fingerprint, with_absolute_paths
from cluster.journal import Journal
from cluster.records import EmbeddedImages, EmbeddedTexts
from cluster.store.assembly import Assembly
from cluster.store.manifest import Manifest, describe_encoder, manifest_name, write_manifest
from cluster.store.probes import agree
from cluster.store.shards import (
    Cut,
    FileIdentity,
    Shard,
    ShardRecord,
    cut,
    is_final,
    read_local,
    read_shard,
    shard_folder,
    shard_name,
    shard_record,
    write_local,
    write_shard,
)
from cluster.store.store import EmbeddingStore, encoder_folder
from cluster.store.texts import TextCache
from evaluation.data.feature_files import is_feature_set, read_feature_set
from immuno_core.arrays import check_unit_rows
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.features import FeatureSet, FloatArray, LocalRequest
from immuno_core.images import feature_row
from immuno_core.progress import ProgressReport
from immuno_core.records import EncoderInfo, FailedImage, ImageSet, set_title
from immuno_core.text import count

_TEXTS_AT_ONCE: Final = 1024
"""Texts in a piece of work: a larger call is spread over the actors, and stored piece by piece."""

_FEW_TEXTS: Final = 256
_PAUSES: Final = (0.0, 0.5, 3.0)
"""Seconds before what another machine has written is looked for again."""
Stored = TypeVar("Stored")


class Filled(NamedTuple):
    """A set all of whose shards are in the store."""

    manifest: Manifest
    embedded: int
    """Images that were embedded for it now; the others were there before."""


class StoredEmbedder(ABC):
    """`immuno_core.features.Embedder` on top of the store, as a context manager."""

    def __init__(
        self,
        spec: EncoderSpec,
        store: EmbeddingStore,
        shard_size: int,
        progress: ProgressReport | Journal | None,
        identity: FileIdentity = "mtime",
    ) -> None:
        self.spec = with_absolute_paths(spec)
        self.store = store
        self._shard_size = shard_size
        self._identity: FileIdentity = identity
        self.journal = Journal.around(progress)
        self._info: EncoderInfo | None = None
        self._texts: TextCache | None = None
        self._has_worked = False

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
                with contextlib.suppress(SetupError):  # a store that cannot be written can be read
                    self.store.write_encoder(key, self._info)
        return self._info

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Return (len(texts), d) float32 unit rows. Order is kept; equal texts give equal rows.

        Raises SetupError for an encoder that cannot be loaded and a store that cannot be written.
        """
        return self._embedded(texts).rows(texts)

    def cut_texts(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Return those of the texts that are longer than what the encoder reads; raises as `embed_texts` does."""
        return self._embedded(texts).cut(texts)

    def _embedded(self, texts: Sequence[str]) -> TextCache:
        """Return the stored texts, these among them."""
        if self._texts is None:
            self._texts = TextCache(self.store, self.encoder)
        missing = self._texts.missing(texts)
        batches = [missing[i : i + _TEXTS_AT_ONCE] for i in range(0, len(missing), _TEXTS_AT_ONCE)]
        if batches:
            # With a model that is loaded few texts take no time that anybody would watch.
            told = len(missing) >= _FEW_TEXTS or not self._has_worked
            with (
                self._reporting(len(missing), "embedding texts", told=told),
                contextlib.closing(self._run_texts(batches)) as run,
            ):
                for index, embedded in run:
                    self._texts.add(batches[index], *embedded)
                    if told:
                        self.journal.advance(len(batches[index]))
        return self._texts

    def embed_images(self, images: ImageSet) -> FeatureSet:
        """Return the embeddings of a set, rows in the order of its samples; unreadable images are skipped and listed.

        So is what was left out when the set was listed.

        Finished shards are read from the store; every further one is stored as soon as it is done. The rows are mapped
        into memory from a file, read-only: those that are not looked at take no memory. A set that comes with its
        embeddings (evaluation.data.feature_files) is read from its file, and no model is asked. Raises SetupError for
        an encoder that cannot be loaded, a store that cannot be written, and a set none of whose images can be read.
        """
        encoder = self.encoder
        if is_feature_set(images):
            return read_feature_set(images, dim=encoder.dim)
        pieces = self._cut(images)
        with contextlib.closing(Assembly(self.store.root, encoder.dim)) as assembly:
            failures, records, embedded = self._complete(images, pieces, assembly)
            features = assembly.finish()
        if embedded:
            self._manifest(images, pieces, failures, records)
        samples = [sample for row, sample in enumerate(images.samples) if row not in failures]
        return FeatureSet(
            name=images.name,
            split=images.split,
            features=features,
            ids=tuple(sample.id for sample in samples),
            label_names=tuple(sample.label for sample in samples),
            paths=tuple(sample.path for sample in samples),
            skipped=(*images.left_out, *failures.values()),
        )

    def fill(self, images: ImageSet) -> Filled:
        """Have all shards of a set in the store, verified, without handing them out; raises as `embed_images` does."""
        pieces = self._cut(images)
        failures, records, embedded = self._complete(images, pieces, None)
        return Filled(self._manifest(images, pieces, failures, records), embedded)

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
        shards = cut(images.paths, encoder, self._shard_size, identity=self._identity).shards
        stored = [read_local(self.store, encoder, shard, request) for shard in shards]
        parts = {i: values for i, values in enumerate(stored) if values is not None}
        todo = [i for i in range(len(shards)) if i not in parts]
        if todo:
            missing = [shards[i] for i in todo]
            total = sum(len(shard.paths) for shard in missing)
            with (
                self._reporting(total, f"matching patches of {set_title(images.name, images.split)}"),
                contextlib.closing(self._run_local(missing, request)) as run,
            ):
                for index, values in run:
                    parts[todo[index]] = values
                    self.journal.advance(len(missing[index].paths))
        return np.concatenate([np.empty(0), *(parts[i] for i in range(len(shards)))])

    def seconds_anew(self, texts: Sequence[str], paths: Sequence[str]) -> tuple[float, float]:
        """Return how long one actor, its model loaded, takes for texts and for images; the store is left alone."""
        return self._seconds("embed_texts", texts), self._seconds("embed_paths", paths)

    def _seconds(self, method: str, many: Sequence[str]) -> float:
        started = 0.0
        for some in (many[:1], many):  # the first loads the model
            started = time.perf_counter()
            with contextlib.closing(self._run([Work(method, (list(some), self.encoder), "what is timed")])) as run:
                next(run)
        return time.perf_counter() - started

    def _cut(self, images: ImageSet) -> Cut:
        paths = [sample.path for sample in images.samples]
        return cut(paths, self.encoder, self._shard_size, identity=self._identity)

    def _complete(
        self, images: ImageSet, pieces: Cut, assembly: Assembly | None
    ) -> tuple[dict[int, FailedImage], list[ShardRecord], int]:
        """Embed and store what is missing of a set, and put all of it into the assembly.

        Returns what failed, by its place in the set, the records of its shards, and how many images had to be embedded.
        """
        failures: dict[int, FailedImage] = {}
        records: dict[int, ShardRecord] = {}
        todo: list[int] = []

        def take(index: int, part: EmbeddedImages) -> None:
            start = index * self._shard_size
            for row, failure in part.failures.items():
                failures[start + row] = replace(failure, set_name=images.title)
            records[index] = shard_record(self.store, pieces.shards[index], part)
            if assembly is not None:
                assembly.put(start, part.features)

        names = [shard_name(self.store, self.encoder, shard.key) for shard in pieces.shards]
        available = set(self.store.files.available(shard_folder(self.store, self.encoder), names))
        for index, shard in enumerate(pieces.shards):
            part = read_shard(self.store, self.encoder, shard) if names[index] in available else None
            if part is None or not is_final(shard, part):
                todo.append(index)
            else:
                take(index, part)
        adopted = set(self._adopted(pieces, todo, take))
        todo = [index for index in todo if index not in adopted]
        missing = [pieces.shards[index] for index in todo]
        total = sum(len(shard.paths) for shard in missing)
        if missing:
            with (
                self._reporting(total, f"embedding images of {images.title}"),
                contextlib.closing(self._run_shards(missing)) as run,
            ):
                for index, embedded in run:
                    take(todo[index], embedded)
                    self.journal.advance(len(missing[index].paths), failed=len(embedded.failures))
        failures = dict(sorted(failures.items()))
        whole = [records[index] for index in range(len(pieces.shards))]
        if adopted:
            with contextlib.suppress(SetupError):
                self._manifest(images, pieces, failures, whole)
        if failures and len(failures) == len(images.samples):
            first = failures[0]
            raise SetupError(
                f"none of the {len(failures)} images of '{images.name}' can be read "
                f"(first: {first.path}: {first.reason})"
            )
        self.journal.finished(images, list(failures.values()), tried=total)
        return failures, whole, total

    def _adopted(self, pieces: Cut, todo: Sequence[int], take: Callable[[int, EmbeddedImages], None]) -> Iterator[int]:
        """Take over shards that were stored when an encoder's digest did not cover its architecture; yields which.

        One image of each is embedded again: a shard was embedded by one encoder, but perhaps each by another.
        """
        encoder, older = self.encoder, self.encoder.older
        old = {index: pieces.shards[index].of(older) for index in todo if older != encoder}
        names = {index: shard_name(self.store, older, shard.key) for index, shard in old.items()}
        available = set(self.store.files.available(shard_folder(self.store, older), list(names.values())))
        tried: list[tuple[int, str, FloatArray]] = []
        for index, shard in old.items():
            part = read_shard(self.store, older, shard) if names[index] in available else None
            if part is not None and is_final(shard, part) and len(part.features):
                place = next(i for i in range(len(shard.paths)) if i not in part.failures)
                tried.append((index, shard.paths[place], part.features[0].copy()))
        if not tried:
            return
        self.journal.progress.note(
            f"{count(len(tried), 'shard')} stored by an earlier version, which did not look at the encoder's "
            "architecture: an image of each is embedded again to see whether it is this encoder's"
        )
        batches = [tried[i : i + self._shard_size] for i in range(0, len(tried), self._shard_size)]
        work = [
            Work("embed_paths", ([path for _, path, _ in batch], encoder), f"the images from {batch[0][1]} on")
            for batch in batches
        ]
        with contextlib.closing(self._run(work)) as run:
            for which, embedded in run:
                rows = iter(embedded.features)
                for place, (index, _, stored) in enumerate(batches[which]):
                    if place in embedded.failures or not agree(next(rows), stored, encoder.precision):
                        continue
                    part = read_shard(self.store, older, old[index])
                    if part is not None:
                        with contextlib.suppress(SetupError):  # as above
                            part = write_shard(self.store, encoder, pieces.shards[index], part)
                        take(index, part)
                        yield index

    def _manifest(
        self, images: ImageSet, pieces: Cut, failures: Mapping[int, FailedImage], records: Sequence[ShardRecord]
    ) -> Manifest:
        """Write the manifest of a set that is complete, where the store lacks it, and return it."""
        manifest = Manifest(
            name=images.name,
            dataset=pieces.dataset,
            encoder=describe_encoder(self.encoder),
            dtype=self.store.dtype,
            shard_size=self._shard_size,
            images=len(images.samples),
            rows=sum(record.rows for record in records),
            bytes=sum(record.bytes for record in records),
            shards=tuple(records),
            quarantined=tuple(failures.values()),
        )
        name = manifest_name(self.store, self.encoder, pieces.dataset, self._shard_size)
        write_manifest(self.store, name, manifest)
        return manifest

    def _read_back(self, read: Callable[[], Stored | None]) -> Stored:
        """Return what an actor has just stored. Raises ImmunoError where it cannot be found.

        A network file system remembers for up to a minute that a file was not there, unless its folder is opened.
        """
        for pause in _PAUSES:
            if (found := read()) is not None:
                return found
            time.sleep(pause)
            for _ in self.store.files.entries(encoder_folder(self.encoder)):
                pass
        if (found := read()) is not None:
            return found
        raise ImmunoError(f"a shard just written to the embedding store {self.store.place} cannot be read back")

    @contextlib.contextmanager
    def _reporting(self, total: int, description: str, *, told: bool = True) -> Iterator[None]:
        if told:
            self.journal.start(total, description)
        try:
            yield
            self._has_worked = True
        except OtherEncoderError:
            # Next time the model is asked again what it is.
            self.store.forget_encoder(fingerprint(self.spec))
            raise
        finally:
            if told:
                self.journal.stop()

    @abstractmethod
    def close(self) -> None:
        """Let go of models and machines. What is stored stays; may be called twice."""

    @abstractmethod
    def _run(self, work: Sequence[Work]) -> Generator[tuple[int, Any], None, None]:
        """Have `EmbeddingActor`s do it; yields (place in the list, what the method returned) in any order."""

    def _shared(self, request: LocalRequest) -> Any:
        """Return what actors are given in place of a request that is part of many pieces of work."""
        return request

    def _load_info(self) -> EncoderInfo:
        if self.spec.is_architecture:
            # A mistyped name is cheaper to find here than after a cluster has been started.
            from cluster.encoder.loading import check_names

            check_names(self.spec)
        with contextlib.closing(self._run([Work("info", (), f"loading '{self.spec.label}'")])) as run:
            info: EncoderInfo = next(run)[1]
        return info

    def _run_texts(self, batches: Sequence[list[str]]) -> Generator[tuple[int, EmbeddedTexts], None, None]:
        """Embed batches of texts; yields (place in the list, their embeddings) in any order."""
        return self._run(
            [Work("embed_texts", (batch, self.encoder), f"the texts from {batch[0]!r} on") for batch in batches]
        )

    def _run_shards(self, shards: Sequence[Shard]) -> Generator[tuple[int, EmbeddedImages], None, None]:
        """Embed and store shards; yields (place in the list, embeddings as they are stored) in any order."""
        work = [
            Work("embed_shard", (shard, self.encoder), f"the images from {shard.paths[0]} on", images=shard.paths)
            for shard in shards
        ]
        with contextlib.closing(self._run(work)) as run:
            for index, receipt in run:
                yield index, self._collect(shards[index], receipt)

    def _collect(self, shard: Shard, receipt: ShardReceipt) -> EmbeddedImages:
        """Return a shard's embeddings, which by then are in the store."""
        if receipt.embedded is not None:
            return write_shard(self.store, self.encoder, shard, receipt.embedded)
        return self._read_back(lambda: read_shard(self.store, self.encoder, shard))

    def _run_local(
        self, shards: Sequence[Shard], request: LocalRequest
    ) -> Generator[tuple[int, NDArray[np.float64]], None, None]:
        """Answer a request for shards and store the answers; yields (place in the list, (n,) values) in any order."""
        encoder, held = self.encoder, self._shared(request)
        work = [
            Work("match_patches", (shard, encoder, held), f"the patches of the images from {shard.paths[0]} on")
            for shard in shards
        ]
        with contextlib.closing(self._run(work)) as run:
            for index, values in run:
                if values is not None:
                    write_local(self.store, encoder, shards[index], request, values)
                shard = shards[index]
                yield index, self._read_back(functools.partial(read_local, self.store, encoder, shard, request))

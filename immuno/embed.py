"""What `immuno embed` does: fill the embedding store for a configuration, check it, prune it; and embed stored texts.

A damaged manifest or record costs nothing but a little time, a damaged shard the embedding of its images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cluster import EncoderSpec, RayEmbedder, make_embedder
from cluster.encoder.spec import fingerprint, with_absolute_paths
from cluster.store.shards import Cut, cut
from cluster.store.store import EmbeddingStore, default_store_root
from cluster.store.upkeep import Checked, Waste, check_shards, check_store, needed, waste
from db import open_store
from db.exchange.banks import add_embeddings, unembedded
from evaluation.data.feature_files import is_feature_set
from evaluation.data.sealed import SealedTest
from immuno.terminal.progress import watched
from immuno.workplace import recorded_run, sets_of
from immuno_core.config.run import RunConfig, config_as_dict, read_config
from immuno_core.errors import SetupError
from immuno_core.images import feature_row
from immuno_core.paths import default_database
from immuno_core.progress import RichProgress
from immuno_core.records import EncoderInfo, FailedImage, ImageSet, Split
from immuno_core.text import fill_template
from immuno_core.versions import digest_of

if TYPE_CHECKING:
    from db import AntibodyStore


REASON = "embed"
"""What the record of sealed sets that were opened (table test_reads) says."""


@dataclass(frozen=True, slots=True)
class FilledSet:
    """A set that is in the store now."""

    name: str
    split: Split
    images: int
    embedded: int
    """Images embedded by this call; the others were stored."""
    quarantined: tuple[FailedImage, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class CheckedSet:
    """A set whose shards were verified."""

    name: str
    split: Split
    images: int
    shards: int
    found: Checked


def fill(
    config: RunConfig, *, test: bool, database: str | None, ray_address: str | None, progress: str | None = None
) -> Iterator[FilledSet]:
    """Embed what is missing of the sets of fit and feedback, and with `test` of the sealed ones; yields each when done.

    Opening the sealed sets is recorded first, in the database, as a benchmark's is. Starts neither a model nor Ray
    where nothing is missing. `progress` is the value of `--progress`; at the end standard error says what embedding
    came to. Raises SetupError as reading sources and embedding do, and where there is no set at all.
    """
    _check_encoder(config)
    with (
        watched(progress) as journal,
        RayEmbedder(config.encoder, config.cluster, ray_address=ray_address, progress=journal) as embedder,
    ):
        sets = sets_of(config, journal.progress)
        if not (images_of := _with_images(sets.open)) and not test:
            raise SetupError(
                "there is nothing to embed: the configuration has no [data.fit] with images; the sealed test sets are "
                "embedded with --test"
            )
        for images in images_of:
            yield _filled(embedder, images)
        if test:
            with _opened(config, sets.sealed, database) as sealed:
                for images in _with_images(sealed):
                    yield _filled(embedder, images)


def check(config: RunConfig) -> Iterator[CheckedSet]:
    """Verify what is stored of a configuration's sets, the sealed ones too: opening no image, it breaks no seal."""
    store, encoder, _ = _recorded(config)
    for name, split, pieces in _cut_sets(config, encoder):
        images = sum(len(shard.paths) for shard in pieces.shards)
        yield CheckedSet(name, split, images, len(pieces.shards), check_shards(store, encoder, pieces))


def check_all(place: str | Path | None) -> tuple[EmbeddingStore, Checked]:
    """Verify every file of a store (None: the default one). Raises SetupError where there is none."""
    store = EmbeddingStore(place or default_store_root())
    if "://" not in store.place and not Path(store.place).is_dir():
        raise SetupError(f"there is no embedding store at {store.place}; name its folder or URL with --store")
    return store, check_store(store)


def prunable(configs: Sequence[RunConfig], place: str | Path | None) -> tuple[EmbeddingStore, list[Waste]]:
    """Return a store, and what it holds that none of the configurations needs; without any, what nobody can need.

    Raises SetupError for configurations of several stores, and for an encoder that is not on record: whether anything
    of it is needed cannot be told.
    """
    if not configs:
        store = EmbeddingStore(place or default_store_root())
        return store, list(waste(store, None))
    keep: set[str] = set()
    stores = {}
    for config in configs:
        store, encoder, key = _recorded(config)
        stores[store.place] = store
        sets = ((pieces, config.cluster.shard_size) for _, _, pieces in _cut_sets(config, encoder))
        keep |= needed(store, encoder, key, sets)
    if len(stores) > 1:
        raise SetupError(f"the configurations have several stores ({', '.join(stores)}); prune one at a time")
    return store, list(waste(store, keep))


def _check_encoder(config: RunConfig) -> None:
    if config.encoder.kind == "precomputed":
        raise SetupError('there is nothing to embed: the encoder is of kind = "precomputed"')


def _with_images(sets: Sequence[ImageSet]) -> list[ImageSet]:
    """Leave out sets that come as embeddings."""
    return [images for images in sets if not is_feature_set(images)]


def _filled(embedder: RayEmbedder, images: ImageSet) -> FilledSet:
    manifest, embedded = embedder.fill(images)
    left_out = (*images.left_out, *manifest.quarantined)
    return FilledSet(images.name, images.split, manifest.images, embedded, left_out, manifest.bytes)


@contextmanager
def _opened(config: RunConfig, sealed: SealedTest, database: str | None) -> Iterator[list[ImageSet]]:
    """Open the seal, on record as a run of its own."""
    digest = digest_of([REASON, config_as_dict(config)])
    with open_store(database, default=default_database()) as record, recorded_run(record, config, digest) as run:

        def on_record(sets: tuple[str, ...], why: str) -> None:
            record.record_test_read(run.id, sets, why)

        opened = sealed.open(REASON, on_open=on_record)
        yield [opened.id, *opened.ood]


def _recorded(config: RunConfig) -> tuple[EmbeddingStore, EncoderInfo, str]:
    """Return the store, what it has on record of the encoder, and the encoder's fingerprint; loads no model."""
    _check_encoder(config)
    store = EmbeddingStore(config.cluster.store or default_store_root(), dtype=config.cluster.store_dtype)
    spec = with_absolute_paths(EncoderSpec.from_config(config.encoder))
    key = fingerprint(spec)
    encoder = store.read_encoder(key)
    if encoder is None:
        raise SetupError(
            f"nothing of the encoder '{spec.label}' (as it is now) is on record in the embedding store {store.place}; "
            "fill it with: immuno embed CONFIG"
        )
    return store, encoder, key


def _cut_sets(config: RunConfig, encoder: EncoderInfo) -> Iterator[tuple[str, Split, Cut]]:
    """Cut every set of a configuration that has images, the sealed ones last."""
    sets = sets_of(config)
    listed: list[tuple[str, Split, Sequence[str]]] = [
        (images.name, images.split, [sample.path for sample in images.samples]) for images in _with_images(sets.open)
    ]
    sealed = sets.sealed.files().items()
    listed += [(name, "test", paths) for name, paths in sealed if feature_row(paths[0]) is None]
    for name, split, paths in listed:
        yield name, split, cut(paths, encoder, config.cluster.shard_size, identity=config.cluster.file_identity)


_AT_ONCE = 4096
"""Texts in one transaction: what was embedded before a stop is kept."""


class EmbeddedSession(NamedTuple):
    """How many texts of a session were embedded, and those that were not: the encoder does not read them whole."""

    embedded: int
    too_long: tuple[str, ...]


def embed_session(
    store: AntibodyStore, name: str, config_file: Path, *, ray_address: str | None = None
) -> EmbeddedSession:
    """Embed a session's texts with the encoder and the antibodies' template of a configuration.

    Texts that have an embedding of that encoder are left alone. Raises SetupError for an unknown session.
    """
    session, config = store.session(name), read_config(config_file)
    embedded = 0
    too_long: list[str] = []
    with make_embedder(config.encoder, config.cluster, ray_address=ray_address, progress=RichProgress()) as embedder:
        encoder = embedder.encoder
        missing = unembedded(store, session.id, encoder.digest)
        for some in (missing[start : start + _AT_ONCE] for start in range(0, len(missing), _AT_ONCE)):
            texts = fill_template(config.antibodies.template, [one.text for one in some])
            rows, cut = embedder.embed_texts(texts), set(embedder.cut_texts(texts))
            vectors = {one.id: row for one, text, row in zip(some, texts, rows, strict=True) if text not in cut}
            embedded += add_embeddings(store, encoder, vectors)
            too_long += [one.text for one, text in zip(some, texts, strict=True) if text in cut]
    return EmbeddedSession(embedded, tuple(too_long))

"""Manifests: what the store knows of a set as a whole. One for each encoder and list of files, written when all of
its shards are there.

The shards say everything that is needed to read them, and are believed for what they say and not for what a manifest
says of them; it is there for people and for upkeep (`cluster.store.upkeep`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from cluster.store.shards import ShardRecord
from cluster.store.store import EmbeddingStore, encoder_folder
from immuno_core.records import EncoderInfo, FailedImage
from immuno_core.text import read_json
from immuno_core.versions import installed

FORMAT: Final = 2
_PACKAGES: Final = ("immuno-vlm", "torch", "torchvision", "open_clip_torch", "pillow", "numpy")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A set in the store."""

    name: str
    """What the configuration that filled it calls the set."""
    dataset: str
    """Digest of the list of files (`cluster.store.shards`)."""
    encoder: Mapping[str, Any]
    """EncoderInfo, with its digest."""
    dtype: str
    shard_size: int
    images: int
    rows: int
    bytes: int
    shards: tuple[ShardRecord, ...]
    quarantined: tuple[FailedImage, ...]
    created: str = ""
    versions: Mapping[str, str] | None = None
    format: int = FORMAT


def describe_encoder(encoder: EncoderInfo) -> dict[str, Any]:
    """Return the fields of an encoder, and its digest."""
    return {**asdict(encoder), "digest": encoder.digest}


def manifest_name(store: EmbeddingStore, encoder: EncoderInfo, dataset: str, shard_size: int) -> str:
    """Return the name of a set's manifest."""
    return f"{encoder_folder(encoder)}/{store.kind('sets')}/{dataset[:32]}-{shard_size}.json"


def write_manifest(store: EmbeddingStore, name: str, manifest: Manifest) -> None:
    """Write a manifest with the time and the versions of what made it; one that says the same already stays.

    (A set that several configurations call differently keeps the name that it was given first.)
    """
    known = read_manifest(store, name)
    quarantined = tuple(replace(failed, set_name=manifest.name) for failed in known.quarantined) if known else ()
    if known and replace(known, name=manifest.name, quarantined=quarantined, created="", versions=None) == manifest:
        return
    dated = replace(manifest, created=datetime.now(UTC).isoformat(timespec="seconds"), versions=installed(_PACKAGES))
    content = asdict(dated)
    content["shards"] = [shard._asdict() for shard in dated.shards]
    content["quarantined"] = [{"path": failed.path, "reason": failed.reason} for failed in dated.quarantined]
    store.files.write(name, json.dumps(content, indent=1).encode())


def read_manifest(store: EmbeddingStore, name: str) -> Manifest | None:
    """Return a manifest, None where it is absent, not whole, or of another format."""
    content = store.files.read(name)
    try:
        fields = read_json(content) if content is not None else None
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            return None
        shards = tuple(ShardRecord(**one) for one in fields.pop("shards"))
        quarantined = tuple(FailedImage(set_name=fields["name"], **failed) for failed in fields.pop("quarantined"))
        return Manifest(**fields, shards=shards, quarantined=quarantined)
    except (ValueError, TypeError, KeyError):
        return None

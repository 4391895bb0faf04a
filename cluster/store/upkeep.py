"""Upkeep of the embedding store: is everything in it whole, and what in it is needed no more?

Nothing is deleted here that was not first handed out as `Waste` and then given to `delete`.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from cluster.store.files import Entry, is_temporary
from cluster.store.manifest import manifest_name, read_manifest
from cluster.store.shards import Cut, shard_name
from cluster.store.store import (
    FEATURES,
    MARK,
    VALUES,
    DamagedError,
    EmbeddingStore,
    StoredArray,
    encoder_folder,
    encoder_record,
    unpack,
)
from immuno_core.errors import SetupError
from immuno_core.records import EncoderInfo
from immuno_core.text import read_json

State = Literal["missing", "damaged", "foreign"]
"""missing: a shard of a set is not there. damaged: a file is not what was written. foreign: it is something else."""
Why = Literal["not needed", "unfinished", "damaged", "local copy"]
_LONG_SECONDS: Final = 3600.0
"""No file takes as long to write: what is unfinished since then was left by a dead writer."""
_DAY_SECONDS: Final = 86400.0
"""A driver on another machine whose mark is older may be dead."""
_ARRAY = re.compile(
    r"(?P<encoder>[0-9a-f]{16})/(?P<kind>images(-float16)?|local|texts|probes)/../(?P<key>\w+)\.safetensors"
)
_MANIFEST = re.compile(r"[0-9a-f]{16}/sets(-float16)?/[^/]+\.json")
_RECORD = re.compile(r"encoders/[0-9a-f]+\.json")


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is not as it should be."""

    state: State
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found."""

    files: int
    """How many of those looked at are well."""
    bytes: int
    """Of these."""
    problems: tuple[Problem, ...]

    @property
    def damaged(self) -> bool:
        """Whether something is not what was written; what is merely missing will be embedded."""
        return any(problem.state == "damaged" for problem in self.problems)


class Waste(NamedTuple):
    """A file that may be deleted."""

    name: str
    size: int
    why: Why


def check_shards(store: EmbeddingStore, encoder: EncoderInfo, pieces: Cut) -> Checked:
    """Verify every shard of a set; those that are absent are `missing`."""
    return _checked(store, (shard_name(store, encoder, shard.key) for shard in pieces.shards))


def check_store(store: EmbeddingStore) -> Checked:
    """Verify every file of a store. A shard that a manifest names and that is not there is `missing`."""
    entries = {entry.name: entry for entry in store.files.entries()}
    arrays = _checked(store, [name for name in entries if _ARRAY.fullmatch(name)])
    files, size, problems = arrays.files, arrays.bytes, list(arrays.problems)
    for name, entry in entries.items():
        if _ARRAY.fullmatch(name) or is_temporary(name) or name.startswith(MARK):
            continue
        if _MANIFEST.fullmatch(name):
            found = list(_check_manifest(store, name, entries))
        elif _RECORD.fullmatch(name):
            found = list(_check_record(store, name))
        else:
            found = [Problem("foreign", name, "no file of an embedding store")]
        problems += found
        if not any(problem.name == name for problem in found):
            files, size = files + 1, size + entry.size
    return Checked(files, size, tuple(sorted(set(problems), key=lambda one: one.name)))


def needed(store: EmbeddingStore, encoder: EncoderInfo, fingerprint: str, sets: Iterable[tuple[Cut, int]]) -> set[str]:
    """Return the names of what belongs to sets (with their shard sizes) of an encoder; folders end with a slash.

    What an earlier version stored of a shard is needed until it was taken over (`EncoderInfo.older`).
    """
    names = {
        encoder_record(fingerprint),
        *(f"{encoder_folder(encoder)}/{kind}/" for kind in ("texts", "local", "probes")),
    }
    there = {entry.name for entry in store.files.entries(encoder_folder(encoder))}
    for pieces, shard_size in sets:
        names.add(manifest_name(store, encoder, pieces.dataset, shard_size))
        for shard in pieces.shards:
            names.add(name := shard_name(store, encoder, shard.key))
            if name not in there:
                names.add(shard_name(store, encoder.older, shard.of(encoder.older).key))
    return names


def waste(store: EmbeddingStore, keep: Collection[str] | None) -> Iterator[Waste]:
    """Yield what may be deleted: all embeddings but `keep` (as `needed` returns it); None keeps all that is whole.

    In both cases: what dead writers left, and damaged files of texts (a damaged shard is replaced where it lies).
    Of a remote store the local copies too, but for those to keep. A file that no store would write is left alone.
    """
    folders = tuple(name for name in keep if name.endswith("/")) if keep is not None else ()

    def kept(name: str) -> bool:
        return keep is not None and (name in keep or name.startswith(folders))

    for entry in store.files.entries():
        if is_temporary(entry.name):
            if time.time() - entry.modified > _LONG_SECONDS:
                yield Waste(entry.name, entry.size, "unfinished")
        elif entry.name.startswith(MARK):
            if _driver_at_work(store, entry) is None:
                yield Waste(entry.name, entry.size, "unfinished")
        elif not _is_ours(entry.name):
            continue
        elif keep is not None and not kept(entry.name):
            yield Waste(entry.name, entry.size, "not needed")
        elif "/texts/" in entry.name and _is_damaged(store, entry.name):
            yield Waste(entry.name, entry.size, "damaged")
    for entry in store.files.copies.entries() if store.files.copies is not None else ():
        if not kept(entry.name):
            yield Waste(entry.name, entry.size, "local copy")


def delete(store: EmbeddingStore, found: Iterable[Waste]) -> None:
    """Delete what `waste` found. Raises SetupError while another program fills the store."""
    for entry in store.files.entries():
        if entry.name.startswith(MARK) and (who := _driver_at_work(store, entry)) is not None:
            raise SetupError(
                f"{who} is filling the embedding store {store.place}; wait for its end (or, if it is dead, delete "
                f"{entry.name} there)"
            )
    for one in found:
        files = store.files.copies if one.why == "local copy" else store.files
        if files is not None:
            files.delete(one.name)


def _checked(store: EmbeddingStore, names: Iterable[str]) -> Checked:
    files, size, problems = 0, 0, []
    for name in names:
        found = _verified(store, name)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            files += 1
            size += found.array.nbytes
    return Checked(files, size, tuple(problems))


def _is_ours(name: str) -> bool:
    """Whether a store may have written a file of this name: another one in its folder is somebody's."""
    return any(form.fullmatch(name) for form in (_ARRAY, _MANIFEST, _RECORD))


def _is_damaged(store: EmbeddingStore, name: str) -> bool:
    found = _verified(store, name)
    return isinstance(found, Problem) and found.state == "damaged"


def _verified(store: EmbeddingStore, name: str) -> StoredArray | Problem:
    """Read a file of the store itself, not a local copy of it."""
    parts = _ARRAY.fullmatch(name)
    path = store.files.fetch(name, again=store.is_remote)
    if path is None or parts is None:
        return Problem("missing", name, "not there")
    try:
        found = unpack(path, VALUES if parts["kind"] == "local" else FEATURES)
    except DamagedError as error:
        return Problem("damaged", name, str(error))
    except OSError as error:
        return Problem("damaged", name, f"cannot be read: {error.strerror or error}")
    if not found.metadata.get("encoder", "").startswith(parts["encoder"]):
        return Problem("foreign", name, "another encoder's")
    if parts["kind"] != "texts" and found.metadata.get("key") != parts["key"]:
        return Problem("foreign", name, "the file of another key")
    return found


def _check_manifest(store: EmbeddingStore, name: str, entries: Collection[str]) -> Iterator[Problem]:
    """Check a manifest, and whether the shards that it names are there."""
    manifest = read_manifest(store, name)
    if manifest is None:
        yield Problem("damaged", name, "no manifest of this version")
        return
    folder = name.replace("/sets", "/images").rpartition("/")[0]
    for shard in manifest.shards:
        shard_file = f"{folder}/{shard.key[:2]}/{shard.key}.safetensors"
        if shard_file not in entries:
            yield Problem("missing", shard_file, f"a shard of '{manifest.name}'")


def _check_record(store: EmbeddingStore, name: str) -> Iterator[Problem]:
    try:
        EncoderInfo(**read_json(store.files.read(name) or b""))
    except (ValueError, TypeError):
        yield Problem("damaged", name, "no record of an encoder")


def _driver_at_work(store: EmbeddingStore, entry: Entry) -> str | None:
    """Who left a mark, None where that program has surely ended."""
    import psutil

    try:
        said = read_json(store.files.read(entry.name) or b"")
        host, process, since = str(said["host"]), int(said["process"]), float(said["since"])
    except (ValueError, TypeError, KeyError):
        return None
    if host == socket.gethostname():
        return f"process {process} on this machine" if psutil.pid_exists(process) else None
    return f"process {process} on {host}" if time.time() - since < _DAY_SECONDS else None

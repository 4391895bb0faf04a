"""Where the files of an embedding store lie: in a folder, or in any place that fsspec reaches (s3://, gs://, ...).

Both appear whole or not at all: a local file is written beside its place and renamed into it, and an object store
takes an object whole. What is read from a remote place is kept in a local folder (`copies`), because only local files
can be mapped into memory.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from immuno_core.config.run import store_place
from immuno_core.errors import SetupError
from immuno_core.files import write_atomically, written_whole
from immuno_core.paths import cache_root

_TEMPORARY: Final = re.compile(r"(.*/)?\.[^/]+\.[0-9a-f]{32}\.tmp")
_DOWNLOADS: Final = 16
_QUERY: Final = re.compile(r"\?\S*")


class Entry(NamedTuple):
    """A file of a store."""

    name: str
    """Its path within the store, with slashes."""
    size: int
    """Bytes."""
    modified: float
    """Seconds since 1970."""
    state: int = 0
    """Of a remote file: another number when its content is another."""


def open_files(place: str | Path) -> Files:
    """Return the files at a folder or a URL; neither need exist yet.

    Raises SetupError for a URL with a password in it, a protocol that fsspec does not know, and a missing package.
    """
    try:
        found = store_place(place)
    except ValueError as error:
        raise SetupError(f"the embedding store: {error}") from None
    if isinstance(found, Path):
        return Files(found)
    if found.startswith(("file://", "local://")):
        return Files(Path(found.split("://", 1)[1]))
    return RemoteFiles(found)


class Files:
    """The files below a folder, by their names ("encoders/ab.json"). Errors are SetupErrors that name the place."""

    copies: Files | None = None
    """The local copies of a remote place's files."""
    _refusals: type[Exception] = OSError

    def __init__(self, root: Path) -> None:
        self.folder = root.expanduser().absolute()
        """The store itself, or where copies of a remote one are kept."""
        self.place = str(self.folder)
        """What messages call it: the folder or the URL. Holds no secret."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content as it is now, None where there is none."""
        with self._explained("read"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return (self.folder / name).read_bytes()
        return None

    def fetch(self, name: str, *, again: bool = False) -> Path | None:
        """Return a local file with a file's content as it is now, None where there is none.

        `again`: not from the local copy, which turned out to be damaged; a local store has nothing else.
        """
        path = self.folder / name
        with self._explained("read"):
            return path if not again and path.exists() else None

    def available(self, under: str, names: Sequence[str]) -> Collection[str]:  # noqa: ARG002
        """Return those of the names, all below the folder `under`, that it makes sense to `fetch`: here, any."""
        return names

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all: beside its place, then renamed."""
        with self._explained("write to"):
            write_atomically(self.folder / name, content, sync=False)  # a reader notices what a crash has cut off

    def delete(self, name: str) -> None:
        """Delete a file, and the local copy of it; it may be gone already.

        Its folder stays: another program may be about to write there.
        """
        with self._explained("delete from"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (self.folder / name).unlink()

    def entries(self, under: str = "") -> Iterator[Entry]:
        """Yield the files below a folder of the store, in the order of their names; what vanishes is passed over."""

        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                raise error

        with self._explained("list"):
            for parent, folders, files in os.walk(self.folder / under, onerror=refuse):
                folders.sort()
                for name in sorted(files):
                    path = Path(parent, name)
                    with contextlib.suppress(FileNotFoundError):
                        state = path.stat()
                        yield Entry(path.relative_to(self.folder).as_posix(), state.st_size, state.st_mtime)

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._refusals as error:
            raise _refused(what, self.place, error) from None


class RemoteFiles(Files):
    """The files below a URL, through fsspec, which looks for credentials in the environment."""

    _refusals = Exception
    """Each driver raises errors of its own library."""

    def __init__(self, url: str) -> None:
        place = url.rstrip("/")
        super().__init__(cache_root() / "remote" / hashlib.sha256(place.encode()).hexdigest()[:16])
        self._local = self.copies = Files(self.folder)
        self.place = place
        self._looked_at: set[str] = set()
        """Files of which `available` has just made sure that the copy is what is there."""

    @functools.cached_property
    def _reached(self) -> tuple[Any, str]:
        """The file system and the folder within it. Not before it is used: Ray wraps up a constructor's errors."""
        return _file_system(self.place)

    def read(self, name: str) -> bytes | None:
        """Download a file."""
        fs, base = self._reached
        with self._explained("read"), contextlib.suppress(FileNotFoundError):
            return bytes(fs.cat_file(f"{base}/{name}"))
        return None

    def fetch(self, name: str, *, again: bool = False) -> Path | None:
        """Return the local copy, downloaded where it is missing or no longer what is there; None where nothing is."""
        looked_at = name in self._looked_at
        self._looked_at.discard(name)  # once: another machine may write at any time
        if looked_at and not again and (copy := self._local.fetch(name)) is not None:
            return copy
        fs, base = self._reached
        with self._explained("read"), contextlib.suppress(FileNotFoundError):
            return self._copy(name, _state(fs.info(f"{base}/{name}")), again=again)
        self._local.delete(name)
        return None

    def available(self, under: str, names: Sequence[str]) -> Collection[str]:
        """Return the names that are there, with a local copy of each: one listing, and several downloads at a time."""
        states = {entry.name: entry.state for entry in self.entries(under)}
        there = [name for name in names if name in states]
        with ThreadPoolExecutor(_DOWNLOADS) as pool:
            copies = list(pool.map(self._copy, there, [states[name] for name in there]))
        found = {name for name, copy in zip(there, copies, strict=True) if copy is not None}
        self._looked_at = set(found)
        return found

    def _copy(self, name: str, state: int, *, again: bool = False) -> Path | None:
        """Return a local copy of a file in that state. The state is the copy's time: both change at once."""
        path = self.folder / name
        with contextlib.suppress(OSError):
            if not again and path.stat().st_mtime == state:
                return path
        content = self.read(name)
        if content is None:
            return None
        with self._explained("copy"), written_whole(path, sync=False) as temporary:
            temporary.write_bytes(content)
            os.utime(temporary, (state, state))
        return path

    def write(self, name: str, content: bytes) -> None:
        """Upload a file. No copy is kept here: an actor never reads what it wrote."""
        fs, base = self._reached
        with self._explained("write to"):
            fs.pipe_file(f"{base}/{name}", content)
        self._local.delete(name)

    def delete(self, name: str) -> None:
        """Delete the file and its local copy."""
        fs, base = self._reached
        with self._explained("delete from"), contextlib.suppress(FileNotFoundError):
            fs.rm_file(f"{base}/{name}")
        self._local.delete(name)

    def entries(self, under: str = "") -> Iterator[Entry]:
        """List the files below a folder."""
        fs, base = self._reached
        found: dict[str, dict[str, Any]] = {}
        with self._explained("list"), contextlib.suppress(FileNotFoundError):
            found = fs.find(f"{base}/{under}".rstrip("/"), detail=True)
        start = len(base.strip("/")) + 1
        for path in sorted(found):
            info = found[path]
            yield Entry(path.strip("/")[start:], int(info.get("size") or 0), _modified(info), _state(info))


def is_temporary(name: str) -> bool:
    """Whether a file is one that a writer had not yet renamed into its place."""
    return _TEMPORARY.fullmatch(name) is not None


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        # Without a cache of listings, which would hide what other machines have written.
        fs, base = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        missing = 'pip install "immuno-vlm[s3]"' if url.startswith(("s3://", "s3a://")) else str(error)
        raise SetupError(f"the embedding store {url} needs another package: {missing}") from None
    except ValueError as error:
        raise SetupError(f"the embedding store {url}: {error}; use a folder, s3://... or gs://...") from None
    return fs, str(base).rstrip("/")


def _modified(info: dict[str, Any]) -> float:
    """When a remote file was written; drivers call it differently. Unknown counts as just now."""
    for key in ("LastModified", "updated", "mtime", "last_modified", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return time.time()


def _state(info: dict[str, Any]) -> int:
    """A number, in the range of times, over what a remote place says of a file: its checksum, else when it was written.

    Where it says neither, the number is never the same again.
    """
    checksum = next((str(info[key]) for key in ("ETag", "etag", "md5Hash", "md5") if info.get(key)), None)
    said = f"{info.get('size')} {checksum or _modified(info)}"
    return int(hashlib.sha256(said.encode()).hexdigest()[:7], 16)


def _refused(what: str, place: str, error: Exception) -> SetupError:
    number = error.errno if isinstance(error, OSError) else None
    reason = (error.strerror if isinstance(error, OSError) else None) or _one_line(error)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        mend = "free some space (immuno embed CONFIG --gc shows what is not needed), or name another as [cluster] store"
    elif "://" in place:
        mend = "see that the bucket exists, and that the credentials in the environment (AWS_PROFILE, ...) allow it"
    else:
        mend = "give yourself the right to, or name another folder as [cluster] store"
    return SetupError(
        f"cannot {what} the embedding store {place}: {reason}; {mend}; what is stored stays, and the same command goes "
        "on from there"
    )


def _one_line(error: Exception) -> str:
    """What a library said, without query strings, in which it may have put a signature."""
    lines = str(error).splitlines()
    text = _QUERY.sub("?...", lines[0])[:200] if lines else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

"""What tells whether a set still holds the same images, wherever they are and whenever they were written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from immuno_core.errors import SetupError
from immuno_core.features import Floats
from immuno_core.files import write_atomically
from immuno_core.images import containing_file, open_image
from immuno_core.paths import cache_root
from immuno_core.progress import ProgressReport, SilentProgress
from immuno_core.records import ImageSet, Sample, text_digest

_MOST_THREADS = 16
_PLACES = 16**12
SILENT_SECONDS = 2.0
"""What nobody wants to be told the progress of."""


def content_digest(images: ImageSet, progress: ProgressReport | None = None) -> str:
    """Return the SHA-256 over ids, labels and the bytes of the files that hold the images. Reads each file once.

    The `progress` of reading is told where that takes longer than `SILENT_SECONDS`.

    `ImageSet.digest` is had without that, but a copy of a folder, or a file that was only touched, has another.
    """
    holders = [containing_file(sample.path) for sample in images.samples]
    distinct = list(dict.fromkeys(holders))
    shown: ProgressReport = SilentProgress()
    contents: dict[str, str] = {}
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as threads:
            for read, (holder, digest) in enumerate(zip(distinct, threads.map(_file_digest, distinct), strict=True)):
                if progress and shown is not progress and time.monotonic() - began >= SILENT_SECONDS:
                    shown = progress
                    shown.start(len(distinct), f"reading {images.name} ({images.split}) for its digest")
                    shown.advance(read)
                contents[holder] = digest
                shown.advance(1)
    finally:
        shown.stop()
    return text_digest(
        *(
            part
            for sample, holder in zip(images.samples, holders, strict=True)
            for part in (sample.id, sample.label, contents[holder])
        )
    )


def known_content_digest(images: ImageSet, progress: ProgressReport | None = None) -> str:
    """Return `content_digest`, from the cache where files of these paths, sizes and times were read before."""
    known = cache_root() / "contents" / text_digest(images.digest, *(sample.path for sample in images.samples))
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if len(found := known.read_text(encoding="ascii")) == hashlib.sha256().digest_size * 2:
            return found
    digest = content_digest(images, progress)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
        write_atomically(known, digest, sync=False)
    return digest


def state_of(sets: Iterable[ImageSet], progress: ProgressReport | None = None) -> str:
    """Return what tells whether sets are still the same: names, images by content, and what was left out, and why."""
    parts: list[str] = []
    for images in sets:
        left_out = [part for one in images.left_out for part in (Path(one.path).name, one.reason)]
        parts += (images.name, known_content_digest(images, progress), text_digest(*left_out))
    return text_digest(*parts)


def places(samples: Sequence[Sample]) -> Floats:
    """Return (n,) the place of each image in [0, 1), by the SHA-256 of its bytes: it is the same under every name.

    An image that cannot be read has the place 0. What was read of files of these paths, sizes and times is kept in the
    cache.
    """
    stored = cache_root() / "places" / samples_digest(samples, paths=True)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if len(found := stored.read_text(encoding="ascii").split()) == len(samples):
            return np.array([int(one, 16) for one in found]) / _PLACES
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as threads:
        hashes = list(threads.map(_image_hash, [sample.path for sample in samples]))
    with contextlib.suppress(OSError):
        write_atomically(stored, "\n".join(hashes), sync=False)
    return np.array([int(one, 16) for one in hashes]) / _PLACES


def _image_hash(path: str) -> str:
    """48 bits, which a float64 holds exactly."""
    try:
        with open_image(path) as file:
            return hashlib.sha256(file.read()).hexdigest()[:12]
    except (OSError, ValueError):
        return "0" * 12


def samples_digest(samples: Sequence[Sample], *, paths: bool = False) -> str:
    """Return the digest of ids, labels, and sizes and times of the files that hold the samples; `paths`: theirs too."""
    parts: list[str] = []
    file, state = "", ("", "")
    for sample in samples:
        holder = containing_file(sample.path)
        if holder != file:  # the samples of one tar follow one another
            file, state = holder, _state(holder)
        parts += (sample.id, sample.label, *state, *((sample.path,) if paths else ()))
    return text_digest(*parts)


def _state(path: str) -> tuple[str, str]:
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path per image doubles the time for a million of them
    except OSError as error:
        raise SetupError(f"cannot read the image {path}: {error.strerror}") from None
    return str(status.st_size), str(status.st_mtime_ns)


def _file_digest(path: str) -> str:
    """Of a file that cannot be read, "": it has no embedding either."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""

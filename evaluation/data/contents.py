"""What tells whether a set still holds the same images, wherever they are and whenever they were written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from immuno_core.files import write_atomically
from immuno_core.images import containing_file
from immuno_core.paths import cache_root
from immuno_core.progress import ProgressReport, SilentProgress
from immuno_core.records import ImageSet, text_digest

_MOST_THREADS = 16
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


def _file_digest(path: str) -> str:
    """Of a file that cannot be read, "": it has no embedding either."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""

"""Reads image files and members of tars for an encoder, and says why one cannot be read.

What `cluster.decoding` runs in its threads; docs/embedding.md says what becomes of odd images.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from cluster.retries import reading_again
from evaluation.features import FloatArray, IntArray
from evaluation.locations import open_image, tar_member

T = TypeVar("T")


class ImageFailure(NamedTuple):
    """An image that gave no embedding."""

    row: int
    """Its place in the list that was asked for."""
    path: str
    reason: str
    transient: bool = False
    """The system refused the file (permission, network file system): another try may succeed."""


class EmbeddedImages(NamedTuple):
    """The embeddings of a list of image files: a row for each that is not a failure, in the order of the list."""

    features: FloatArray
    """(n - failures, d) float32, unit rows."""
    failures: tuple[ImageFailure, ...]

    def rows(self) -> IntArray:
        """Return (n - failures,) the places in the list of those that have an embedding."""
        failed = {failure.row for failure in self.failures}
        count = len(self.features) + len(failed)
        return np.array([row for row in range(count) if row not in failed], dtype=np.int64)


def with_reason(embedded: EmbeddedImages, paths: Sequence[str], rows: Container[int], reason: str) -> EmbeddedImages:
    """Return it with the failures at `rows` under the paths of the list, for this reason."""
    failures = (
        failure._replace(path=paths[failure.row], reason=reason) if failure.row in rows else failure
        for failure in embedded.failures
    )
    return embedded._replace(failures=tuple(failures))


def read_image(path: str, preprocess: Callable[[Image.Image], T]) -> T:
    """Open an image file or a tar's member and return what `preprocess` makes of it. Any thread may call it.

    Where the file system refuses the file in passing, it is tried again (`cluster.retries`). Raises whatever the system
    or a decoder raises: `failure_of` puts that into words.
    """
    return reading_again(lambda: _read(path, preprocess))


def _read(path: str, preprocess: Callable[[Image.Image], T]) -> T:
    member = tar_member(path)
    file = Path(path if member is None else member.file)
    # A pipe or a device would block for ever, so only regular files are opened.
    if file.exists() and not file.is_file():
        raise ValueError("not a regular file")
    if (file.stat().st_size if member is None else member.size) == 0:
        raise ValueError("the file is empty")
    # Pillow warns of odd metadata, palettes and very large images that it reads all the same.
    with _silence, open_image(path) as stream, Image.open(stream, formats=_formats()) as image:
        return preprocess(image)


class _Silence:
    """No warnings within. Filters belong to the whole process: the first thread in sets them, the last out restores."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


_silence = _Silence()


@functools.cache
def _formats() -> tuple[str, ...]:
    """Every format Pillow reads by itself. EPS is left out: reading it starts Ghostscript on what the file contains."""
    Image.init()
    return tuple(name for name in Image.ID if name != "EPS")


def failure_of(row: int, path: str, error: Exception) -> ImageFailure:
    """Say in one line why `read_image` could not read the image at a place of a list."""
    if isinstance(error, UnidentifiedImageError):
        return ImageFailure(row, path, "not an image")
    if isinstance(error, OSError) and error.errno is not None:
        return ImageFailure(row, path, error.strerror or type(error).__name__, transient=True)
    if isinstance(error, MemoryError):
        return ImageFailure(row, path, "not enough memory to decode it", transient=True)
    lines = str(error).splitlines()
    return ImageFailure(row, path, lines[0] if lines else type(error).__name__)

"""Reads and preprocesses images ahead of the model, in a few threads, and says why one cannot be read.

Threads, because Pillow and torch let go of Python's lock while they decode and resize, and threads need neither a copy
between processes nor a second import of torch (benchmarks/decoding.py compares them). They run ahead by a few batches
only, so memory does not grow with the list.
"""

from __future__ import annotations

import io
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import torch
from PIL import Image, UnidentifiedImageError

from cluster.encoder.pixels import Preprocessing
from immuno_core.errors import first_line
from immuno_core.images import containing_files, open_image, readable_formats, tar_member
from immuno_core.records import FailedImage
from immuno_core.retries import reading_again

T = TypeVar("T")
Source = str | bytes | Image.Image
"""An image: its path, what an image file holds, or a picture that is open already."""


def read_image(source: Source, preprocess: Callable[[Image.Image], T]) -> T:
    """Open an image and return what `preprocess` makes of it. Any thread may call it.

    Where the file system refuses the file in passing, it is tried again (`immuno_core.retries`). Raises whatever the
    system or a decoder raises: `reason_of` puts that into words.
    """
    if isinstance(source, str):
        return reading_again(lambda: _read(source, preprocess))
    if isinstance(source, Image.Image):
        with _silence:
            return preprocess(source)
    if not source:
        raise ValueError("the file is empty")
    with _silence, Image.open(io.BytesIO(source), formats=readable_formats()) as image:
        return preprocess(image)


def place_of(source: Source, row: int) -> str:
    """Return what an image is called: its path, or its place in the list."""
    return source if isinstance(source, str) else f"image {row + 1}"


def _read(path: str, preprocess: Callable[[Image.Image], T]) -> T:
    member = tar_member(path)
    for file in map(Path, containing_files(path)):
        # A pipe or a device would block for ever, so only regular files are opened.
        if file.exists() and not file.is_file():
            raise ValueError("not a regular file")
        if (file.stat().st_size if member is None else member.size) == 0:
            raise ValueError("the file is empty")
    # Pillow warns of odd metadata, palettes and very large images that it reads all the same.
    with _silence, open_image(path) as stream, Image.open(stream, formats=readable_formats()) as image:
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


def is_transient(error: Exception) -> bool:
    """Whether `read_image` may succeed another time: the system refused the file, or had no memory."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None)


def reason_of(error: Exception) -> str:
    """Say in one line why `read_image` could not read an image."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or type(error).__name__
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    return first_line(error)


_AHEAD: Final = 2
"""Batches being decoded, or waiting decoded, beside the one that was handed out."""
_IMAGES_AT_ONCE: Final = 8
"""Images in one task of a worker: enough to hide what a task costs, few enough to share a batch evenly."""


class DecodedBatch(NamedTuple):
    """Consecutive images of a list, decoded."""

    rows: tuple[int, ...]
    """The places in the list of those that could be read."""
    pixels: torch.Tensor
    """(len(rows), h, w, 3) uint8, in pinned memory where the model is on a GPU."""
    failures: dict[int, FailedImage]
    """By their places in the list."""
    transient: frozenset[int]
    """As `EmbeddedImages.transient`."""
    seconds: float
    """What the workers took for it, added up."""


class _Chunk(NamedTuple):
    failures: dict[int, FailedImage]
    transient: list[int]
    seconds: float


class Decoder:
    """Decode workers, shared by all the lists that are being read at a time. Its threads end with it."""

    def __init__(self, preprocessing: Preprocessing, size: tuple[int, int], *, threads: int, pinned: bool) -> None:
        """`size`: (height, width) of the preprocessed images. `pinned`: into memory that a GPU can copy from."""
        self.threads = threads
        self._preprocessing = preprocessing
        self._size = size
        self._pinned = pinned
        self._workers = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def batches(self, paths: Sequence[Source], batch_size: int) -> Generator[DecodedBatch, None, None]:
        """Read every file, and yield batches of `batch_size` consecutive ones in order; the last may be smaller.

        Nothing that a file contains is raised: whatever its decoder says becomes a FailedImage. A generator that is
        closed early drops what it had begun.
        """
        begun: deque[_Batch] = deque()
        try:
            for start in range(0, len(paths), batch_size):
                begun.append(self._begin(paths[start : start + batch_size], start))
                if len(begun) > _AHEAD:
                    yield begun.popleft().wait()
            while begun:
                yield begun.popleft().wait()
        finally:
            for batch in begun:
                batch.drop()

    def _begin(self, paths: Sequence[Source], start: int) -> _Batch:
        pixels = torch.empty((len(paths), *self._size, 3), dtype=torch.uint8, pin_memory=self._pinned)
        chunks = [
            self._workers.submit(self._decode, paths[i : i + _IMAGES_AT_ONCE], start + i, pixels[i:])
            for i in range(0, len(paths), _IMAGES_AT_ONCE)
        ]
        return _Batch(start, pixels, chunks)

    def _decode(self, paths: Sequence[Source], first: int, into: torch.Tensor) -> _Chunk:
        """Write the images of `paths` into the rows of `into`; `first` is the place in the list of the first."""
        started = time.perf_counter()
        target, chunk = into.numpy(), _Chunk({}, [], 0.0)
        for i, source in enumerate(paths):
            try:
                target[i] = read_image(source, self._preprocessing.pixels)
            except Exception as error:  # noqa: BLE001 - decoders of broken files raise anything at all
                chunk.failures[first + i] = FailedImage("", place_of(source, first + i), reason_of(error))
                if is_transient(error):
                    chunk.transient.append(first + i)
        return chunk._replace(seconds=time.perf_counter() - started)


class _Batch(NamedTuple):
    """A batch whose images are being decoded."""

    start: int
    pixels: torch.Tensor
    chunks: list[Future[_Chunk]]

    def wait(self) -> DecodedBatch:
        chunks = [chunk.result() for chunk in self.chunks]
        failures = {row: failure for chunk in chunks for row, failure in chunk.failures.items()}
        rows = tuple(row for row in range(self.start, self.start + len(self.pixels)) if row not in failures)
        pixels = self.pixels[[row - self.start for row in rows]] if failures else self.pixels
        transient = frozenset(row for chunk in chunks for row in chunk.transient)
        return DecodedBatch(rows, pixels, failures, transient, sum(chunk.seconds for chunk in chunks))

    def drop(self) -> None:
        for chunk in self.chunks:
            chunk.cancel()

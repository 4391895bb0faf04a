"""Reads and preprocesses images ahead of the model: a few threads fill the next batches while it works on this one.

Threads, because Pillow and torch let go of Python's lock while they decode and resize, and threads need neither a copy
between processes nor a second import of torch (benchmarks/decoding.py compares them). They run ahead by a few batches
only, so memory does not grow with the list.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, NamedTuple

import torch

from cluster.images import ImageFailure, failure_of, read_image
from cluster.pixels import Preprocessing

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
    failures: tuple[ImageFailure, ...]
    seconds: float
    """What the workers took for it, added up."""


class _Chunk(NamedTuple):
    failures: list[ImageFailure]
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

    def batches(self, paths: Sequence[str], batch_size: int) -> Generator[DecodedBatch, None, None]:
        """Read every file, and yield batches of `batch_size` consecutive ones in order; the last may be smaller.

        Nothing that a file contains is raised: whatever its decoder says becomes an ImageFailure. A generator that is
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

    def _begin(self, paths: Sequence[str], start: int) -> _Batch:
        pixels = torch.empty((len(paths), *self._size, 3), dtype=torch.uint8, pin_memory=self._pinned)
        chunks = [
            self._workers.submit(self._decode, paths[i : i + _IMAGES_AT_ONCE], start + i, pixels[i:])
            for i in range(0, len(paths), _IMAGES_AT_ONCE)
        ]
        return _Batch(start, pixels, chunks)

    def _decode(self, paths: Sequence[str], first: int, into: torch.Tensor) -> _Chunk:
        """Write the images of `paths` into the rows of `into`; `first` is the place in the list of the first."""
        started = time.perf_counter()
        target, failures = into.numpy(), []
        for i, path in enumerate(paths):
            try:
                target[i] = read_image(path, self._preprocessing.pixels)
            except Exception as error:  # noqa: BLE001 - decoders of broken files raise anything at all
                failures.append(failure_of(first + i, path, error))
        return _Chunk(failures, time.perf_counter() - started)


class _Batch(NamedTuple):
    """A batch whose images are being decoded."""

    start: int
    pixels: torch.Tensor
    chunks: list[Future[_Chunk]]

    def wait(self) -> DecodedBatch:
        chunks = [chunk.result() for chunk in self.chunks]
        failures = tuple(failure for chunk in chunks for failure in chunk.failures)
        failed = {failure.row for failure in failures}
        rows = tuple(row for row in range(self.start, self.start + len(self.pixels)) if row not in failed)
        pixels = self.pixels[[row - self.start for row in rows]] if failed else self.pixels
        return DecodedBatch(rows, pixels, failures, sum(chunk.seconds for chunk in chunks))

    def drop(self) -> None:
        for chunk in self.chunks:
            chunk.cancel()

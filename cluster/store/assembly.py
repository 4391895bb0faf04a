"""A whole set's rows in one array that lies in a file, so that memory does not grow with the set.

Shards come in any order; each is written to the place of its first image. At the end the gaps that unreadable images
left are closed, and the file is mapped into memory, read-only. It never has a name: whatever becomes of the program,
nothing is left behind.
"""

from __future__ import annotations

import mmap
import tempfile
from io import FileIO
from pathlib import Path
from typing import Final

import numpy as np

from immuno_core.errors import SetupError
from immuno_core.features import FloatArray
from immuno_core.paths import cache_root

_ITEM: Final = np.dtype(np.float32).itemsize


class Assembly:
    """Gathers the rows of one set."""

    def __init__(self, folder: Path, dim: int) -> None:
        """The file is made in `folder`, or in the cache folder where that may not be written."""
        self._file, self._folder = _nameless(folder)
        self._row_bytes = dim * _ITEM
        self._dim = dim
        self._counts: dict[int, int] = {}

    def put(self, start: int, rows: FloatArray) -> None:
        """Take the rows (n, d) of the shard whose first image is number `start` of the set.

        Raises SetupError where the disk is full.
        """
        self._write(start * self._row_bytes, np.ascontiguousarray(rows, dtype=np.float32).tobytes())
        self._counts[start] = len(rows)

    def finish(self) -> FloatArray:
        """Return the rows (n, d) float32 in the order of the set, read-only. Raises SetupError where the disk is full.

        The array holds the file, which vanishes with it.
        """
        end = 0
        for start, count in sorted(self._counts.items()):
            if count and start != end:
                self._file.seek(start * self._row_bytes)
                self._write(end * self._row_bytes, self._file.read(count * self._row_bytes))
            end += count
        with self._file:
            if not end:
                return np.empty((0, self._dim), dtype=np.float32)
            mapped = mmap.mmap(self._file.fileno(), end * self._row_bytes, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, dtype=np.float32).reshape(end, self._dim)

    def close(self) -> None:
        """Give up: an assembly that is not finished needs its file no more."""
        self._file.close()

    def _write(self, position: int, content: bytes) -> None:
        try:
            self._file.seek(position)
            left = memoryview(content)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise SetupError(
                f"cannot put a set together in {self._folder}: {error.strerror}; free some space there (its embeddings "
                "are stored, and the same command goes on from there)"
            ) from None


def _nameless(folder: Path) -> tuple[FileIO, Path]:
    problem: OSError | None = None
    for place in (folder, cache_root()):
        try:
            place.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=place, buffering=0), place
        except OSError as error:
            problem = problem or error
    raise SetupError(
        f"cannot put a set together in {folder} or {cache_root()}: {problem.strerror if problem else ''}; set "
        "IMMUNO_CACHE to a folder that you may write to"
    )

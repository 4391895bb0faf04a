"""Writes tars and feature files as people have them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """Write an uncompressed tar with these members in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def directions(count: int, dim: int = 8, *, seed: int = 0, scale: float = 3.0) -> NDArray[np.float32]:
    """(count, dim) random rows, not of unit norm."""
    rows = np.random.default_rng(seed).normal(size=(count, dim)) * scale
    return rows.astype(np.float32)

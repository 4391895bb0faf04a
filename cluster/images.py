"""Reads image files and members of tars for an encoder, and keeps one that cannot be read from harming the others."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from evaluation.features import FloatArray, IntArray
from evaluation.locations import open_image, tar_member

if TYPE_CHECKING:
    import torch


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


def read_images(
    paths: Sequence[str], preprocess: Callable[[Image.Image], torch.Tensor]
) -> tuple[list[torch.Tensor | None], list[ImageFailure]]:
    """Read and preprocess every file; one entry for each path, None where it is a failure.

    Nothing that a file contains is raised: whatever its decoder says becomes the failure's reason.
    """
    images: list[torch.Tensor | None] = []
    failures = []
    for row, path in enumerate(paths):
        try:
            images.append(_read(path, preprocess))
        except Exception as error:  # noqa: BLE001 - decoders of broken files raise anything at all
            images.append(None)
            failures.append(_failure(row, path, error))
    return images, failures


def _read(path: str, preprocess: Callable[[Image.Image], torch.Tensor]) -> torch.Tensor:
    member = tar_member(path)
    file = Path(path if member is None else member.file)
    # A pipe or a device would block for ever, so only regular files are opened.
    if file.exists() and not file.is_file():
        raise ValueError("not a regular file")
    if (file.stat().st_size if member is None else member.size) == 0:
        raise ValueError("the file is empty")
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, palettes and very large images that it reads all the same.
        warnings.simplefilter("ignore")
        with open_image(path) as stream, Image.open(stream, formats=_formats()) as image:
            return preprocess(image)


@functools.cache
def _formats() -> tuple[str, ...]:
    """Every format Pillow reads by itself. EPS is left out: reading it starts Ghostscript on what the file contains."""
    Image.init()
    return tuple(name for name in Image.ID if name != "EPS")


def _failure(row: int, path: str, error: Exception) -> ImageFailure:
    if isinstance(error, UnidentifiedImageError):
        return ImageFailure(row, path, "not an image")
    if isinstance(error, OSError) and error.errno is not None:
        return ImageFailure(row, path, error.strerror or type(error).__name__, transient=True)
    lines = str(error).splitlines()
    return ImageFailure(row, path, lines[0] if lines else type(error).__name__)

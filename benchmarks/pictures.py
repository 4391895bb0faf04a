"""Draws photo-like JPEGs for benchmarks: smooth shapes at several scales, and a little grain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

_SCALES = ((4, 60), (12, 50), (40, 40), (120, 22))
"""Grid cells across the picture, and how strong they are (grey levels in 100)."""


def draw_picture(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Draw one RGB picture of a (width, height)."""
    width, height = size
    sum_of_scales = np.full((height, width, 3), 128, np.float32)
    for cells, strength in _SCALES:
        coarse = rng.integers(0, 256, (max(2, cells * height // width), cells, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float32)
        sum_of_scales += (smooth - 128) * (strength / 100)
    sum_of_scales += rng.normal(0, 6, (height, width, 1)).astype(np.float32)
    return Image.fromarray(np.clip(sum_of_scales, 0, 255).astype(np.uint8))


def write_pictures(folder: Path, count: int, *, size: tuple[int, int], seed: int = 0) -> list[Path]:
    """Write `count` JPEGs of quality 90 and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"{i:05}.jpg" for i in range(count)]
    for path in paths:
        draw_picture(rng, size).save(path, quality=90)
    return paths

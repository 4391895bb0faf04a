"""Images made of others, always the same from the same ones: what outliers cost that are drawn instead of told.

    cutmix      a rectangle of the second image over the first: 30 to 60 % of it
    shuffled    the first image in 16 patches, in another order
    moved       what stands in the foreground of the first image, before the background of the second

CutMix: Yun et al. (ICCV 2019, arXiv 1905.04899). The foreground is what differs from the colours along the edges of
its image, by Otsu's threshold; where that finds next to nothing, or nearly all, it is a disc in the middle. A
background is an image whose own foreground has the mean colour of its edges.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

How = Literal["cutmix", "shuffled", "moved"]
HOW: Final[tuple[How, ...]] = get_args(How)
_GRID: Final = 4
_MASK_SHARE: Final = (0.05, 0.6)
"""Of the pixels, what a foreground may have."""
_Pixels = NDArray[np.float32]
_Mask = NDArray[np.bool_]


def compose(how: How, first: Image.Image, second: Image.Image, *, side: int, seed: int) -> Image.Image:
    """Return an RGB image of `side` x `side` pixels; `seed` >= 0 draws what is left open. `shuffled` needs no second.

    Both are taken from the middle of their images.
    """
    rng = np.random.default_rng([seed, HOW.index(how)])
    one, other = (np.asarray(ImageOps.fit(image.convert("RGB"), (side, side)), np.float32) for image in (first, second))
    made = {"cutmix": _cutmix, "shuffled": _shuffled, "moved": _moved}[how](one, other, rng)
    return Image.fromarray(made.round().clip(0, 255).astype(np.uint8), "RGB")


def _cutmix(one: _Pixels, other: _Pixels, rng: np.random.Generator) -> _Pixels:
    side, share = len(one), rng.uniform(0.3, 0.6)
    height = round(side * share ** rng.uniform(0.25, 0.75))
    width = round(side * side * share / height)
    top, left = rng.integers(0, side - height + 1), rng.integers(0, max(1, side - width + 1))
    made = one.copy()
    made[top : top + height, left : left + width] = other[top : top + height, left : left + width]
    return made


def _shuffled(one: _Pixels, _: _Pixels, rng: np.random.Generator) -> _Pixels:
    order = rng.permutation(_GRID * _GRID)
    bounds = np.linspace(0, len(one), _GRID + 1).round().astype(int)
    size = int(np.diff(bounds).min())
    made = one.copy()
    for place, taken in enumerate(order):
        (row, column), (from_row, from_column) = divmod(place, _GRID), divmod(int(taken), _GRID)
        y, x, from_y, from_x = bounds[[row, column, from_row, from_column]]
        made[y : y + size, x : x + size] = one[from_y : from_y + size, from_x : from_x + size]
    return made


def _moved(one: _Pixels, other: _Pixels, _: np.random.Generator) -> _Pixels:
    behind = np.where(foreground(other)[..., None], _edge(other).mean(axis=0), other)
    # Soft along the cut, which would be an edge that no photograph has.
    cut = Image.fromarray(foreground(one).astype(np.uint8) * 255, "L").filter(ImageFilter.GaussianBlur(len(one) / 100))
    weight = np.asarray(cut, np.float32)[..., None] / 255
    return np.asarray(weight * one + (1 - weight) * behind, np.float32)


def foreground(image: _Pixels) -> _Mask:
    """Return which pixels (h, h) of a square image (h, h, 3), 0 to 255, show what stands before its background."""
    edge = _edge(image)
    spread = np.cov(edge.T) + 25 * np.eye(3)
    apart = image - edge.mean(axis=0)
    distance = np.sqrt(np.einsum("yxc,cd,yxd->yx", apart, np.linalg.inv(spread), apart))
    mask: _Mask = distance > _otsu(distance)
    if _MASK_SHARE[0] <= mask.mean() <= _MASK_SHARE[1]:
        return mask
    middle = (np.arange(len(image)) - (len(image) - 1) / 2) / len(image)
    disc: _Mask = middle[:, None] ** 2 + middle**2 < 0.34**2
    return disc


def _edge(image: _Pixels) -> _Pixels:
    """The colours (n, 3) along the edges, a sixteenth of the image wide."""
    width = max(1, len(image) // 16)
    inside = np.zeros(image.shape[:2], dtype=bool)
    inside[width:-width, width:-width] = True
    return image[~inside]


def _otsu(values: NDArray[np.floating]) -> float:
    """The threshold that parts values best in two: the largest variance between the parts (Otsu, 1979)."""
    counts, bounds = np.histogram(values, bins=64)
    middles = (bounds[1:] + bounds[:-1]) / 2
    below, total = np.cumsum(counts), np.cumsum(counts * middles)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.nan_to_num(below * above * (total / below - (total[-1] - total) / above) ** 2)
    return float(bounds[1 + int(between[:-1].argmax())])

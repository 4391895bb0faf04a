"""open_clip's preprocessing of an image, cut in two: what a decode worker does, and what the model's device does.

A worker resizes, crops and converts one image to 8-bit RGB; the device scales and normalises whole batches in float32.
Every value is, bit for bit, the one that open_clip's own preprocessing gives, but only a quarter of the bytes wait in
memory and cross to a GPU.

The fast way (`fast_decode`) is not identical: a JPEG at least four times as large as needed is decoded at a half, a
quarter or an eighth of its size, and RGB images are resized by torch instead of Pillow. docs/embedding.md states by how
much vectors differ, benchmarks/embedding.py measures what it gains.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transform import MaybeConvertMode, MaybeToTensor
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize
from torchvision.transforms.v2 import functional

from immuno_core.errors import SetupError

Pixels = NDArray[np.uint8]
"""(h, w, 3), RGB, of the size that the model takes."""
_DEEP_GREY: Final = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
"""Pillow's modes of 16 or 32 bits a pixel."""
_DRAFT_MARGIN: Final = 2
"""A JPEG is decoded at a reduced size only where that stays this many times the size it is then resized to."""


class Preprocessing:
    """Image -> `pixels` -> batch -> `normalise` -> what the model takes."""

    def __init__(
        self, transform: Callable[[Image.Image], torch.Tensor], *, fast: bool = False, label: str = ""
    ) -> None:
        """`transform` is open_clip's for evaluation; `label` is the encoder's name in errors.

        Raises SetupError for one that does not end as open_clip's do, and where the fast way does not know its steps.
        """
        steps = transform.transforms if isinstance(transform, Compose) else []
        if [type(step) for step in steps[-3:]] != [MaybeConvertMode, MaybeToTensor, Normalize]:
            raise SetupError(f"the preprocessing of the encoder '{label}' is not open_clip's: {transform}")
        self._exact = Compose(steps[:-2])
        self._shortest = steps[0].size if isinstance(steps[0], Resize) and isinstance(steps[0].size, int) else None
        self._mean, self._std = (torch.tensor(values).view(3, 1, 1) for values in (steps[-1].mean, steps[-1].std))
        self._resize: Resize | None = None
        if fast:
            if [type(step) for step in steps[:-3]] not in ([Resize, CenterCrop], [Resize]):
                raise SetupError(
                    f"fast_decode does not know how the encoder '{label}' resizes its images ({steps[0]}); leave it out"
                )
            self._resize, self._crops = steps[0], steps[1:-3]

    def pixels(self, image: Image.Image) -> Pixels:
        """Resize, crop and convert an opened image; decodes it.

        Raises whatever Pillow raises for a broken one, and ValueError for grey values of more than 8 bits, and for
        sides so unlike that resizing the shorter one would make an image too large.
        """
        if self._shortest is not None and Image.MAX_IMAGE_PIXELS is not None:
            short, long = sorted(image.size)
            if self._shortest**2 * long > 2 * Image.MAX_IMAGE_PIXELS * short:  # of which Pillow opens none
                raise ValueError(f"{image.width:,} x {image.height:,} pixels: too long for its width to be resized")
        if image.mode in _DEEP_GREY:
            raise ValueError(
                f"its grey values have more than 8 bits (Pillow's mode {image.mode}), which open_clip's preprocessing "
                "would cut off at white; convert it to 8 bits"
            )
        if self._resize is not None:
            image.draft(None, _draft_size(image.size, self._resize))
            if image.mode == "RGB":
                return self._fast(image, self._resize)
        # Other modes are resized before they are converted, as open_clip does.
        return np.asarray(self._exact(image))

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, h, w, 3) uint8 -> (n, 3, h, w) float32, channels last, on the same device."""
        if self._mean.device != pixels.device:
            self._mean, self._std = self._mean.to(pixels.device), self._std.to(pixels.device)
        images = pixels.permute(0, 3, 1, 2).to(torch.float32)
        return images.div_(255).sub_(self._mean).div_(self._std)

    def _fast(self, image: Image.Image, resize: Resize) -> Pixels:
        whole = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        scaled = functional.resize(whole, resize.size, resize.interpolation, antialias=True)
        for crop in self._crops:
            scaled = crop(scaled)
        pixels: Pixels = scaled.permute(1, 2, 0).numpy()
        return pixels


def _draft_size(size: tuple[int, int], resize: Resize) -> tuple[int, int]:
    """The (width, height) below which a JPEG may not be decoded."""
    width, height = size
    if isinstance(resize.size, int):
        scale = resize.size / min(width, height)
        target = (width * scale, height * scale)
    else:
        target = (resize.size[1], resize.size[0])
    return round(_DRAFT_MARGIN * target[0]), round(_DRAFT_MARGIN * target[1])

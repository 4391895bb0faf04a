"""Opens an image for people or models to look at: upright, on white, small, whatever the file holds."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, ImageOps

from evaluation.locations import containing_file, open_image


def open_on_white(path: str, largest_side: int) -> Image.Image | None:
    """Return the image at `path` (evaluation.locations) in RGB, at most `largest_side` pixels wide and high.

    None where the file is missing, is no picture, or is so large that decoding it could exhaust the memory.
    """
    try:
        with warnings.catch_warnings():
            # Odd metadata is nobody's business here.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _on_white(path, largest_side)
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError):
        return None


def _on_white(path: str, largest_side: int) -> Image.Image:
    if not Path(containing_file(path)).is_file():
        raise FileNotFoundError(path)
    with open_image(path) as stream, Image.open(stream) as opened:
        opened.draft("RGB", (2 * largest_side, 2 * largest_side))
        upright = ImageOps.exif_transpose(opened).convert("RGBA")
    upright.thumbnail((largest_side, largest_side))
    white = Image.new("RGBA", upright.size, "white")
    return Image.alpha_composite(white, upright).convert("RGB")

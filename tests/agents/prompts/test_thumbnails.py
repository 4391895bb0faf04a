"""Pictures for chat models that see: small, bounded, and nothing of the file but what it shows."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agents.prompts.inspection import MOST_BYTES, SIDE, thumbnail

PREFIX = "data:image/jpeg;base64,"


def opened(url: str) -> Image.Image:
    assert url.startswith(PREFIX)
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix(PREFIX))))


@pytest.mark.parametrize("size", [(2000, 900), (64, 64), (1, 3000)])
def test_a_picture_is_small_whatever_the_file_is(tmp_path: Path, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    url = thumbnail(str(tmp_path / "x.png"))
    assert url is not None
    assert max(opened(url).size) <= SIDE
    assert len(url) <= 4 * MOST_BYTES / 3 + len(PREFIX) + 4


def test_metadata_stays_behind(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "ImageDescription: the_sealed_part"
    Image.new("RGB", (300, 200), "red").save(tmp_path / "x.jpg", exif=exif, comment=b"the_sealed_part")
    url = thumbnail(str(tmp_path / "x.jpg"))
    assert url is not None
    assert b"sealed" not in base64.b64decode(url.removeprefix(PREFIX))
    assert not opened(url).getexif()


def test_transparency_becomes_white(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "x.png")
    url = thumbnail(str(tmp_path / "x.png"))
    assert url is not None
    assert opened(url).convert("RGB").getpixel((20, 20)) == (255, 255, 255)


@pytest.mark.parametrize("path", ["missing.png", "text.png", "x.npz::17"])
def test_where_there_is_no_picture_there_is_none(tmp_path: Path, path: str) -> None:
    (tmp_path / "text.png").write_text("no picture")
    assert thumbnail(str(tmp_path / path)) is None

"""Images that are not plain 8-bit RGB: embedded as open_clip embeds them, or refused one by one with the reason.

The table of docs/embedding.md, "What happens to odd images".
"""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from cluster import EncoderSpec
from cluster.encoder.encoder import Encoder, load_encoder
from tests.cluster.tiny_models import photo

PHOTO = photo((40, 30))


@pytest.fixture(scope="module")
def encoder(tiny_encoder_dir: Path) -> Encoder:
    return load_encoder(EncoderSpec(f"local-dir:{tiny_encoder_dir}"), batch_size=3)


@pytest.fixture(scope="module")
def fast(tiny_encoder_dir: Path) -> Encoder:
    return load_encoder(EncoderSpec(f"local-dir:{tiny_encoder_dir}", fast_decode=True), batch_size=3)


@pytest.fixture(scope="module")
def by_open_clip(tiny_encoder_dir: Path) -> Callable[[Path], np.ndarray]:
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_encoder_dir}")
    model.eval()

    def embed(path: Path) -> np.ndarray:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image, torch.inference_mode():
            rows: np.ndarray = model.encode_image(preprocess(image)[None], normalize=True).numpy()
        return rows

    return embed


# --- embedded


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees to view
    PHOTO.save(path, exif=exif)


def transparent_palette(path: Path) -> None:
    picture = PHOTO.convert("P")
    picture.info["transparency"] = bytes(range(256))  # Pillow warns of it; warnings are errors here
    picture.save(path)


def see_through(path: Path) -> None:
    picture = PHOTO.convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(PHOTO.size))
    picture.save(path)


def animation(path: Path) -> None:
    PHOTO.convert("P").save(path, save_all=True, append_images=[photo((40, 30), seed=i).convert("P") for i in (1, 2)])


def deep_colour(path: Path) -> None:
    """A PNG with 16 bits for each of red, green and blue, which Pillow reads as 8."""
    values = np.asarray(PHOTO).astype(">u2") * 256 + 99
    lines = b"".join(b"\x00" + line.tobytes() for line in values)
    path.write_bytes(png(PHOTO.size, depth=16, colour=2, lines=lines))


def png(size: tuple[int, int], *, depth: int, colour: int, lines: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


EMBEDDED: dict[str, Callable[[Path], object]] = {
    "rgb.jpg": PHOTO.save,
    "exif-rotated.jpg": rotated,
    "cmyk.jpg": PHOTO.convert("CMYK").save,
    "cmyk.tif": PHOTO.convert("CMYK").save,
    "grey.jpg": PHOTO.convert("L").save,
    "grey.png": PHOTO.convert("L").save,
    "grey-alpha.png": PHOTO.convert("LA").save,
    "one-bit.png": PHOTO.convert("1").save,
    "palette.png": PHOTO.convert("P").save,
    "palette-transparent.png": transparent_palette,
    "alpha.png": see_through,
    "alpha.webp": see_through,
    "lab.tif": Image.merge("LAB", PHOTO.split()).save,
    "16-bit-colour.png": deep_colour,
    "animated.gif": animation,
    "animated.png": animation,
    "strip.bmp": PHOTO.crop((0, 0, 40, 1)).save,
    "one-pixel.png": PHOTO.crop((0, 0, 1, 1)).save,
    "progressive.jpg": lambda path: PHOTO.save(path, progressive=True),
    "no-suffix": lambda path: PHOTO.save(path, format="PNG"),
    "wrong-suffix.png": lambda path: PHOTO.save(path, format="JPEG"),
}


@pytest.mark.parametrize("name", EMBEDDED)
def test_it_is_embedded_as_open_clip_embeds_it(
    name: str, encoder: Encoder, fast: Encoder, by_open_clip: Callable[[Path], np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / name
    EMBEDDED[name](path)
    embedded = encoder.embed_image_files([str(path)])
    assert embedded.failures == {}
    np.testing.assert_allclose(embedded.features, by_open_clip(path), atol=1e-6)
    np.testing.assert_allclose(fast.embed_image_files([str(path)]).features, embedded.features, atol=0.02)


def test_a_rotation_in_the_metadata_is_left_undone(encoder: Encoder, tmp_path: Path) -> None:
    rotated(tmp_path / "rotated.jpg")
    PHOTO.save(tmp_path / "plain.jpg")
    rows = encoder.embed_image_files([str(tmp_path / "rotated.jpg"), str(tmp_path / "plain.jpg")]).features
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)


# --- refused

WHOLE_JPEG = b"\xff\xd8\xff"


def photo_bytes(path: Path, form: str) -> bytes:
    photo((200, 150)).save(path, format=form)
    return path.read_bytes()


def deep_grey(path: Path) -> None:
    Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50).save(path)


def floating(path: Path) -> None:
    Image.fromarray(np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)).save(path)


def cut_off(path: Path) -> None:
    form = "JPEG" if path.suffix == ".jpg" else "PNG"
    content = photo_bytes(path, form)
    path.write_bytes(content[: len(content) // 2])


def damaged(path: Path) -> None:
    content = photo_bytes(path, "PNG")
    path.write_bytes(content[:40] + b"\xff" * 200 + content[240:])


def bomb(path: Path) -> None:
    """A few bytes that claim 400 million pixels."""
    path.write_bytes(png((20_000, 20_000), depth=8, colour=2, lines=bytes(100)))


def vast(path: Path) -> None:
    """A header beyond what any memory holds."""
    path.write_bytes(png((2**31 - 1, 2**31 - 1), depth=8, colour=2, lines=bytes(100)))


def script(path: Path) -> None:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "16-bit-grey.png": (deep_grey, r"grey values have more than 8 bits \(Pillow's mode I;16\).*convert it to 8 bits"),
    "16-bit-grey.tif": (deep_grey, r"more than 8 bits \(Pillow's mode I;16\)"),
    "floating.tif": (floating, r"more than 8 bits \(Pillow's mode F\)"),
    "empty.jpg": (Path.touch, "^the file is empty$"),
    "text.png": (lambda path: path.write_text("no image\n"), "^not an image$"),
    "page.jpg": (lambda path: path.write_text("<html>404</html>"), "^not an image$"),
    "script.png": (script, "^not an image$"),  # Ghostscript is never started on a stranger's file
    "truncated.jpg": (cut_off, "truncated"),
    "truncated.png": (cut_off, "truncated"),
    "head-only.jpg": (lambda path: path.write_bytes(WHOLE_JPEG), "^not an image$"),
    "damaged.png": (damaged, "^not an image$"),
    "bomb.png": (bomb, "exceeds limit of 178956970 pixels, could be decompression bomb"),
    "vast.png": (vast, "could be decompression bomb"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_its_reason_and_its_neighbours_are_embedded(
    name: str, encoder: Encoder, fast: Encoder, tmp_path: Path
) -> None:
    make, reason = REFUSED[name]
    neighbours = [tmp_path / "before.jpg", tmp_path / "after.jpg"]
    for seed, neighbour in enumerate(neighbours):
        photo((40, 30), seed=seed).save(neighbour)
    make(tmp_path / name)
    paths = [str(neighbours[0]), str(tmp_path / name), str(neighbours[1])]
    for one in (encoder, fast):
        embedded = one.embed_image_files(paths)
        ((row, failure),) = embedded.failures.items()
        assert (row, failure.path, embedded.transient) == (1, paths[1], frozenset())
        assert "\n" not in failure.reason
        assert re.search(reason, failure.reason), failure.reason
        assert len(embedded.features) == 2
        alone = one.embed_image_files([paths[0], paths[2]]).features
        np.testing.assert_allclose(embedded.features, alone, atol=1e-6)


def test_want_of_memory_for_one_image_may_pass(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PHOTO.save(tmp_path / "a.png")

    def fail(image: Image.Image) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(encoder.preprocessing, "pixels", fail)
    embedded = encoder.embed_image_files([str(tmp_path / "a.png")])
    assert [failure.reason for failure in embedded.failures.values()] == ["not enough memory to decode it"]
    assert embedded.transient == {0}

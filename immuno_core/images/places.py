"""Where an image is, as `Sample.path` says it (a file, a tar's member, a row of a feature file), and a look at it.

/data/sun/1.jpg                         a file
/data/000.tar::cat/1.jpg@1536+20480     20,480 bytes of a tar from byte 1,536 on: read by seeking, not extracted
/data/sun.npz::17                       no image at all but its embedding, row 17 (evaluation.data.feature_files)
made:{"how": "cutmix", "of": [...]}     an image made of those of two other paths when it is opened; it lies nowhere
"""

from __future__ import annotations

import functools
import io
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from PIL import Image, ImageOps

from immuno_core.images.composites import HOW, How, compose

_MADE: Final = "made:"

_MEMBER = re.compile(r"(?P<file>.+?\.tar)::(?P<member>.+)@(?P<offset>\d+)\+(?P<size>\d+)", re.DOTALL | re.IGNORECASE)
_ROW = re.compile(r"(?P<file>.+?\.(?:npz|safetensors))::(?P<row>\d+)", re.DOTALL | re.IGNORECASE)


class TarMember(NamedTuple):
    """A regular file within an uncompressed tar: `size` bytes from byte `offset` on."""

    file: str
    member: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.file}::{self.member}@{self.offset}+{self.size}"


class FeatureRow(NamedTuple):
    """A row of the array `features` of a feature file."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}::{self.row}"


def tar_member(path: str) -> TarMember | None:
    """Return what a path says of a tar's member; None for any other path."""
    found = _MEMBER.fullmatch(path) if "::" in path else None
    return TarMember(found["file"], found["member"], int(found["offset"]), int(found["size"])) if found else None


def feature_row(path: str) -> FeatureRow | None:
    """Return what a path says of a feature file's row; None for any other path."""
    found = _ROW.fullmatch(path) if "::" in path else None
    return FeatureRow(found["file"], int(found["row"])) if found else None


class MadeImage(NamedTuple):
    """What an image is made of, and how (immuno_core.images.composites); `of` are the absolute paths of two images."""

    how: How
    of: tuple[str, str]
    side: int
    seed: int

    def __str__(self) -> str:
        return _MADE + json.dumps(self._asdict())

    def png(self) -> bytes:
        """Return the image. Raises what opening and decoding the others does."""
        first, second = map(_upright, self.of)
        image = compose(self.how, first, second, side=self.side, seed=self.seed)
        stream = io.BytesIO()
        image.save(stream, "PNG")
        return stream.getvalue()


def _upright(path: str) -> Image.Image:
    with open_image(path) as stream, Image.open(stream, formats=readable_formats()) as opened:
        return ImageOps.exif_transpose(opened)


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Every format Pillow reads by itself. EPS is left out: reading it starts Ghostscript on what the file contains."""
    Image.init()
    return tuple(name for name in Image.ID if name != "EPS")


def made_image(path: str) -> MadeImage | None:
    """Return what a path says of an image to be made; None for any other path."""
    if not path.startswith(_MADE):
        return None
    try:
        said = MadeImage(**json.loads(path.removeprefix(_MADE)))
        plain = said.how in HOW and len(said.of) == 2 and not any(one.startswith(_MADE) for one in said.of)
        return said._replace(of=(said.of[0], said.of[1])) if plain and 0 < said.side <= _LARGEST_MADE else None
    except (TypeError, ValueError, AttributeError):
        return None


_LARGEST_MADE: Final = 2048


def containing_files(path: str) -> Sequence[str]:
    """Return the files that have to be there for the image to be read: its tar, its feature file, or what it is."""
    made = made_image(path)
    return [containing_file(path)] if made is None else [containing_file(one) for one in made.of]


def containing_file(path: str) -> str:
    """Return the first of `containing_files`."""
    if (made := made_image(path)) is not None:
        return containing_file(made.of[0])
    place = tar_member(path) or feature_row(path)
    return path if place is None else place.file


def open_image(path: str) -> BinaryIO:
    """Open the bytes of an image, be it a file, a tar's member or one that is made now.

    Raises OSError as opening a file does, and ValueError for a tar that ends within the member and for a feature row.
    """
    if (made := made_image(path)) is not None:
        return io.BytesIO(made.png())
    if feature_row(path) is not None:
        raise ValueError("an embedding, not an image")
    place = tar_member(path)
    if place is None:
        return Path(path).open("rb")
    with Path(place.file).open("rb") as tar:
        tar.seek(place.offset)
        content = tar.read(place.size)
    if len(content) < place.size:
        raise ValueError("the tar ends within this member")
    return io.BytesIO(content)


def open_on_white(path: str, largest_side: int) -> Image.Image | None:
    """Return the image at `path` (immuno_core.images) in RGB, at most `largest_side` pixels wide and high.

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

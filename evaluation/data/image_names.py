"""What the name of a file says: an image to read, something that only looks like one, or neither.

Images are known by their suffixes, in any case: those of every format that Pillow decodes. Nothing is opened to find
out, since the sealed test is listed too. What looks like an image and is none of a set is counted with its reason.
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from immuno_core.records import FailedImage, Sample


def _suffixes(words: str) -> frozenset[str]:
    return frozenset(f".{word}" for word in words.split())


IMAGE_SUFFIXES: Final = _suffixes(
    "apng avif avifs blp bmp bw cur dcx dds dib fit fits flc fli ftc ftu gbr gif icb icns ico iim im j2c j2k jfi "
    "jfif jif jp2 jpc jpe jpeg jpf jpg jpx mpo msp pbm pcd pcx pfm pgm png pnm ppm psd pxr qoi ras rgb rgba sgi "
    "tga tif tiff vda vst webp xbm xpm"
)
_UNREAD: Final = _suffixes(
    "3fr arw bpg cr2 cr3 crw dcm dng dpx emf eps erf exr flif hdr heic heics heif heifs hif jls jng jxl jxr kdc "
    "mng mrw nef nrw orf pct pef pict psb raf raw rw2 sr2 srf srw svg svgz wdp wmf x3f xcf xwd"
)
"""Of images that Pillow does not decode by itself."""
_ENDINGS: Final = "|".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES | _UNREAD if len(suffix) > 3))
_ALMOST: Final = re.compile(
    rf"\.(?:{_ENDINGS})(?:[-?!~:_ (].*|\.(?:\d+|bak|bz2|crdownload|download|gz|old|orig|part|partial|tmp|xz|zip|zst))"
)
"""An image's suffix, and something after it: photo.jpg?w=640, photo.jpg_large, photo.jpg.part."""
_PAPERS: Final = re.compile(r"[A-Z][A-Z_-]+|Makefile")
"""README, LICENSE: no suffix, and no image."""

HIDDEN: Final = "hidden: its name or that of its folder begins with . or __"
DEAD_LINK: Final = "a link that leads nowhere"
NO_FILE: Final = "not a regular file"
LINK_IN_TAR: Final = "a link within the tar"
NOT_UTF8: Final = "its name is not UTF-8"
FURTHER: Final = "a further image of a sample that has one"


class Listed(NamedTuple):
    """What a source holds."""

    samples: tuple[Sample, ...]
    left_out: tuple[FailedImage, ...] = ()
    """What looks like an image and is no sample. Paths are readable text, which need not name the file any more."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over."""
    return name.startswith((".", "__"))


def is_text(name: str) -> bool:
    """Whether a name or label can be stored and shown: one that is no UTF-8 holds lone surrogates here."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def why_no_image(name: str, *, hidden: bool = False) -> str | None:
    """Return "" for the name of an image, why it is none where it looks like one, and None where it does not.

    `hidden`: its name or that of a folder `is_hidden`.
    """
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path per image would take far longer
    if hidden:
        return HIDDEN if suffix in IMAGE_SUFFIXES | _UNREAD else None
    if suffix in IMAGE_SUFFIXES:
        return ""
    if suffix in _UNREAD:
        return f"Pillow does not read {suffix}"
    if "." not in name:
        return None if _PAPERS.fullmatch(name) else "its name has no suffix"
    return "its name does not end in an image's suffix" if _ALMOST.search(name.lower()) else None


def left_out(path: str, reason: str) -> FailedImage:
    """Return the record of a file that was left out; what is no UTF-8 of its name is written out."""
    return FailedImage("", os.fsencode(path).decode("utf-8", "backslashreplace"), reason)

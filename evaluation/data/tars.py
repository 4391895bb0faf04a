"""WebDataset tars: images are found by their place in the archive and read by seeking, never extracted.

A sample is the members of one key, the name up to its first dot: `cat/0001.jpg` with, if there is one, `cat/0001.cls`
(a class index or name), `cat/0001.json` (an object with "label" or "cls") or `cat/0001.txt` (a name); the first of them
that is there gives the label. Without any, the label is the first folder within the tar, as for a folder of class
folders. Members in hidden folders, and whatever is neither an image nor of these three, are passed over.

A set may have several tars: `tars/{000..009}.tar` (every one must exist), `tars/*.tar`, or both in one pattern.
"""

from __future__ import annotations

import functools
import glob
import json
import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from immuno_core.errors import SetupError
from immuno_core.images import TarMember
from immuno_core.records import Sample

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_LABELS = ("cls", "json", "txt")
"""Extensions of members with a label, the ones that count most first."""
_LONGEST_LABEL = 2**16
_MOST_TARS = 100_000
_BLOCK = 512


class _Entry(NamedTuple):
    member: str
    offset: int
    size: int
    label: str


def is_pattern(path: Path) -> bool:
    """Whether a path that does not exist stands for several: it has a brace range, or `*`, `?` or `[`."""
    return bool(_RANGE.search(str(path))) or glob.has_magic(str(path))


def expand(pattern: Path) -> tuple[Path, ...]:
    """Return the tars of a pattern, ranges in their order and whatever a glob finds by name.

    Raises SetupError for a range that is empty, absurdly long or names a missing file, for a glob that finds nothing,
    and for files that do not end in .tar.
    """
    written = _ranges(str(pattern), pattern)
    paths: list[str] = []
    for name in written:
        paths += sorted(glob.glob(name)) if glob.has_magic(name) else [name]  # noqa: PTH207 - an absolute pattern
    if not paths:
        raise SetupError(f"no file matches {pattern}; put the pattern right")
    tars = tuple(Path(name) for name in dict.fromkeys(paths))
    missing = [tar for tar in tars if not tar.is_file()]
    if missing:
        raise SetupError(f"{len(missing)} of the {len(tars)} tars of {pattern} are missing (first: {missing[0]})")
    other = [tar for tar in tars if tar.suffix.lower() != ".tar"]
    if other:
        raise SetupError(f"the pattern {pattern} matches {other[0]}, which is no .tar; patterns are for tars only")
    return tars


def _ranges(name: str, pattern: Path) -> list[str]:
    span = _RANGE.search(name)
    if span is None:
        return [name]
    first, last = int(span[1]), int(span[2])
    if not 0 <= last - first < _MOST_TARS:
        raise SetupError(f"the range {span[0]} of {pattern} names no tar, or too many; write e.g. {{000..009}}")
    before, after = name[: span.start()], name[span.end() :]
    # As in a shell, the longer of the two numbers says how many digits each has.
    digits = max(len(span[1]), len(span[2])) if span[1].startswith("0") else 1
    return [tar for number in range(first, last + 1) for tar in _ranges(f"{before}{number:0{digits}}{after}", pattern)]


def read_tars(tars: Sequence[Path]) -> tuple[Sample, ...]:
    """Return the images of the tars in the order of the archives; an id is the tar's name and the member's.

    Reads headers and labels, no image. Raises SetupError naming the tar for one that is missing, no tar, compressed,
    truncated or damaged, has a label that cannot be read or a member twice; and for tars without any image.
    """
    common = os.path.commonpath([tar.parent for tar in tars])
    samples: list[Sample] = []
    for tar in tars:
        try:
            status = tar.stat()
        except OSError as error:
            raise SetupError(f"cannot read the tar {tar}: {error.strerror}") from None
        name = tar.relative_to(common).as_posix()
        samples += (
            Sample(f"{name}/{member}", str(TarMember(str(tar), member, offset, size)), label)
            for member, offset, size, label in _entries(tar, status.st_size, status.st_mtime_ns)
        )
    if not samples:
        raise SetupError(
            f"no image in {tars[0]}{' and the others' if len(tars) > 1 else ''}; a member's name must end "
            f"in one of {', '.join(sorted(IMAGE_SUFFIXES))} right after its first dot"
        )
    return tuple(samples)


@functools.lru_cache(maxsize=4096)
def _entries(path: Path, size: int, mtime_ns: int) -> tuple[_Entry, ...]:  # noqa: ARG001 - they are part of the key
    """The images of a tar. A run lists its sets several times, and a large archive has many headers to step through."""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            entries = _scan(path, tar)
            # The module takes a damaged header for the end of the archive. The real end is a block of zeros.
            file.seek(tar.offset)
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise SetupError(
                    f"the tar {path} is truncated or damaged at byte {tar.offset}, after {len(entries)} image(s); "
                    "copy or make it again"
                )
    except OSError as error:
        raise SetupError(f"cannot read the tar {path}: {error.strerror or error}") from None
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise SetupError(
            f"{path} is not a whole, uncompressed tar ({error}); copy or make it again, or decompress it"
        ) from None
    return entries


def _scan(path: Path, tar: tarfile.TarFile) -> tuple[_Entry, ...]:
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[tuple[str, str], str] = {}
    for member in tar:
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if not member.isfile() or any(part.startswith((".", "__")) for part in parts):
            continue
        name = "/".join(parts)
        stem, _, extension = parts[-1].partition(".")
        key = "/".join((*parts[:-1], stem))
        if f".{extension.lower()}" in IMAGE_SUFFIXES:
            try:
                name.encode()
            except UnicodeEncodeError:
                raise SetupError(f"the member name {name!r} in the tar {path} is not UTF-8; rename it") from None
            if name in images:
                raise SetupError(f"the tar {path} holds '{name}' twice; make it again")
            images[name] = member
        elif extension in _LABELS:
            label = _label(path, tar, member, extension)
            if label is not None:
                labels[key, extension] = label
    return tuple(
        _Entry(name, member.offset_data, member.size, _label_of(name, labels)) for name, member in images.items()
    )


def _label_of(name: str, labels: dict[tuple[str, str], str]) -> str:
    folder, _, base = name.rpartition("/")
    stem = base.partition(".")[0]
    key = f"{folder}/{stem}" if folder else stem
    for extension in _LABELS:
        if (key, extension) in labels:
            return labels[key, extension]
    return folder.partition("/")[0]


def _label(path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, extension: str) -> str | None:
    """The label that a member holds; None for a JSON object that has none."""
    content = tar.extractfile(member)
    if content is None or member.size > _LONGEST_LABEL:
        raise SetupError(f"'{member.name}' in the tar {path} is too large for a label")
    try:
        text = content.read().decode("utf-8-sig")
        if extension != "json":
            return " ".join(text.split())
        value: Any = json.loads(text)
    except ValueError as error:
        raise SetupError(f"the label '{member.name}' in the tar {path} cannot be read: {error}") from None
    if isinstance(value, dict):
        value = value.get("label", value.get("cls"))
    return " ".join(str(value).split()) if isinstance(value, str | int) and not isinstance(value, bool) else None

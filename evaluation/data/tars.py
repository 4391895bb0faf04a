"""WebDataset tars: images are found by their place in the archive and read by seeking, never extracted.

A sample is the members of one key, the name up to its first dot: `cat/0001.jpg` with, if there is one, `cat/0001.cls`
(a class index or name), `cat/0001.json` (an object with "label" or "cls") or `cat/0001.txt` (a name); the first of them
that is there gives the label. Without any, the label is the first folder within the tar, as for a folder of class
folders. A key may have dots where it has no image of its own: `photo.0.png` and `photo.1.png` are two images, with the
label of `photo.0.cls` or else `photo.cls`; but beside `1.jpg`, `1.mask.png` is a further image of that sample, and left
out. What is left out, and why: evaluation.data.image_names. Anything else but these labels is passed over.

A set may have several tars: `tars/{000..009}.tar` (every one must exist), `tars/*.tar`, or both in one pattern. Of tars
appended to one another (`cat a.tar b.tar`) all are read.
"""

from __future__ import annotations

import functools
import glob
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from evaluation.data.image_names import (
    FURTHER,
    LINK_IN_TAR,
    NOT_UTF8,
    Listed,
    is_hidden,
    is_text,
    left_out,
    why_no_image,
)
from immuno_core.errors import SetupError
from immuno_core.images import TarMember
from immuno_core.records import FailedImage, Sample, told
from immuno_core.text import read_json

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_LABELS = ("cls", "json", "txt")
"""Extensions of members with a label, the ones that count most first."""
_LONGEST_LABEL = 2**16
_MOST_TARS = 100_000
_BLOCK = 512
_READ = 2**20


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


def read_tars(tars: Sequence[Path]) -> Listed:
    """Return the images of the tars in the order of the archives; an id is the tar's name and the member's.

    Reads headers and labels, no image. Raises SetupError naming the tar for one that is missing, no tar, compressed,
    truncated or damaged, has a label that cannot be read or a member twice; and for tars without any image.
    """
    common = os.path.commonpath([tar.parent for tar in tars])
    samples: list[Sample] = []
    others: list[FailedImage] = []
    for tar in tars:
        try:
            status = tar.stat()
        except OSError as error:
            raise SetupError(f"cannot read the tar {tar}: {error.strerror}") from None
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device might have no end
            raise SetupError(f"cannot read the tar {tar}: it is no regular file")
        name = tar.relative_to(common).as_posix()
        entries, more = _entries(tar, status.st_size, status.st_mtime_ns)
        others += more
        samples += (
            Sample(f"{name}/{member}", str(TarMember(str(tar), member, offset, size)), label)
            for member, offset, size, label in entries
        )
    if not samples:
        why = f"left out: {'; '.join(told(others))}" if others else "name another tar"
        raise SetupError(f"no image in {tars[0]}{' and the others' if len(tars) > 1 else ''}; {why}")
    return Listed(tuple(samples), tuple(others))


_Found = tuple[tuple[_Entry, ...], tuple[FailedImage, ...]]
_Labels = dict[tuple[str, str], list[tarfile.TarInfo]]
"""By the names of the members without their suffixes, and these."""


@functools.lru_cache(maxsize=4096)
def _entries(path: Path, size: int, mtime_ns: int) -> _Found:  # noqa: ARG001 - they are part of the key
    """The images of a tar, and what was left out. A run lists its sets several times, and a tar has many headers."""
    try:
        with path.open("rb") as file:
            return _scan(path, file)
    except OSError as error:
        raise SetupError(f"cannot read the tar {path}: {error.strerror or error}") from None
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise SetupError(
            f"{path} is not a whole, uncompressed tar ({error}); copy or make it again, or decompress it"
        ) from None


def _scan(path: Path, file: BinaryIO) -> _Found:
    images: dict[str, tarfile.TarInfo] = {}
    labels: _Labels = {}
    others: list[FailedImage] = []
    for member in _members(path, file):
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if member.isdir() or not parts:
            continue
        name, hidden = "/".join(parts), any(map(is_hidden, parts))
        why = why_no_image(parts[-1], hidden=hidden)
        stem, _, extension = name.rpartition(".")
        if why is None:
            if member.isfile() and extension.lower() in _LABELS and not hidden:
                labels.setdefault((stem, extension.lower()), []).append(member)
            continue
        if not hidden and (not member.isreg() or member.issparse()):
            why = LINK_IN_TAR if member.islnk() or member.issym() else "not stored as a plain file"
        elif not hidden and not is_text(name):
            why = NOT_UTF8
        if why:
            others.append(left_out(f"{path}::{name}", why))
        elif name in images:
            raise SetupError(f"the tar {path} holds '{name}' twice; make it again")
        else:
            images[name] = member
    own = {key for name in images if _is_whole(name, key := _key(name))}
    entries = []
    for name, member in images.items():
        if (key := _key(name)) in own and not _is_whole(name, key):
            others.append(left_out(f"{path}::{name}", FURTHER))
        else:
            label = _label_of(path, file, name, labels)
            entries.append(_Entry(name, member.offset_data, member.size, label))
    return tuple(entries), tuple(others)


def _members(path: Path, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The members of a tar, and of those appended to it, which the module takes for padding."""
    start: int | None = 0
    while start is not None:
        file.seek(start)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            yield from tar
            # The module takes a damaged header for the end of the archive. The real end is a block of zeros.
            file.seek(tar.offset)
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise SetupError(f"the tar {path} is truncated or damaged at byte {tar.offset}; copy or make it again")
        start = _next_content(file)


def _next_content(file: BinaryIO) -> int | None:
    """Where the first block from here on that is not all zeros begins; None where there is none."""
    at = file.tell()
    while content := file.read(_READ):
        if rest := content.lstrip(b"\0"):
            return at + (len(content) - len(rest)) // _BLOCK * _BLOCK
        at += len(content)
    return None


def _key(name: str) -> str:
    """What names a sample: the member's name up to the first dot of its last part."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def _is_whole(name: str, key: str) -> bool:
    """Whether nothing but a suffix follows the key."""
    return name.rpartition(".")[0] == key


def _label_of(path: Path, file: BinaryIO, name: str, labels: _Labels) -> str:
    for stem in dict.fromkeys((name.rpartition(".")[0], _key(name))):
        for extension in _LABELS:
            members = labels.get((stem, extension), ())
            if len(members) > 1:
                raise SetupError(f"the tar {path} holds '{stem}.{extension}' twice; make it again")
            if members and (label := _label(path, file, members[0], extension)) is not None:
                return label
    folder, slash, _ = name.partition("/")
    return folder if slash else ""


def _label(path: Path, file: BinaryIO, member: tarfile.TarInfo, extension: str) -> str | None:
    """The label that a member holds; None for JSON that has none."""
    if member.size > _LONGEST_LABEL:
        raise SetupError(f"'{member.name}' in the tar {path} is too large for a label")
    file.seek(member.offset_data)
    try:
        text = file.read(member.size).decode("utf-8-sig")
        if extension != "json":
            return " ".join(text.split())
        value: Any = read_json(text)
    except ValueError as error:
        raise SetupError(f"the label '{member.name}' in the tar {path} cannot be read: {error}") from None
    if isinstance(value, dict):
        value = value.get("label", value.get("cls"))
        if isinstance(value, bool | list | dict):
            kind = type(value).__name__
            raise SetupError(f"the label '{member.name}' in the tar {path} is a {kind}; write a class's name or index")
    return " ".join(str(value).split()) if isinstance(value, str | int | float) else None

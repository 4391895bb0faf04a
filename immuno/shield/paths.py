"""Which files a person means by paths: files as they are, folders with the images in them, `-` for a list on stdin."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

from evaluation.data.image_names import is_hidden, why_no_image
from immuno_core.errors import SetupError
from immuno_core.text import printable

STDIN: Final = "-"


def image_paths(given: Sequence[str], stdin: TextIO | None = None) -> list[str]:
    """Return the files that are meant, each once. What is named is taken, whatever its name; in folders, images are.

    Raises SetupError for a path that is missing or cannot be listed, and where no image is found.
    """
    found: dict[str, None] = {}
    for path in given:
        if path == STDIN:
            if stdin is None:
                raise SetupError("a list of paths on standard input ('-') is not to be had here")
            found |= dict.fromkeys(_lines(stdin))
        elif Path(path).is_dir():
            found |= dict.fromkeys(_in_folder(path))
        elif os.path.lexists(path):
            found[path] = None
        else:
            raise SetupError(f"no file or folder at {printable(path)}")
    if not found:
        named = ", ".join(map(printable, given[:3]))
        raise SetupError(f"no image in {named}: give image files, or folders that hold some")
    return list(found)


def _lines(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if path := line.rstrip("\r\n"):
            yield path


def _in_folder(folder: str) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise SetupError(f"cannot list {printable(str(error.filename))}: {error.strerror}") from None

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(files):
            if not is_hidden(name) and why_no_image(name) == "":
                yield str(Path(place, name))

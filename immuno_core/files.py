"""Writes files whole or not at all, and reads the text files that a user names."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from immuno_core.errors import SetupError

_MOST_TEXT: Final = 64 * 2**20


@contextmanager
def written_whole(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield the path of a file beside `path` for the block to write, which then takes the place of `path`.

    So nobody ever sees a part of it; with `sync` not even after the machine has crashed. Makes the folder. What a block
    that raises has written is deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(16)}.tmp")
    try:
        yield temporary
        if sync:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes, *, sync: bool = True) -> None:
    """Write a file (text as UTF-8) as `written_whole` does."""
    with written_whole(path, sync=sync) as temporary, temporary.open("xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def check_regular(path: Path, what: str, *, hint: str = "") -> None:
    """Raise SetupError naming `what` the file is where it is missing, a folder, or a pipe or device without an end.

    To open a pipe would wait for whoever writes to it. A `hint` how to mend it is part of the error.
    """
    end = f"; {hint}" if hint else ""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise SetupError(f"no {what} at {path}{end}") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        raise SetupError(f"cannot read the {what} {path}: {getattr(error, 'strerror', None) or error}{end}") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise SetupError(f"cannot read the {what} {path}: it is {kind}{end}")


def read_bytes(path: Path, what: str, *, hint: str = "", most: int = _MOST_TEXT) -> bytes:
    """Return what is in a file. Raises SetupError as `check_regular`, and for more than `most` bytes."""
    check_regular(path, what, hint=hint)
    end = f"; {hint}" if hint else ""
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise SetupError(f"cannot read the {what} {path}: {error.strerror}{end}") from None
    if len(content) > most:
        raise SetupError(f"cannot read the {what} {path}: it has more than {most:,} bytes{end}")
    return content


def read_text(path: Path, what: str, *, hint: str = "", most: int = _MOST_TEXT) -> str:
    r"""Return the UTF-8 text of a file, a byte order mark taken off, with "\n" at the ends of its lines.

    Raises SetupError as `read_bytes`, and for what is not UTF-8.
    """
    content = read_bytes(path, what, hint=hint, most=most)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        why = f"it is not UTF-8 text ({error.reason} at byte {error.start})"
        raise SetupError(f"cannot read the {what} {path}: {why}{'; ' + hint if hint else ''}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")

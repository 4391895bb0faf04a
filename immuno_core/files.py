"""Writes files whole or not at all, and reads the text files that a user names."""

from __future__ import annotations

import os
import secrets
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


def read_text(path: Path, what: str, *, hint: str = "", most: int = _MOST_TEXT) -> str:
    r"""Return the UTF-8 text of a file, a byte order mark taken off, with "\n" at the ends of its lines.

    `what` the file is and a `hint` how to mend it are part of the error. Raises SetupError naming the file where it is
    missing, not readable, a pipe or a device (which might have no end), of more than `most` bytes, or not UTF-8.
    """
    end = f"; {hint}" if hint else ""
    cannot = f"cannot read the {what} {path}"
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for whoever writes to it
            raise SetupError(f"{cannot}: it is {'a folder' if path.is_dir() else 'no regular file'}{end}")
        with path.open("rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise SetupError(f"{cannot}: it has more than {most:,} bytes{end}")
        text = content.decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise SetupError(f"no {what} at {path}{end}") from None
    except UnicodeDecodeError as error:
        raise SetupError(f"{cannot}: it is not UTF-8 text ({error.reason} at byte {error.start}){end}") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        raise SetupError(f"{cannot}: {getattr(error, 'strerror', None) or error}{end}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")

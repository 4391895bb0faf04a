"""The standard streams of the program, made such that no command has to think of what a terminal or pipe cannot take.

Letters that a stream's encoding lacks are written in plain ones, what it was never given (`>&-`) leads nowhere, and
where standard output takes no more (a full disk), an `OutputError` says so. Standard error is only told.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import Any, Final, TextIO

_PLAIN: Final = {
    "±": "+-", "→": "->", "–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "≥": ">=", "≤": "<=", "≈": "~", "·": "-",
    "•": "*", "“": '"', "”": '"', "‘": "'", "’": "'", "─": "-", "│": "|",
}  # fmt: skip
_WRITTEN_OUT: Final = "immuno-plain"
_ASCII: Final = "immuno-ascii"
"""ASCII by another name: click takes a stream of the real one for a mistake, and writes UTF-8 to it."""


class OutputError(Exception):
    """Standard output takes no more; the message says why, in one line."""


class ReaderGoneError(OutputError):
    """Who read a pipe (head, less) has gone."""


def prepare() -> None:
    """Replace sys.stdin, sys.stdout and sys.stderr as the module says: for a program, before anything else."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened, a database perhaps, would get the number
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - as long as the program
    sys.stdout, sys.stderr = writer(1, sys.stdout), writer(2, sys.stderr)


def writer(number: int, before: TextIO | None = None) -> io.TextIOWrapper:
    """Return a text stream on a descriptor, in the encoding and manner of the one it replaces."""
    raw = _Raw(number, "w", closefd=False)
    encoding = getattr(before, "encoding", None) or "utf-8"
    at_once = number == 2 or raw.isatty() or getattr(before, "write_through", False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=_ASCII if codecs.lookup(encoding).name == "ascii" else encoding,
        errors=_WRITTEN_OUT,
        line_buffering=at_once,
    )


class _Raw(io.FileIO):
    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            raise ReaderGoneError("the reader of a pipe has gone") from None
        except OSError as error:
            if self.fileno() == 2:  # there is nobody to tell
                return len(content)
            raise OutputError(f"standard output cannot be written: {error.strerror}") from None


def _written_out(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_PLAIN.get(one) or one.encode("unicode_escape").decode("ascii") for one in letters), error.end


def _ascii() -> codecs.CodecInfo:
    ascii_ = codecs.lookup("ascii")
    return codecs.CodecInfo(
        ascii_.encode,
        ascii_.decode,
        ascii_.streamreader,
        ascii_.streamwriter,
        ascii_.incrementalencoder,
        ascii_.incrementaldecoder,
        name=_ASCII,
    )


codecs.register_error(_WRITTEN_OUT, _written_out)
codecs.register(lambda name: _ascii() if name.replace("_", "-") == _ASCII else None)

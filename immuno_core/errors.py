"""The exceptions that immuno-vlm raises on purpose, and the words it uses to say how to mend them.

`SetupError` is for whatever the user can put right (a wrong path, a misspelt key, an unreachable cluster): the command
line prints its message on one line, without a traceback, and exits with status 2. Any other `ImmunoError` exits with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST_LISTED = 30


class ImmunoError(Exception):
    """Root of every exception that immuno-vlm raises itself."""


class SetupError(ImmunoError):
    """The set-up or the input is wrong. The message names what is wrong and says how to mend it, in one line."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says that is not blank, else the error's type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def shown(value: object, most: int = 100) -> str:
    """Return a wrong value as an error names it, in at most `most` characters."""
    if isinstance(value, int) and value.bit_length() > 3 * most:  # Python refuses to write the largest
        return "a number of very many digits"
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def did_you_mean(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """Return `"; did you mean 'x' or 'y'?"` with the nearest known names, or a list of them where none is near.

    Upper and lower case count as the same.
    """
    names = sorted(set(known))
    spelling = {option.lower(): option for option in names}
    near = difflib.get_close_matches(name.lower(), spelling, n=most, cutoff=0.5)
    if near:
        return "; did you mean " + " or ".join(f"'{spelling[option]}'" for option in near) + "?"
    shown = names if len(names) <= _MOST_LISTED else [*names[:_MOST_LISTED], "..."]
    return "; known: " + ", ".join(shown) if shown else ""

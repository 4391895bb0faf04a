"""The exceptions that immuno-vlm raises on purpose, and the words it uses to say how to mend them.

`SetupError` is for whatever the user can put right (a wrong path, a misspelt key, an unreachable cluster): the command
line prints its message on one line, without a traceback, and exits with status 2. Any other `ImmunoError` exits with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ImmunoError(Exception):
    """Root of every exception that immuno-vlm raises itself."""


class SetupError(ImmunoError):
    """The set-up or the input is wrong. The message names what is wrong and says how to mend it, in one line."""


def did_you_mean(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """Return `"; did you mean 'x' or 'y'?"` with the nearest known names, or the list of them where none is near."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name.lower(), names, n=most, cutoff=0.5)
    if near:
        return "; did you mean " + " or ".join(f"'{option}'" for option in near) + "?"
    return "; known: " + ", ".join(names) if names else ""

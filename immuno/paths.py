"""Where things are kept when nobody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_DATABASE = Path("runs") / "immuno.db"
"""The database of `bench` and `refine`, relative to the working folder (`demo` has its own in runs/demo)."""


def cache_root() -> Path:
    """Return $IMMUNO_CACHE, else $XDG_CACHE_HOME/immuno, else ~/.cache/immuno."""
    if chosen := os.environ.get("IMMUNO_CACHE"):
        return Path(chosen).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    return (Path(shared) if Path(shared).is_absolute() else Path.home() / ".cache") / "immuno"

"""Temporary folders that go with their owner: what a killed process left is deleted by the next that makes one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

_PREFIX: Final = "immuno-"
_OWNER: Final = ".owner"
"""A file that the owner keeps locked: the system gives the lock back when that process ends, in whatever way."""


class OwnedFolder(tempfile.TemporaryDirectory[str]):
    """A folder of this process and user alone, as tempfile.TemporaryDirectory; those of dead owners beside it go."""

    def __init__(self, what: str = "", *, within: Path | None = None) -> None:
        """`what` is part of its name; `within` defaults to the system's folder for such."""
        sweep(within or Path(tempfile.gettempdir()))
        super().__init__(prefix=f"{_PREFIX}{what}", dir=within, ignore_cleanup_errors=True)
        unlocked = self.path / f"{_OWNER}.new"
        self._lock = unlocked.open("x")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unlocked.rename(self.path / _OWNER)  # nobody has seen it without its lock

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self.name)

    def cleanup(self) -> None:
        """Delete it; may be called twice."""
        super().cleanup()
        self._lock.close()


def sweep(folder: Path) -> None:
    """Delete this user's owned folders in `folder` whose owners have ended; whatever else is there stays."""
    for owner in folder.glob(f"{_PREFIX}*/{_OWNER}"):
        try:
            if owner.parent.is_symlink() or owner.parent.stat().st_uid != os.geteuid():
                continue
            with owner.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(owner.parent, ignore_errors=True)
        except OSError:  # BlockingIOError: its owner lives
            continue

"""What was measured is kept: room is taken before the seal opens, and what a folder cannot take goes to another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from evaluation.benchmark.results import write_scores
from immuno.results import Results
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.features import Floats
from immuno_core.files import write_atomically
from immuno_core.paths import cache_root

SCORES_FILE = "scores.npz"
_RESERVE = ".room-for-results"
_PIECE = bytes(2**20)


@contextmanager
def room_in(folder: Path, size: int) -> Iterator[None]:
    """Make a folder, and hold `size` bytes there until the block ends.

    They are written: a quota, a full disk and a folder that may not be written show in no other way. Raises SetupError
    that says which.
    """
    reserve = folder / _RESERVE
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with reserve.open("wb") as file:
                for start in range(0, size, len(_PIECE)):
                    file.write(_PIECE[: size - start])
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SetupError(
                f"the results folder {folder} cannot take results of about {size / 1e6:.0f} MB ({error.strerror}); "
                "make room there, or choose another with --out"
            ) from None
        yield
    finally:
        reserve.unlink(missing_ok=True)


@contextmanager
def told_where(folder: Path) -> Iterator[None]:
    """Say in one line that a folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"cannot write to {folder} ({error.strerror}); make room there, or choose another with --out, and run the "
            "same command again: what was measured is kept, and is not measured again"
        ) from None


def keep(results: Results, scores: Mapping[str, Mapping[str, Floats]], out: Path) -> None:
    """Write results and scores into `out`; where that fails, into this user's cache, from which `kept` gets them.

    Where they are is their folder. Raises ImmunoError where neither can be written.
    """
    problems = []
    for folder in (out, _elsewhere(results.config_digest)):
        try:
            write_scores(folder / SCORES_FILE, scores)
            # Last, since it says that the folder is complete.
            results.save(folder)
        except OSError as error:
            problems.append(f"{folder}: {error.strerror}")
        else:
            return
    raise ImmunoError(f"the results could not be written ({'; '.join(problems)}); the database has their rows")


def kept(out: Path, digest: str) -> Results | None:
    """Return the results of this digest where `out` holds them, or the cache, from which they are moved to `out`."""
    if (found := _complete(out, digest)) is not None:
        return found
    elsewhere = _elsewhere(digest)
    if (found := _complete(elsewhere, digest)) is not None:
        with told_where(out):
            write_atomically(out / SCORES_FILE, (elsewhere / SCORES_FILE).read_bytes())
            found.save(out)
        shutil.rmtree(elsewhere, ignore_errors=True)
    return found


def _elsewhere(digest: str) -> Path:
    return cache_root() / "results" / digest


def _complete(folder: Path, digest: str) -> Results | None:
    try:
        results = Results.read(folder)
    except SetupError:
        return None
    return results if results.config_digest == digest and (folder / SCORES_FILE).exists() else None

"""What Ray would upload of a working folder with a job, and whether it may: looked at before anything is sent.

Ray's dashboard takes at most 100 MiB, not compressed, and what .gitignore and .rayignore name is left out: a
configuration that git ignores is silently missing on the cluster.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from immuno.errors import SetupError

_MIB: Final = 2**20
_ENTRY_BYTES: Final = 76
_SHOWN: Final = 5

_quiet = logging.getLogger("immuno.ray-packaging")
_quiet.setLevel(logging.ERROR)


class PackedFile(NamedTuple):
    """A file that goes with the job."""

    path: Path
    """Relative to the working folder."""
    size: int
    """Bytes."""


class WorkingDir:
    """A working folder as Ray sees it."""

    def __init__(self, root: Path) -> None:
        """Raise SetupError where there is no such folder."""
        if not root.is_dir():
            raise SetupError(f"there is no folder {root} to submit; name the checkout with --working-dir")
        self.root: Final = root.resolve()
        self.files: Final = tuple(sorted(_walk(self.root, _default_rules(self.root), self.root)))

    def holds(self, path: Path) -> bool:
        """Whether a file, or anything of a folder, goes with the job."""
        inner = path.resolve().relative_to(self.root)
        return any(file.path == inner or inner in file.path.parents for file in self.files)

    def contains(self, path: Path) -> bool:
        """Whether a path lies in the working folder at all."""
        return path.resolve().is_relative_to(self.root)

    def check_file(self, path: Path, what: str) -> None:
        """Raise SetupError if a file or folder within the working folder stays behind, naming the file that says so."""
        if not self.holds(path):
            inner = path.resolve().relative_to(self.root)
            rule = self._ignored_by(inner)
            where = f" ({rule} says so)" if rule else ""
            raise SetupError(
                f"{what} {inner} would not go with the job{where}: it would be missing on the cluster; take it out of "
                "the ignore file, move it, or give an absolute path that the machines of the cluster see"
            )

    def check_size(self) -> int:
        """Return how many bytes go. Raise SetupError if Ray's dashboard would refuse them, naming the largest."""
        from ray._private import ray_constants

        limit = int(getattr(ray_constants, "DASHBOARD_CLIENT_MAX_SIZE", 100 * _MIB))
        # Ray's zip files are not compressed; each entry takes two headers and twice its name.
        total = sum(file.size + _ENTRY_BYTES + 2 * len(str(file.path).encode()) for file in self.files)
        if total < limit:
            return total
        largest = sorted(self.files, key=lambda file: -file.size)[:_SHOWN]
        named = ", ".join(f"{file.path} ({file.size / _MIB:.1f} MiB)" for file in largest)
        folders = sorted(self._folder_sizes().items(), key=lambda item: -item[1])[:_SHOWN]
        inner = ", ".join(f"{name}/ ({size / _MIB:.1f} MiB)" for name, size in folders)
        raise SetupError(
            f"{self.root} has {total / _MIB:.1f} MiB in {len(self.files)} files to upload, and Ray takes "
            f"{limit / _MIB:.0f} MiB; the largest: {named}; by folder: {inner or 'none'}. Add what the job does not "
            f"need to {self.root / '.rayignore'}, one name a line, and put data and weights where the cluster sees them"
        )

    def _folder_sizes(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for file in self.files:
            if len(file.path.parts) > 1:
                sizes[file.path.parts[0]] = sizes.get(file.path.parts[0], 0) + file.size
        return sizes

    def _ignored_by(self, inner: Path) -> str | None:
        """The ignore file that leaves a path out."""
        from ray._private.runtime_env.packaging import _get_ignore_file

        for folder in reversed([self.root / parent for parent in inner.parents]):
            for name in (".gitignore", ".rayignore") if _heeds_git() else (".rayignore",):
                rule = _get_ignore_file(folder, name)
                if rule is not None and any(rule(path) for path in self._down_to(inner) if path.is_relative_to(folder)):
                    return str((folder / name).relative_to(self.root))
        return None

    def _down_to(self, inner: Path) -> list[Path]:
        """The path and the folders above it, within the working folder."""
        return [self.root / part for part in (inner, *inner.parents) if part != Path()]


_Rule = Callable[[Path], bool]


def _default_rules(root: Path) -> list[_Rule]:
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import _get_excludes

    return [_get_excludes(root, get_runtime_env_default_excludes())]


def _walk(root: Path, rules: list[_Rule], folder: Path) -> Iterator[PackedFile]:
    """Yield the files that Ray would pack, going through folders as its own packing does."""
    from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

    found: list[Any] = get_excludes_from_ignore_files(folder, include_gitignore=_heeds_git(), logger=_quiet)
    inner = [*rules, *found]
    if any(rule(folder) for rule in inner):
        return
    for path in folder.iterdir():
        if path.is_dir():
            yield from _walk(root, inner, path)
        elif path.is_file() and not any(rule(path) for rule in inner):
            yield PackedFile(path.relative_to(root), path.stat().st_size)


def _heeds_git() -> bool:
    return os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") != "1"

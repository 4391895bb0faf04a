"""What a reproducible run records of its surroundings: versions, git sha, digests."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import immuno_core

ROOMS = ("immuno", "immuno_core", "cluster", "agents", "evaluation", "db")
"""The packages that immuno-vlm is made of."""
_HOME = Path(immuno_core.__file__).resolve().parent.parent
_SOURCES = (".py", ".toml", ".csv", ".txt")
_NUMBERS = ("torch", "torchvision", "open_clip_torch", "numpy", "scipy", "pillow")
_PACKAGES = (*_NUMBERS, "ray", "langchain", "langgraph", "sqlalchemy", "pydantic")


def versions() -> dict[str, str]:
    """Return the versions of immuno-vlm and of the packages that decide its numbers."""
    return {"immuno-vlm": immuno_core.__version__, **installed(_PACKAGES)}


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of each package; "missing" for what is not installed."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


def git_sha() -> str | None:
    """Return the commit of this checkout, with "+changes" where tracked files differ; None outside a checkout.

    A job's copy of a checkout is none: there it is what `immuno submit` found where it was started ($IMMUNO_GIT_SHA).
    """
    if not (_HOME / ".git").exists():
        return os.environ.get("IMMUNO_GIT_SHA")
    try:
        sha = _git(_HOME, "rev-parse", "HEAD")
        return sha + ("+changes" if _git(_HOME, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


@functools.cache
def code_digest(home: Path = _HOME) -> str:
    """Return the SHA-256 over the sources of immuno-vlm, and the tables beside them, as they were when first asked.

    A program runs what it has loaded, so what is edited while it runs counts from the next one on.
    """
    digest = hashlib.sha256()
    for path in sorted(path for room in ROOMS for path in (home / room).rglob("*") if path.suffix in _SOURCES):
        digest.update(
            f"{path.relative_to(home).as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
        )
    return digest.hexdigest()


@functools.cache
def made_with() -> tuple[str | None, dict[str, str]]:
    """Return `git_sha`, and `versions` with `code_digest` as "code", of the program that runs: as when first asked."""
    return git_sha(), versions() | {"code": code_digest()}


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def digest_of(value: Any) -> str:
    """Return the SHA-256 hex digest of a JSON-able value (keys sorted; paths as text)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()

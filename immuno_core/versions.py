"""What a reproducible run records of its surroundings: versions, git sha, digests."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import immuno_core

_PACKAGES = ("torch", "open_clip_torch", "ray", "numpy", "pillow", "langchain", "langgraph", "sqlalchemy", "pydantic")


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
    folder = Path(immuno_core.__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return os.environ.get("IMMUNO_GIT_SHA")
    try:
        sha = _git(folder, "rev-parse", "HEAD")
        return sha + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def digest_of(value: Any) -> str:
    """Return the SHA-256 hex digest of a JSON-able value (keys sorted; paths as text)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()

"""Whether the shipped checkpoint is the one that its provenance file describes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from evaluation.miniworld.model import CHECKPOINT
from immuno.errors import SetupError


def verify_checkpoint(folder: Path = CHECKPOINT) -> None:
    """Compare the digest of every file with PROVENANCE.json. Raises SetupError naming the first file that differs."""
    try:
        promised: dict[str, str] = json.loads((folder / "PROVENANCE.json").read_text(encoding="utf-8"))["sha256"]
        for name, digest in promised.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise SetupError(
                    f"{folder / name} is not the file that PROVENANCE.json describes; restore it with git, "
                    "or train again: python -m evaluation.miniworld.train"
                )
    except (FileNotFoundError, KeyError, json.JSONDecodeError) as error:
        raise SetupError(
            f"the mini-world's checkpoint in {folder} is incomplete ({error}); restore it with git"
        ) from None

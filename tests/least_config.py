"""The least that a configuration says, on the mini-world."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from immuno_core.config.run import RunConfig, parse_config

_LEAST: dict[str, Any] = {
    "encoder": {"model": "miniworld"},
    "classes": {"names": "dataset"},
    "data": {"id": {"builtin": "miniworld"}, "ood": [{"name": "near", "builtin": "miniworld"}]},
    "methods": [{"name": "mcm"}],
}


def least_config(sections: Mapping[str, Any], folder: Path = Path("/nowhere")) -> RunConfig:
    """The configuration with these sections besides, as if read from a file in `folder`."""
    return parse_config(_LEAST | dict(sections), origin="x.toml", folder=folder)

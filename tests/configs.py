"""The configurations of the tests, made in one place: sections as keywords, the rest the least that is one.

Short forms: a source of images is a string (`"near.npz"` features, `"miniworld"` builtin, else a path); the sources of
`ood` and `feedback` may be a mapping by name; a method is its name. A section that is given replaces the least one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from immuno_core.config.run import RunConfig, parse_config

_LEAST: dict[str, Any] = {
    "encoder": {"model": "miniworld"},
    "classes": {"names": "dataset"},
    "data": {"id": "miniworld", "ood": {"near": "miniworld"}},
    "methods": ["mcm"],
}


def make_config(folder: Path = Path("/nowhere"), **sections: Any) -> RunConfig:
    """The configuration as if read from a file in `folder`."""
    return parse_config(_whole(sections), origin="x.toml", folder=folder)


def config_text(**sections: Any) -> str:
    """The configuration as TOML."""
    return _toml(_whole(sections), "")


def write_config(path: Path, **sections: Any) -> Path:
    """Write the configuration to `path`, whose folder is made, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config_text(**sections), encoding="utf-8")
    return path


def _whole(sections: Mapping[str, Any]) -> dict[str, Any]:
    whole = _LEAST | sections
    data = {key: _sources(value) for key, value in whole["data"].items()}
    methods = [{"name": method} if isinstance(method, str) else method for method in whole["methods"]]
    return whole | {"data": data, "methods": methods}


def _sources(value: Any) -> Any:
    """What one key of [data] holds, without short forms: a source, sources by name, or no source at all."""
    if isinstance(value, str | Path):
        text = str(value)
        key = "builtin" if text == "miniworld" else "features" if text.endswith((".npz", ".safetensors")) else "path"
        return {key: text} if text not in ("error", "drop") else text
    if isinstance(value, Mapping) and not value.keys() & {"path", "features", "builtin", "shield_log"}:
        return [{"name": name} | _sources(source) for name, source in value.items()]
    return value


def _toml(table: Mapping[str, Any], name: str) -> str:
    """A table as TOML: what is plain first, then the tables in it. JSON's plain values are TOML's too."""
    plain, tables = "", ""
    for key, value in table.items():
        inner = f"{name}.{key}".lstrip(".")
        if isinstance(value, Mapping):
            tables += _toml(value, inner) if _only_tables(value) else f"[{inner}]\n{_toml(value, inner)}"
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            tables += "".join(f"[[{inner}]]\n{_toml(entry, inner)}" for entry in value)
        else:
            plain += f"{key} = {json.dumps(value, ensure_ascii=False, default=str)}\n"
    return plain + tables


def _only_tables(table: Mapping[str, Any]) -> bool:
    return bool(table) and all(
        isinstance(value, Mapping) or (isinstance(value, list) and value and isinstance(value[0], Mapping))
        for value in table.values()
    )

"""Other packages with the names of the rooms: found before anything is imported, and said in one line.

A folder with a `db.py` in which `python -m immuno` is started, or an installed `agents`, would be imported in place of
a room. This module imports nothing but the standard library.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

ROOMS = ("immuno_core", "cluster", "agents", "evaluation", "db")
HOME = Path(__file__).resolve().parent.parent
"""The folder that immuno itself was imported from; the rooms lie beside it."""


def in_the_way() -> str | None:
    """Return what is in the way of the rooms, and how to mend it, in one line; None where nothing is."""
    return next((found for room in ROOMS for found in obstacles(room)), None)


def obstacles(room: str) -> Iterator[str]:
    """Yield what keeps the room from being imported as it was installed."""
    loaded = sys.modules.get(room)
    spec = PathFinder.find_spec(room) if loaded is None else getattr(loaded, "__spec__", None)
    origin = spec.origin if spec is not None else getattr(loaded, "__file__", None)
    wanted = HOME / room / "__init__.py"
    if origin is None:
        yield f"the package '{room}' is not beside immuno in {HOME}; install immuno-vlm again"
    elif (found := Path(origin).resolve()) != wanted:
        place = found.parent if found.name == "__init__.py" else found
        yield f"{place} is in the way of immuno's package '{room}' ({wanted.parent}): {_mend(place)}"
    elif (stranger := _stranger(room)) is not None:
        yield f"{stranger} is another distribution's, in immuno's package '{room}': {_APART}"


_APART = "install immuno-vlm into an environment of its own"


def _mend(place: Path) -> str:
    if "site-packages" in place.parts:
        return _APART
    named = [Path(entry).resolve() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if place.parent in named:
        return f"take {place.parent} out of PYTHONPATH, or rename it"
    return "rename it, or start in another folder (the command immuno, unlike python -m immuno, does not look there)"


def _stranger(room: str) -> Path | None:
    """A module in an installed room that is not on the record of what was installed; None in a checkout."""
    record = next(HOME.glob("immuno_vlm-*.dist-info/RECORD"), None)
    if record is None:
        return None
    lines = record.read_text(encoding="utf-8").splitlines()
    own = {line[len(room) + 1 :].split(",")[0].split("/")[0] for line in lines if line.startswith(f"{room}/")}
    for path in sorted((HOME / room).iterdir()):
        if path.name not in own and (path.suffix == ".py" or (path / "__init__.py").is_file()):
            return path
    return None

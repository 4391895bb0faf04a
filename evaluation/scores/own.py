"""Scores of a user's own: where their code is found, and what tells one version of it from another.

A score that is not built in is named by the name it was registered under, by the name of an entry point of the group
`immuno.scores` of an installed distribution, or as "module:Class". Such a module is looked for in a folder (that of the
configuration) before it is imported as any other. Nothing here trusts what comes: it is the user's code, run as it is.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import uuid
from collections.abc import Iterator
from importlib import import_module, metadata
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic.dataclasses import dataclass

from evaluation.scores.base import PARAMETERS, Score
from immuno_core.errors import SetupError, did_you_mean
from immuno_core.records import text_digest
from immuno_core.versions import ROOMS

GROUP = "immuno.scores"
"""Of the entry points."""
_ADOPTED: dict[type[Score], type[Score]] = {}
"""Classes of users, with the scores that were made of them."""
_SOURCES: dict[type[Score], str] = {}
"""Those scores, with the digest of their source as it was when it was run."""
_MODULES: dict[str, str] = {}
"""Modules that were loaded from a folder, with the digest of their file."""


def adopt(kind: Any, *, distribution: str = "") -> type[Score]:
    """Make a class a score: a frozen dataclass whose parameters are checked as those of built-in ones.

    `distribution` is the name and version of what brought it. Raises SetupError for what cannot be one.
    """
    if not (isinstance(kind, type) and issubclass(kind, Score)):
        raise SetupError(f"{getattr(kind, '__name__', kind)!r} is no score; derive its class from immuno.Score")
    if kind in _ADOPTED:
        return _ADOPTED[kind]
    if not isinstance(getattr(kind, "name", None), str):
        kind.name = kind.__name__
    score: type[Any] = kind
    if "__pydantic_validator__" not in vars(kind):
        try:
            score = dataclass(frozen=True, config=PARAMETERS)(kind)
        except Exception as error:  # noqa: BLE001 - whatever a user's code raises
            raise SetupError(
                f"the score {kind.__name__} cannot be made a frozen dataclass: {type(error).__name__}: {error}; "
                "declare its parameters as `name: type = default`, without a @dataclass of its own"
            ) from None
    _ADOPTED[kind] = _ADOPTED[score] = score
    _SOURCES[score] = text_digest(distribution, *_digests(kind))
    return score


def is_own(kind: type[Score]) -> bool:
    """Whether it is a user's score."""
    return kind in _SOURCES


def source_digest(kind: type[Score]) -> str:
    """Return what tells the code of a user's score from another version of it; "" for a built-in score.

    What was typed into a notebook is in no file that could be compared: it counts as new each time that it is asked of.
    """
    source = _SOURCES.get(kind, "")
    return source if source != _NO_FILE else uuid.uuid4().hex


def entry_points() -> dict[str, metadata.EntryPoint]:
    """Return the scores that installed distributions offer, by name; none is loaded."""
    return {point.name: point for point in metadata.entry_points(group=GROUP)}


def from_entry_point(point: metadata.EntryPoint) -> type[Score]:
    """Load the score of an entry point. Raises SetupError that names its distribution where that fails."""
    of = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
    try:
        kind = point.load()
    except Exception as error:  # noqa: BLE001 - whatever a user's code raises
        raise SetupError(
            f"the score '{point.name}' of {of} cannot be loaded: {type(error).__name__}: {error}"
        ) from None
    return adopt(kind, distribution=of)


def from_module(name: str, folder: Path | None) -> type[Score]:
    """Load "module:Class". Raises SetupError for a module or class that is not there, and one that cannot be run."""
    module_name, _, attribute = name.partition(":")
    try:
        module = _module(module_name, folder)
    except SetupError:
        raise
    except ModuleNotFoundError as error:
        if not error.name or not f"{module_name}.".startswith(f"{error.name}."):
            raise SetupError(f"the score '{name}' cannot be loaded: no module named '{error.name}'") from None
        where = "" if folder is None else f"in {folder} or "
        raise SetupError(f"the score '{name}': there is no module '{module_name}' {where}on Python's path") from None
    except Exception as error:  # noqa: BLE001 - whatever a user's code raises
        raise SetupError(f"the score '{name}' cannot be loaded: {type(error).__name__}: {error}") from None
    kind = getattr(module, attribute, None)
    if kind is None:
        classes = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, Score)]
        raise SetupError(f"there is no '{attribute}' in the module '{module_name}'{did_you_mean(attribute, classes)}")
    return adopt(kind)


def _module(name: str, folder: Path | None) -> ModuleType:
    """Import a module; from `folder` anew where its file is another than the one that was run before."""
    top = name.partition(".")[0]
    PathFinder.invalidate_caches()
    spec = PathFinder.find_spec(top, [str(folder)]) if folder is not None else None
    if spec is None or spec.loader is None or spec.origin is None:
        return import_module(name)
    loaded, digest = sys.modules.get(top), _file_digest(Path(spec.origin))
    if loaded is not None and getattr(loaded, "__file__", None) == spec.origin and _MODULES.get(top, digest) == digest:
        return import_module(name)
    if loaded is not None and top not in _MODULES:
        raise SetupError(f"the module '{top}' of {folder} has the name of another that is in use; rename its file")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # at the end: what lies beside the module is found, and hides nothing
    for other in [other for other in sys.modules if other == top or other.startswith(f"{top}.")]:
        del sys.modules[other]
    module = sys.modules[top] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[top]
        raise
    _MODULES[top] = digest
    return import_module(name)


_NO_FILE = text_digest("", "no file")


def _digests(kind: type[Score]) -> Iterator[str]:
    """Digests of the files behind a class: its module's, and those that it imports from beside it or its package."""
    module = sys.modules.get(kind.__module__)
    # A class that `type(...)` made is said to be of Python's own module `abc`, whose files tell nothing of it.
    by_type = kind.__module__.partition(".")[0] in sys.stdlib_module_names
    if module is None or by_type or (file := _file(module)) is None:
        yield "no file"
        return
    depth = module.__name__.count(".") + (file.stem == "__init__")
    root = file.parents[depth]
    beside = root / file.relative_to(root).parts[0] if depth or "site-packages" in root.parts else root
    seen: dict[Path, str] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path not in seen and path.is_relative_to(beside):
            seen[path] = _file_digest(path)
            waiting += _imported(path, root)
    yield from sorted(seen.values())


def _imported(path: Path, root: Path) -> Iterator[Path]:
    """Yield the files under `root`, the folder that imports start from, that a Python file imports."""
    package = path.parent.relative_to(root).parts
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            names = [".".join((*above, *filter(None, [node.module]), alias.name)) for alias in node.names]
        else:
            continue
        for parts in (name.split(".") for name in names):
            for stem in (root.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)):
                if parts[0] not in ROOMS:
                    yield from filter(Path.is_file, (stem.with_suffix(".py"), stem / "__init__.py"))


def _file(module: ModuleType) -> Path | None:
    name = getattr(module, "__file__", None)
    return path if name and (path := Path(name).resolve()).is_file() else None


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

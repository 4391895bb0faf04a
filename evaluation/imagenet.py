"""ImageNet-1K: the names of its classes, and the WordNet ids that its folders are called by.

Both are lists that installed packages carry as data. They are read without importing those packages, which would bring
torch along: seconds, for some words.
"""

from __future__ import annotations

import functools
import importlib.util
import runpy
from pathlib import Path

from immuno.errors import SetupError

CLASSES = 1000

# open_clip's list has "missile" and "sunglasses" twice each. One of each pair gets its own WordNet name.
_DISTINCT_NAMES = {744: "projectile", 836: "sunglass"}


@functools.cache
def imagenet_names() -> tuple[str, ...]:
    """Return open_clip's 1,000 class names, two of them changed so that all differ. Raises SetupError without it."""
    names = runpy.run_path(str(_folder_of("open_clip", "open_clip_torch") / "zero_shot_metadata.py"))
    return tuple(_DISTINCT_NAMES.get(index, name) for index, name in enumerate(names["IMAGENET_CLASSNAMES"]))


@functools.cache
def imagenet_synsets() -> dict[str, int]:
    """Return the index of each class by its WordNet id ("n01440764": 0). Raises SetupError without timm's list."""
    path = _folder_of("timm", "timm") / "data" / "_info" / "imagenet_synsets.txt"
    return {synset: index for index, synset in enumerate(path.read_text(encoding="utf-8").split())}


def _folder_of(package: str, distribution: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise SetupError(f'the class list "imagenet1k" needs {package}; install {distribution}')
    return Path(found.origin).parent

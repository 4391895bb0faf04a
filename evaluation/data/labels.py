"""From labels as people write them to the names of the known classes: indices, WordNet ids, -1 for an outlier.

ImageNet's class names and WordNet ids are lists that installed packages carry as data. They are read without importing
those packages, which would bring torch along: seconds, for some words.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import runpy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from immuno_core.errors import SetupError
from immuno_core.records import Sample

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
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SetupError(f'the class list "imagenet1k" needs {package}; install {distribution}')
    return Path(spec.origin).parent


OUTLIER = -1
_INTEGER = re.compile(r"(-?[0-9]{1,9})(?:\.0+)?")
"""An index, perhaps as a table of numbers writes it: 3.0."""
_SYNSET = re.compile(r"n\d{8}")


def is_number(label: str) -> bool:
    """Whether a label is an index or a WordNet id, so that it names nothing by itself."""
    return bool(_INTEGER.fullmatch(label) or _SYNSET.fullmatch(label))


def _index(label: str) -> int | None:
    found = _INTEGER.fullmatch(label)
    return int(found[1]) if found else None


def resolve_labels(
    samples: tuple[Sample, ...], classes: Sequence[str], *, role: Literal["id", "outlier"], name: str
) -> tuple[Sample, ...]:
    """Return the samples with labels that are class names where the source wrote something else.

    Of outliers only "-1" (OpenOOD's "of no class") becomes "", the label of an image that has none. Labels of known
    images that are all class names stay; those that are with blanks in place of underscores become them. If all are
    integers, they are places in `classes`, counted from 0. If all are WordNet ids of ImageNet-1K and `classes` has
    1,000 names, these are taken to be in ImageNet's order. Anything else stays as it is. With no `classes`, nothing is
    resolved.
    Raises SetupError for an index that is out of range, -1 included.
    """
    written = {sample.label for sample in samples}
    if role == "outlier":
        none = {label for label in written if _index(label) == OUTLIER}
        if not none:
            return samples
        return tuple(replace(sample, label="") if sample.label in none else sample for sample in samples)
    names = set(classes)
    if not classes or written <= names or "" in written:
        return samples
    said = {label: label if label in names else label.replace("_", " ").strip() for label in written}
    if names.issuperset(said.values()):
        return tuple(replace(sample, label=said[sample.label]) for sample in samples)
    indices = {label: index for label in written if (index := _index(label)) is not None}
    if len(indices) == len(written):
        wrong = [sample for sample in samples if not 0 <= indices[sample.label] < len(classes)]
        if wrong:
            raise SetupError(
                f"set '{name}': {len(wrong)} label(s) out of range (first: label {wrong[0].label}, of "
                f"{wrong[0].path}); the "
                f"class list has {len(classes)} names, counted from 0 to {len(classes) - 1}"
            )
        of_label = {label: classes[index] for label, index in indices.items()}
    elif len(classes) == CLASSES and all(_SYNSET.fullmatch(label) for label in written):
        synsets = imagenet_synsets()
        if not written <= synsets.keys():
            return samples
        of_label = {label: classes[synsets[label]] for label in written}
    else:
        return samples
    return tuple(replace(sample, label=of_label[sample.label]) for sample in samples)

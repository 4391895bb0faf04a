"""The names of the known classes; immuno_core.text makes prompts of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from evaluation.data.labels import imagenet_names
from evaluation.data.sources import Listing, label_names
from immuno_core.config.run import ClassesConfig, DataConfig
from immuno_core.errors import SetupError, did_you_mean
from immuno_core.files import read_text
from immuno_core.text import composed


def read_classes(
    config: ClassesConfig, data: DataConfig, *, seed: int, listing: Listing | None = None
) -> tuple[str, ...]:
    """Return the names of the known classes, as the labels of the data spell them.

    `names` is a text file with one class per line, in its order; or "dataset", the labels of data.fit (else of data.id)
    in alphabetical order, or for the mini-world in its own; or "imagenet1k", open_clip's list of 1,000 names (two of
    them changed, so that all differ).
    Raises SetupError naming the file, and the lines, for blank and repeated ones.
    """
    if isinstance(config.names, Path):
        return read_class_list(config.names)
    if config.names == "imagenet1k":
        return imagenet_names()
    return label_names(data.fit or data.id, seed=seed, listing=listing or Listing())


def read_class_list(path: Path) -> tuple[str, ...]:
    """Return the classes of a UTF-8 text file with one name per line. Raises SetupError as `read_classes` does."""
    hint = 'name a text file with one class per line, "dataset" or "imagenet1k"'
    content = read_text(path, "class list", hint=hint)
    names = [composed(line.strip()) for line in content.removesuffix("\n").split("\n")]
    if not any(names):
        raise SetupError(f"{path} is empty; write one class per line")
    blank = [number for number, name in enumerate(names, start=1) if not name]
    if blank:
        raise SetupError(f"{path} has blank lines ({_numbers(blank)}); delete them")
    lines: dict[str, list[int]] = {}
    for number, name in enumerate(names, start=1):
        lines.setdefault(name, []).append(number)
    repeated = [(name, numbers) for name, numbers in lines.items() if len(numbers) > 1]
    if repeated:
        name, numbers = repeated[0]
        others = f", and {len(repeated) - 1} more name(s)" if len(repeated) > 1 else ""
        raise SetupError(f"{path} names '{name}' more than once (lines {_numbers(numbers)}){others}; keep one of each")
    return tuple(names)


def without_images(classes: Sequence[str], labels: Iterable[str], *, what: str) -> str | None:
    """Return what is to be said of classes that no image is labelled with; None where there is none.

    A score compares images with such a class all the same, so one that is a folder of something else, or whose images
    were lost on the way, changes every figure. `what` the images are.
    """
    with_images = set(labels)
    empty = [name for name in classes if name not in with_images]
    if not empty:
        return None
    return f"{len(empty)} of {len(classes)} known class(es) have no {what} (first: '{empty[0]}')"


MEND_EMPTY = "add images, take them off the class list, or write [classes] allow_empty = true"
"""What to do about classes `without_images`."""


def read_synonyms(path: Path | None, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return other names of the classes: a UTF-8 text file with "CLASS: NAME, NAME" on each line; none without a file.

    Empty lines and lines that begin with # are skipped. Raises SetupError naming the file and the line.
    """
    if path is None:
        return {}
    synonyms_of: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(read_text(path, "list of synonyms").split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, rest = (composed(part.strip()) for part in line.partition(":"))
        synonyms = tuple(part.strip() for part in rest.split(",") if part.strip())
        if not colon or not synonyms:
            raise SetupError(f"{path}, line {number}: write 'CLASS: NAME, NAME', as in 'sofa: couch, settee'")
        if name not in classes:
            raise SetupError(f"{path}, line {number}: '{name}' is no known class{did_you_mean(name, classes)}")
        synonyms_of[name] = (*synonyms_of.get(name, ()), *synonyms)
    return synonyms_of


def _numbers(lines: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in lines[:5])
    return f"{shown}, ..." if len(lines) > 5 else shown

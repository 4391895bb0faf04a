"""Where images come from: class folders, flat folders, image lists, and the built-in mini-world.

- Class folders, `root/label/**/image.png`: the label is the folder directly below the root. An ID set needs labels.
- A flat folder, `root/**/image.png`: for outliers only; an image directly in the root has the label "".
- An image list, see evaluation.image_list.
- `builtin = "miniworld"`: the generated world of this seed, drawn into the cache where it is missing.

An image is a file that ends in .png, .jpg, .jpeg, .webp, .bmp, .gif, .tif or .tiff, in any case. Whatever begins with a
dot or a double underscore (`.DS_Store`, `__MACOSX`) is passed over. Links are followed; those that lead nowhere, or
back to a folder that contains them, are passed over. Images are in the order of their paths, so that it is the same
everywhere.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from evaluation.image_list import read_image_list
from evaluation.miniworld.world import MiniWorld, build, default_root
from immuno.config import SourceConfig
from immuno.errors import SetupError
from immuno.records import ImageSet, Sample, Split, text_digest

Role = Literal["id", "outlier"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def read_images(source: SourceConfig, *, name: str, role: Role, split: Split, seed: int) -> ImageSet:
    """List the images of one source as a set of this name, role and split.

    `seed` chooses the mini-world. There, an ID set is the split's `id` and an outlier set the one called `name`.
    Raises SetupError naming the path for one that is missing, is not readable, or holds no image; for an ID set with
    images outside class folders; for a bad image list; and for an unknown set of the mini-world.
    """
    path = _path_of(source, name) if source.builtin is None else _miniworld_folder(name, role, split, seed)
    samples = read_image_list(path) if path.is_file() else _in_folder(path, name)
    unlabelled = [sample for sample in samples if not sample.label]
    if role == "id" and unlabelled:
        raise SetupError(
            f"set '{name}': {len(unlabelled)} image(s) in {path} have no label (first: '{unlabelled[0].id}'); "
            "put known images in one folder per class, or give an image list with labels"
        )
    return ImageSet(name=name, split=split, role=role, samples=samples, digest=_digest(samples))


def label_names(source: SourceConfig, *, seed: int) -> tuple[str, ...]:
    """Return the labels of a source in alphabetical order: its class folders, or the labels of its image list.

    Reads no image. Raises SetupError where there is none.
    """
    if source.builtin is not None:
        return miniworld(seed).classes
    path = _path_of(source, "id")
    if path.is_file():
        names = {sample.label for sample in read_image_list(path)}
    else:
        names = {entry.name for entry in _entries(path) if entry.is_dir()}
    names.discard("")
    if not names:
        raise SetupError(f"{path} has no class folders; name a class list in [classes] names")
    return tuple(sorted(names))


def miniworld(seed: int) -> MiniWorld:
    """Return the mini-world of a seed, drawn into the cache where it is missing."""
    return build(default_root(seed), seed=seed)


class Halves(NamedTuple):
    """A fit set in two."""

    fit: ImageSet
    held_out: ImageSet
    """Of the split `feedback`."""


def hold_out(images: ImageSet, *, seed: int) -> Halves:
    """Set half of each label's images aside for feedback; the same ones for the same seed, whatever their order.

    Of an odd number, fit keeps one more. Raises SetupError where nothing is left to set aside (one image per label).
    """
    by_label: dict[str, list[Sample]] = {}
    for sample in images.samples:
        by_label.setdefault(sample.label, []).append(sample)
    kept: set[str] = set()
    for samples in by_label.values():
        drawn = sorted(sample.id for sample in samples)
        drawn.sort(key=lambda sample_id: text_digest(str(seed), sample_id))
        kept.update(drawn[: math.ceil(len(drawn) / 2)])
    held_out = tuple(sample for sample in images.samples if sample.id not in kept)
    if not held_out:
        raise SetupError(
            f"set '{images.name}' has one image per class, so none can be held out for feedback; "
            "add images, or give [data.feedback_id]"
        )
    fit = tuple(sample for sample in images.samples if sample.id in kept)
    return Halves(
        ImageSet(images.name, images.split, images.role, fit, _half_digest(images, seed, "fit")),
        ImageSet(images.name, "feedback", images.role, held_out, _half_digest(images, seed, "held out")),
    )


def _half_digest(images: ImageSet, seed: int, half: str) -> str:
    return text_digest(images.digest, "half", str(seed), half)


def _miniworld_folder(name: str, role: Role, split: Split, seed: int) -> Path:
    return miniworld(seed).folder(split, "id" if role == "id" else name)


def _path_of(source: SourceConfig, name: str) -> Path:
    path = source.path
    if path is None:
        raise SetupError(f"set '{name}' has neither path nor builtin; give one of them")
    if not path.exists():
        raise SetupError(f"set '{name}': there is no folder and no image list at {path}; put the path right")
    if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
        raise SetupError(f"set '{name}': {path} is a single image; name its folder, or a text file with image paths")
    return path


def _in_folder(root: Path, name: str) -> tuple[Sample, ...]:
    samples = []
    for path in _images_below(root, frozenset()):
        relative = path.relative_to(root)
        sample_id = relative.as_posix()
        try:
            sample_id.encode()
        except UnicodeEncodeError:
            raise SetupError(f"set '{name}': the file name {sample_id!r} in {root} is not UTF-8; rename it") from None
        samples.append(Sample(id=sample_id, path=str(path), label=relative.parts[0] if len(relative.parts) > 1 else ""))
    if not samples:
        raise SetupError(f"set '{name}': no image in {root}; it looks for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return tuple(samples)


def _images_below(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """Yield the images below a folder in the order of their paths; `above` are the real folders on the way to it."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _images_below(entry, above | {real})
        elif entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file():
            yield entry


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, by name, without what is passed over."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "__")))
    except OSError as error:
        raise SetupError(f"cannot list the folder {folder}: {error.strerror}") from None


def _digest(samples: Sequence[Sample]) -> str:
    """Over ids, labels, sizes and modification times."""
    parts: list[str] = []
    for sample in samples:
        try:
            status = os.stat(sample.path)  # noqa: PTH116 - a Path per image doubles the time for a million of them
        except OSError as error:
            raise SetupError(f"cannot read the image {sample.path}: {error.strerror}") from None
        parts += (sample.id, sample.label, str(status.st_size), str(status.st_mtime_ns))
    return text_digest(*parts)

"""Overlap between sets: an image that is judged by what it was fitted or chosen on, or that is two things.

Two samples are one where they are the same file (links resolved; within a tar, the same bytes of it; of a feature file,
the same row) or have exactly the same embedding. Both are found by hashing: a million rows of 512 numbers in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from immuno_core.arrays import blocks
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, FloatArray
from immuno_core.images import containing_file

How = Literal["the same file", "the same embedding"]
Overlap = Literal["error", "drop"]
"""What to do about it: raise SetupError with the first pair and the counts, or leave such samples out of the later set
(of a sample that is known and outlier, the outlier). A set of which nothing would be left is an error either way."""


class Twin(NamedTuple):
    """A sample that is in two sets."""

    row: int
    """Of the set that it is to be left out of."""
    of_set: str
    of_id: str
    how: How


@dataclass(frozen=True, slots=True)
class Dropped:
    """Images left out of a set, because they are in another set too; `first` is one of them, by its id."""

    set: str
    count: int
    first: str
    of_set: str
    how: str
    """One of `How`, or of a later version's."""


class Disjoint(NamedTuple):
    """Known images and outlier sets without their overlap, and what was left out of them."""

    known: FeatureSet
    outliers: tuple[FeatureSet, ...]
    dropped: tuple[Dropped, ...]


def without_overlap(
    known: FeatureSet, outliers: Sequence[FeatureSet], *, open_sets: Sequence[FeatureSet], overlap: Overlap
) -> Disjoint:
    """Return the test sets with no sample that is in a set of fit or feedback, nor any outlier that is a known image.

    `open_sets` are those of fit and feedback. Outlier sets may share images with one another: each is measured alone.
    """
    return _disjoint([(known, open_sets), *((images, (*open_sets, known)) for images in outliers)], overlap)


def feedback_without_overlap(
    known: FeatureSet, outliers: Sequence[FeatureSet], *, fit: FeatureSet | None, overlap: Overlap
) -> Disjoint:
    """Return the feedback sets with no sample that is in the fit set or in a set before them, the known images first.

    Outlier sets may not share images with one another: each judges what was learned from the others.
    """
    before = [one for one in (fit, known) if one is not None]
    pairs = [(images, [*before, *outliers[:i]]) for i, images in enumerate(outliers)]
    return _disjoint([(known, before[:-1]), *pairs], overlap)


def _disjoint(pairs: Sequence[tuple[FeatureSet, Sequence[FeatureSet]]], overlap: Overlap) -> Disjoint:
    """The sets, the known images first, without what is in the sets that each is to be apart from."""
    names = _RealNames()
    indices = {id(images): _Index(images, names) for one, others in pairs for images in (one, *others)}
    twins_of_sets = []
    for images, others in pairs:
        found: dict[int, Twin] = {}
        for other in others:
            found = {twin.row: twin for twin in indices[id(images)].twins(indices[id(other)])} | found
        twins_of_sets.append((images, tuple(found[row] for row in sorted(found))))
    dropped = tuple(summary for images, twins in twins_of_sets for summary in _summary(images, twins))
    if dropped and overlap == "error":
        raise SetupError(_explain(twins_of_sets, dropped))
    kept = [_kept(images, twins) for images, twins in twins_of_sets]
    return Disjoint(kept[0], tuple(kept[1:]), dropped)


class _Index:
    """What tells the samples of a set from others: their files and their embeddings."""

    def __init__(self, images: FeatureSet, names: _RealNames) -> None:
        self._images = images
        self._files = [names.of(path) for path in images.paths]
        self._hashes = _row_hashes(images.features)

    @cached_property
    def _rows(self) -> dict[str, int]:
        """By file, the first of equals."""
        return {file: row for row, file in reversed(tuple(enumerate(self._files)))}

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        return np.argsort(self._hashes, kind="stable")

    def twins(self, other: _Index) -> Iterator[Twin]:
        """Yield the samples that are in another set too, each once, in the order of the rows."""
        if not len(other._hashes):
            return
        at = np.searchsorted(other._hashes, self._hashes, sorter=other._order)
        rows = other._order[np.minimum(at, len(other._order) - 1)]
        same = other._hashes[rows] == self._hashes
        called, ids = f"{other._images.split} set '{other._images.name}'", other._images.ids
        for row, file in enumerate(self._files):
            if (twin := other._rows.get(file)) is not None:
                yield Twin(row, called, ids[twin], "the same file")
            elif same[row] and np.array_equal(other._images.features[rows[row]], self._images.features[row]):
                yield Twin(row, called, ids[rows[row]], "the same embedding")


class _RealNames:
    """What a path really names: links resolved, of the folder once for all that is in it."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def of(self, path: str) -> str:
        file = containing_file(path)
        # Of a million files, each is looked at once for being a link; only links are resolved one by one.
        if os.path.islink(file):  # noqa: PTH114 - a Path per image would take as long as everything else
            return os.path.realpath(file) + path[len(file) :]
        folder, _, name = path.rpartition("/") if file == path else file.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return f"{self._folders[folder]}/{name}{path[len(file) :]}"


def _row_hashes(features: FloatArray) -> NDArray[np.uint64]:
    """(n,) a 64-bit hash of each row: its numbers' bits times fixed odd numbers, summed without carry."""
    factors = np.random.default_rng(0).integers(2**63, size=features.shape[1], dtype=np.uint64) * np.uint64(2) + (
        np.uint64(1)
    )
    hashes = np.empty(len(features), dtype=np.uint64)
    for rows in blocks(len(features), features.shape[1]):
        # Adding 0 makes -0.0, which equals 0.0, the same bits.
        bits = np.ascontiguousarray(features[rows] + np.float32(0)).view(np.uint32)
        hashes[rows] = (bits * factors).sum(axis=1, dtype=np.uint64)
    return hashes


def _summary(images: FeatureSet, twins: Sequence[Twin]) -> Iterator[Dropped]:
    groups: dict[tuple[str, How], list[Twin]] = {}
    for twin in twins:
        groups.setdefault((twin.of_set, twin.how), []).append(twin)
    for (of_set, how), members in groups.items():
        yield Dropped(images.name, len(members), images.ids[members[0].row], of_set, how)


def _explain(twins_of_sets: Sequence[tuple[FeatureSet, Sequence[Twin]]], dropped: Sequence[Dropped]) -> str:
    images, twin = next((images, twins[0]) for images, twins in twins_of_sets if twins)
    split = images.split
    whose = "the sealed test overlaps" if split == "test" else "the feedback overlaps"
    counts = ", ".join(f"{part.count} of {split} set '{part.set}' in {part.of_set} ({part.how})" for part in dropped)
    return (
        f"{whose} what it must be apart from: '{images.ids[twin.row]}' of {split} set '{images.name}' is "
        f"'{twin.of_id}' of {twin.of_set} ({twin.how}); in all {counts}; separate the sets, or write "
        f'[data] overlap = "drop" to leave these {split} images out'
    )


def _kept(images: FeatureSet, twins: Sequence[Twin]) -> FeatureSet:
    if not twins:
        return images
    left_out = {twin.row for twin in twins}
    rows = np.array([row for row in range(len(images)) if row not in left_out], dtype=np.int64)
    if not len(rows):
        raise SetupError(
            f"every image of {images.split} set '{images.name}' is in another set too (first: "
            f"'{images.ids[twins[0].row]}' in {twins[0].of_set}); give images of its own"
        )
    return replace(images.take(rows), skipped=images.skipped)

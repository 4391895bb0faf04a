"""Overlap between splits: an image of the sealed test that something was fitted or chosen on, or that is two things.

Two samples are one where they are the same file (links resolved; within a tar, the same bytes of it; of a feature file,
the same row) or have exactly the same embedding. Both are found by hashing: a million rows of 512 numbers in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from immuno_core.arrays import blocks
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, FloatArray
from immuno_core.images import containing_file

How = Literal["the same file", "the same embedding"]


class Twin(NamedTuple):
    """A sample that is in two sets."""

    row: int
    """Of the test set."""
    of_set: str
    of_id: str
    how: How


@dataclass(frozen=True, slots=True)
class Dropped:
    """Images left out of a test set, because they are in another set too; `first` is one of them, by its id."""

    set: str
    count: int
    first: str
    of_set: str
    how: str
    """One of `How`, or of a later version's."""


class Disjoint(NamedTuple):
    """The test sets without their overlap, and what was left out of them."""

    known: FeatureSet
    outliers: tuple[FeatureSet, ...]
    dropped: tuple[Dropped, ...]


def without_overlap(
    known: FeatureSet,
    outliers: Sequence[FeatureSet],
    *,
    open_sets: Sequence[FeatureSet],
    overlap: Literal["error", "drop"],
) -> Disjoint:
    """Return the test sets with no sample that is in a set of fit or feedback, nor any outlier that is a known image.

    `open_sets` are the sets of fit and feedback. "drop" leaves such samples out of the test set (of a sample that is
    known and outlier, the outlier). "error" raises SetupError with the first pair and the counts; so does "drop" for a
    test set of which nothing would be left. Outlier sets may share images with one another: each is measured alone.
    """
    seen = _Index(open_sets)
    twins_of_sets = [(images, tuple(seen.twins(images))) for images in (known, *outliers)]
    both = _Index([known])
    for i, (images, twins) in enumerate(twins_of_sets[1:], start=1):
        taken = {twin.row for twin in twins}
        twins_of_sets[i] = (images, (*twins, *(twin for twin in both.twins(images) if twin.row not in taken)))
    dropped = tuple(summary for images, twins in twins_of_sets for summary in _summary(images, twins))
    if dropped and overlap == "error":
        raise SetupError(_explain(twins_of_sets, dropped))
    kept = [_kept(images, twins) for images, twins in twins_of_sets]
    return Disjoint(kept[0], tuple(kept[1:]), dropped)


class _Index:
    """Which samples some sets hold, by file and by embedding."""

    def __init__(self, sets: Sequence[FeatureSet]) -> None:
        self._sets = tuple(sets)
        self._names = _RealNames()
        self._files: dict[str, tuple[int, int]] = {}
        for i, images in enumerate(self._sets):
            for row, path in enumerate(images.paths):
                self._files.setdefault(self._names.of(path), (i, row))
        hashes = [np.empty(0, dtype=np.uint64), *(_row_hashes(images.features) for images in self._sets)]
        self._places = np.array(
            [(i, row) for i, images in enumerate(self._sets) for row in range(len(images))], dtype=np.int64
        ).reshape(-1, 2)
        joined = np.concatenate(hashes)
        order = np.argsort(joined, kind="stable")
        self._hashes, self._places = joined[order], self._places[order]

    def twins(self, images: FeatureSet) -> Iterator[Twin]:
        """Yield the samples of a set that are in this index too, each once, in the order of its rows."""
        if not len(self._hashes):
            return
        hashes = _row_hashes(images.features)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        same_hash = self._hashes[at] == hashes
        for row, path in enumerate(images.paths):
            place = self._files.get(self._names.of(path))
            if place is not None:
                yield Twin(row, *self._called(*place), "the same file")
            elif same_hash[row]:
                i, other = (int(value) for value in self._places[at[row]])
                if np.array_equal(self._sets[i].features[other], images.features[row]):
                    yield Twin(row, *self._called(i, other), "the same embedding")

    def _called(self, i: int, row: int) -> tuple[str, str]:
        images = self._sets[i]
        return f"{images.split} set '{images.name}'", images.ids[row]


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
    counts = ", ".join(f"{part.count} of test set '{part.set}' in {part.of_set} ({part.how})" for part in dropped)
    return (
        f"the sealed test overlaps what it must be apart from: '{images.ids[twin.row]}' of test set '{images.name}' is "
        f"'{twin.of_id}' of {twin.of_set} ({twin.how}); in all {counts}; separate the sets, or write "
        '[data] overlap = "drop" to leave these test images out'
    )


def _kept(images: FeatureSet, twins: Sequence[Twin]) -> FeatureSet:
    if not twins:
        return images
    left_out = {twin.row for twin in twins}
    rows = np.array([row for row in range(len(images)) if row not in left_out], dtype=np.int64)
    if not len(rows):
        raise SetupError(
            f"every image of test set '{images.name}' is in another set too (first: '{images.ids[twins[0].row]}' in "
            f"{twins[0].of_set}); give images of its own"
        )
    return replace(images.take(rows), skipped=images.skipped)

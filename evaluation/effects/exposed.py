"""Images exposed to banks that change: what no antibody alters is computed once, and each antibody meets them once.

An antibody fires on few images, so where it fires, or nearly does, is all that is kept of images times antibodies.
Scores, predictions and exceedances are those of FittedCalibrated to the last bit (immuno_core.arrays.product).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from evaluation.scores.base import EVERY_CLASS, RepelledImages, RepulsionForm
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.scores.radii import ROUNDING
from evaluation.scores.sight import Sight
from immuno_core.arrays import blocks, product
from immuno_core.features import FloatArray, Floats, IntArray

_NEARLY = 1e-9
"""What an antibody may lack to fire and still be kept: effects round cosines (evaluation.effects.states)."""
MOST_KEPT = 2**26
"""Images times antibodies that fire on them, of one set: beyond it, those that were asked for longest ago are met
again. 800 MiB."""


class Firing(NamedTuple):
    """The images on which an antibody fires or nearly does, `rows` (f,) ascending, and its `cosines` (f,) there."""

    rows: IntArray
    cosines: Floats


class Judged(NamedTuple):
    """What a fitted score says of n images: `scores`, the `nearest` class, and the `antibody` that takes most from the
    score as in evaluation.scores.calibrated.Exceedance, -1 where none fires."""

    scores: Floats
    nearest: IntArray
    antibody: IntArray

    @property
    def fired(self) -> int:
        """On how many images any antibody fires."""
        return int(np.count_nonzero(self.antibody >= 0))


def firing(form: RepulsionForm, images: RepelledImages, of: IntArray | slice = slice(None)) -> list[Firing]:
    """Return on which of a block of images each antibody, or those `of` these rows, fires or nearly does."""
    cosines = product(form.antibodies[of], images.points)
    lacking = cosines - form.radii[of, None]
    lacking -= images.near
    fires = lacking > -_NEARLY
    guards = form.guards[of, None]
    if (guards != EVERY_CLASS).any():
        fires &= (guards == EVERY_CLASS) | (guards == images.nearest)
    antibody, rows = np.nonzero(fires)
    return _split(antibody, rows, cosines[fires], len(cosines))


def _split(antibody: IntArray, rows: IntArray, cosines: Floats, count: int) -> list[Firing]:
    """By antibody, which ascends."""
    ends = np.searchsorted(antibody, np.arange(count + 1))
    return [Firing(rows[a:b], cosines[a:b]) for a, b in pairwise(ends)]


class Gathered:
    """The firings of antibodies on one block of images after the other."""

    def __init__(self) -> None:
        self._blocks: list[tuple[int, list[Firing]]] = []

    def add(self, start: int, found: list[Firing]) -> None:
        """Add those on a block that begins at the image `start`."""
        self._blocks.append((start, found))

    def all(self) -> Iterator[Firing]:
        """Yield the firings of each antibody on all images."""
        for found in zip(*(block for _, block in self._blocks), strict=True):
            rows = [one.rows + start for (start, _), one in zip(self._blocks, found, strict=True) if len(one.rows)]
            yield (
                Firing(np.concatenate(rows), np.concatenate([one.cosines for one in found]))
                if rows
                else Firing(np.zeros(0, np.int64), np.zeros(0))
            )


class Exposed:
    """An image set (n, d) under banks of one calibrated score, whose exceedances are combined by "max"."""

    def __init__(self, features: FloatArray, fitted: FittedCalibrated) -> None:
        """`fitted` is the score with any bank. Raises SetupError for images that are no unit rows (n, d)."""
        self._features = features
        self.nearest = fitted.predict(features)
        """(n,) the predicted class."""
        count, form = len(features), replace(fitted, sight=None).form
        self._seen = RepelledImages(
            np.empty((0, fitted.dim)), np.empty(count), np.empty(count), np.empty(count, np.int64), np.zeros(count)
        )
        for rows in blocks(count, fitted.width):
            images = form.images(features[rows].astype(np.float64))
            self._seen.base[rows], self._seen.near[rows], self._seen.nearest[rows] = images[1:4]
        self._held: OrderedDict[bytes, Firing] = OrderedDict()
        self._kept = 0

    def __len__(self) -> int:
        return len(self.nearest)

    def under(self, fitted: FittedCalibrated) -> Judged:
        """Return what the score says with another bank."""
        largest, antibody = self._largest(fitted)
        taken, rest = fitted.beta * largest, np.zeros(len(self))
        if fitted.sight is not None:
            rest, seen = self._taken_by_sight(fitted.sight)
            antibody = np.where((rest > 0) & (rest > taken), len(fitted.antibodies) + seen, antibody)
        return Judged(self._seen.base - taken - rest, self.nearest, antibody)

    def with_texts(self, fitted: FittedCalibrated) -> tuple[RepelledImages, list[Firing]]:
        """Return what `fitted.form` does to the images, without their points."""
        rest = np.zeros(len(self)) if fitted.sight is None else self._taken_by_sight(fitted.sight)[0]
        return self._seen._replace(rest=rest), self._firing(fitted)

    def visual(self, fitted: FittedCalibrated, form: RepulsionForm) -> tuple[RepelledImages, list[Firing]]:
        """Return what `form`, the `fitted.visual_form`, does to the images, without their points."""
        taken = fitted.beta * self._largest(fitted)[0]
        seen, gathered = self._seen._replace(near=np.zeros(len(self)), rest=taken), Gathered()
        for rows in blocks(len(self), fitted.dim + 4 * len(form.ids)):
            gathered.add(rows.start, firing(form, self._block(seen, rows)))
        return seen, list(gathered.all())

    def take(self, rows: IntArray) -> Exposed:
        """Return some of the images, in ascending order, under the banks that all of them meet."""
        return _Some(self, rows)

    def _largest(self, fitted: FittedCalibrated) -> tuple[Floats, IntArray]:
        """(n,) the largest exceedance of an antibody with a text, 0 where none fires, and whose it is, else -1."""
        top, lead = np.full(len(self), -np.inf), np.full(len(self), -1)
        for j, (rows, cosines) in enumerate(self._firing(fitted)):
            beyond, before = cosines - fitted.radii[j], top[rows]
            lead[rows] = np.where(beyond > before, j, lead[rows])
            top[rows] = np.maximum(beyond, before)
        top -= self._seen.near
        fires = top > ROUNDING
        return np.where(fires, top, 0.0), np.where(fires, lead, -1)

    def _taken_by_sight(self, sight: Sight) -> tuple[Floats, IntArray]:
        """(n,) what visual antibodies take from the score, and which of them would take most."""
        taken, which = np.empty(len(self)), np.empty(len(self), np.int64)
        for rows in blocks(len(self), len(sight.own.T) + self._features.shape[1]):
            beyond = sight.beyond(self._features[rows])
            taken[rows], which[rows] = sight.taken_where(beyond), beyond.argmax(axis=1)
        return taken, which

    def _block(self, seen: RepelledImages, rows: slice) -> RepelledImages:
        return seen.take(rows, self._features[rows].astype(np.float64))

    def _firing(self, fitted: FittedCalibrated) -> list[Firing]:
        """What each antibody with a text does; those that were not met before meet all images now."""
        form, keys = fitted.form, _keys(fitted)
        new = np.array([j for j, key in enumerate(keys) if key not in self._held], dtype=np.int64)
        gathered = Gathered()
        for rows in blocks(len(self) if len(new) else 0, self._features.shape[1] + 4 * len(new)):
            gathered.add(rows.start, firing(form, self._block(self._seen, rows), new))
        self._held |= zip((keys[j] for j in new), gathered.all(), strict=False)
        found = []
        for key in keys:
            found.append(self._held[key])
            self._held.move_to_end(key)
        kept = sum(len(one.rows) for one in self._held.values())
        while kept > MOST_KEPT and len(self._held) > len(set(keys)):
            kept -= len(self._held.popitem(last=False)[1].rows)
        return found


def _keys(fitted: FittedCalibrated) -> list[bytes]:
    """What tells antibodies with texts apart, as the images meet them."""
    parts = zip(fitted.antibodies, fitted.radii, fitted.guards, strict=True)
    return [hashlib.sha256(a.tobytes() + r.tobytes() + g.tobytes()).digest() for a, r, g in parts]


class _Some(Exposed):
    """Some images of a set; antibodies meet them where they meet the set."""

    def __init__(self, whole: Exposed, rows: IntArray) -> None:
        self._whole, self._features = whole, whole._features[rows]
        self.nearest = whole.nearest[rows]
        self._seen = whole._seen.take(rows, whole._seen.points)
        self._place = np.full(len(whole), -1)
        self._place[rows] = np.arange(len(rows))

    def _firing(self, fitted: FittedCalibrated) -> list[Firing]:
        found = []
        for images, cosines in self._whole._firing(fitted):
            here = self._place[images]
            found.append(Firing(here[here >= 0], cosines[here >= 0]))
        return found

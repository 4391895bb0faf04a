"""Images exposed to banks that change: what no antibody alters is computed once, and each antibody meets them once.

An antibody fires on few images, so where it fires, or nearly does, is all that is kept of images times antibodies.
Scores, predictions and exceedances are those of FittedCalibrated to the last bit (immuno_core.arrays.product).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from evaluation.scores.base import EVERY_CLASS, RepelledImages, RepulsionForm
from evaluation.scores.calibrated import FittedCalibrated
from evaluation.scores.radii import ROUNDING
from evaluation.scores.sight import Sight
from immuno_core.arrays import blocks, product
from immuno_core.errors import ImmunoError
from immuno_core.features import FloatArray, Floats, IntArray

Rows = slice | IntArray
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
    return _where_it_fires(cosines, form.radii[of], form.guards[of, None], images)


def _where_it_fires(cosines: Floats, radii: Floats, guards: IntArray, images: RepelledImages) -> list[Firing]:
    """On which images (b,) antibodies (a,) fire or nearly do; `guards` (a, b), or (a, 1) for all images alike."""
    lacking = cosines - radii[:, None]
    lacking -= images.near
    fires = lacking > -_NEARLY
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
            cosines = self._toward(fitted, form, rows)
            images = seen.take(rows, seen.points)
            gathered.add(rows.start, _where_it_fires(cosines, form.radii, form.guards[:, None], images))
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
            beyond = self._beyond(sight, rows)
            taken[rows], which[rows] = sight.taken_where(beyond), beyond.argmax(axis=1)
        return taken, which

    def _points(self, rows: Rows) -> Floats:
        return self._features[rows].astype(np.float64)

    def _meet(self, fitted: FittedCalibrated, new: IntArray, rows: slice) -> tuple[Floats, IntArray]:
        """Cosines (a, b) of new antibodies with texts to a block of images, and the guards of these."""
        return product(fitted.antibodies[new], self._points(rows)), fitted.guards[new, None]

    def _toward(self, fitted: FittedCalibrated, form: RepulsionForm, rows: Rows) -> Floats:  # noqa: ARG002
        """The same of visual antibodies, the `fitted.visual_form`: (k, b)."""
        return product(form.antibodies, self._points(rows))

    def _beyond(self, sight: Sight, rows: Rows) -> Floats:
        """By how much images exceed the radii of visual antibodies (b, k)."""
        return sight.beyond(self._features[rows])

    def _firing(self, fitted: FittedCalibrated) -> list[Firing]:
        """What each antibody with a text does; those that were not met before meet all images now."""
        form, keys = fitted.form, _keys(fitted)
        new = np.array([j for j, key in enumerate(keys) if key not in self._held], dtype=np.int64)
        gathered = Gathered()
        for rows in blocks(len(self) if len(new) else 0, self._features.shape[1] + 4 * len(new)):
            cosines, guards = self._meet(fitted, new, rows)
            images = self._seen.take(rows, self._seen.points)
            gathered.add(rows.start, _where_it_fires(cosines, form.radii[new], guards, images))
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


class ExposedInTurn(Exposed):
    """Fit images under banks of a score that was fitted on them: each as the score without its part judges it.

    Radii differ from part to part: where one does from that of all fit images, the cosine is told that lies as far
    beyond the latter.
    """

    def __init__(
        self, features: FloatArray, fitted: FittedCalibrated, parts: IntArray, without: Sequence[FittedCalibrated]
    ) -> None:
        """`parts` (n,) is the part of each, from 0; `without` are the scores without each part, with any bank."""
        super().__init__(features, fitted)
        self._parts = parts
        for part, score in enumerate(without):
            rows = np.flatnonzero(parts == part)
            some = Exposed(features[rows], score)
            self.nearest[rows], self._seen.base[rows] = some.nearest, some._seen.base

    def _meet(self, fitted: FittedCalibrated, new: IntArray, rows: slice) -> tuple[Floats, IntArray]:
        if fitted.parted is None:
            raise ImmunoError("the score has no radii without each part of the fit images")
        own = 1 + self._parts[rows]
        cosines, _ = super()._meet(fitted, new, rows)
        cosines += fitted.radii[new, None] - fitted.parted.radii[own][:, new].T
        return cosines, fitted.parted.reach[own][:, new].T

    def _toward(self, fitted: FittedCalibrated, form: RepulsionForm, rows: Rows) -> Floats:
        if fitted.sight is None:
            return super()._toward(fitted, form, rows)
        return fitted.sight.own[rows].T + form.radii[:, None]

    def _beyond(self, sight: Sight, rows: Rows) -> Floats:
        return sight.own[rows]


class _Some(Exposed):
    """Some images of a set; antibodies meet them where they meet the set."""

    def __init__(self, whole: Exposed, rows: IntArray) -> None:
        self._whole, self._features = whole, whole._features[rows]
        self.nearest = whole.nearest[rows]
        self._seen = whole._seen.take(rows, whole._seen.points)
        self._rows, self._place = rows, np.full(len(whole), -1)
        self._place[rows] = np.arange(len(rows))

    def _toward(self, fitted: FittedCalibrated, form: RepulsionForm, rows: Rows) -> Floats:
        return self._whole._toward(fitted, form, self._rows[rows])

    def _beyond(self, sight: Sight, rows: Rows) -> Floats:
        return self._whole._beyond(sight, self._rows[rows])

    def _firing(self, fitted: FittedCalibrated) -> list[Firing]:
        found = []
        for images, cosines in self._whole._firing(fitted):
            here = self._place[images]
            found.append(Firing(here[here >= 0], cosines[here >= 0]))
        return found

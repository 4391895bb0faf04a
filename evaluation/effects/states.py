"""One image set under a bank of antibodies: the scores with each antibody alone, and with each left out.

A state meets every antibody once (`terms`, `alone`, `absorb`) and then knows the score under the whole bank and what is
left when one is taken out (`left_out`). What it keeps per image does not grow with the number of antibodies:

- max-type: the two largest terms and whose the largest is. Without it the second takes its place.
- sum-type: the largest term apart, and the sum of the others. What is subtracted from a total is therefore at most
  half of it: taking out the term that dominates loses no digits. In the exponent, sums are held relative to their
  largest terms, so that nothing overflows or vanishes.

Cosines are first rounded to 2^-44 (6e-14): matrix products of other shapes differ in the last bits, and equal images,
or equal antibodies, would seem to differ. So scores that differ by no more than that, divided by the temperature where
there is one, may count as equal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from evaluation.effects.exposed import Firing, Gathered, firing
from evaluation.effects.ranking import ALL, NO_CHANGE, Change, RankedScores, Rows
from evaluation.scores.base import Form, RepelledImages, RepulsionForm, SoftmaxForm, SoftmaxImages
from evaluation.scores.radii import ROUNDING
from immuno_core.arrays import blocks, product
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, FloatArray, Floats, IntArray

# Adding and subtracting it leaves a float64 a multiple of 2^-44.
_ROUNDER = 1.5 * 2.0**8
# Below every logarithm that occurs, and finite, so that differences of two of them are no NaN.
_NOTHING = -1e300


class Term(NamedTuple):
    """What an antibody adds to the images in `rows`."""

    rows: Rows
    values: Floats


class State(ABC):
    """n images under a bank. Antibodies are named by their row j in it."""

    bare: RankedScores
    """Without any antibody."""
    full: RankedScores
    """With all of them; after `finish`."""
    fired: IntArray
    """(A,) on how many images each fires; after `finish`. See evaluation.effects.antibody_effects."""

    @abstractmethod
    def __len__(self) -> int:
        """Images."""

    @abstractmethod
    def terms(self, rows: slice) -> Callable[[int], Term]:
        """Return what gives, once, the term of each of a slice of the antibodies."""

    @property
    @abstractmethod
    def meets_twice(self) -> bool:
        """Whether `left_out` needs the term again."""

    @abstractmethod
    def alone(self, term: Term) -> Change:
        """Return how `bare` changes with the antibody of this term and no other."""

    @abstractmethod
    def absorb(self, j: int, term: Term) -> None:
        """Count antibody j in. Each once, in the order of the bank: the first of equal terms is the largest."""

    @abstractmethod
    def finish(self) -> None:
        """Every antibody has been absorbed."""

    @abstractmethod
    def left_out(self, j: int, term: Term | None) -> Change:
        """Return how `full` changes without antibody j; its term, which may be overwritten, where `meets_twice`."""


def state_of(form: Form, images: FeatureSet, width: int) -> State:
    """Return the state of an image set under a score's antibodies, none of them met yet.

    `width` is the score's, the numbers it holds per image. Raises SetupError for a set without images.
    """
    if not len(images):
        raise SetupError(f"set '{images.name}' has no images to measure effects on")
    if not isinstance(form, RepulsionForm):
        return _SoftmaxState(form, images.features, width)
    parts: list[RepelledImages] = []
    gathered = Gathered()
    for rows in blocks(len(images), width):
        part = form.images(images.features[rows].astype(np.float64))
        if form.silent:
            gathered.add(rows.start, firing(form, part))
            part = part._replace(points=part.points[:0])
        parts.append(part)
    whole = RepelledImages(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return _RepulsionState(form, whole, list(gathered.all()))


def state_where(form: RepulsionForm, images: RepelledImages, fires: Sequence[Firing]) -> State:
    """Return the state of images, whose points are not needed, under silent antibodies, given where each fires."""
    return _RepulsionState(form, images, fires)


class _RepulsionState(State):
    """Under a RepulsionForm; where that is silent, `fires` says on which images each antibody does, and of the points
    nothing is needed."""

    def __init__(self, form: RepulsionForm, images: RepelledImages, fires: Sequence[Firing]) -> None:
        self._images, self._fires = images, fires
        self._form = form
        self.bare = RankedScores(_rounded(images.base.copy()))
        self._near = _rounded(images.near.copy())
        # An antibody alone is alone; left out it leaves those of another form as well.
        self._base, self._left = self.bare.scores, self.bare.scores - _rounded(images.rest.copy())
        count = len(self._base)
        self._lead = np.full(count, -1, dtype=np.int64)
        # A silent antibody's term is 0; elsewhere the first term takes the place of nothing at all.
        self._top = np.full(count, 0.0 if form.silent else -np.inf)
        self._second, self._others = self._top.copy(), np.zeros(count)
        self.fired = np.zeros(len(form.antibodies), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._base)

    def terms(self, rows: slice) -> Callable[[int], Term]:
        form, near = self._form, self._near
        if form.silent:

            def where_it_fires(j: int) -> Term:
                images, cosines = self._fires[j]
                beyond = _rounded(cosines.copy()) - near[images] - form.radii[j]
                fires = beyond > ROUNDING
                return Term(images[fires], beyond[fires])

            return where_it_fires
        cosines = product(form.antibodies[rows], self._images.points)

        def everywhere(j: int) -> Term:
            beyond = _rounded(cosines[j - rows.start])
            beyond -= near
            beyond -= form.radii[j]
            return Term(ALL, beyond)

        return everywhere

    @property
    def meets_twice(self) -> bool:
        return self._form.combine == "sum"

    def alone(self, term: Term) -> Change:
        return Change(term.rows, self._base[term.rows] - self._form.weight * term.values)

    def absorb(self, j: int, term: Term) -> None:
        rows, new = term
        top = self._top[rows]
        lower = np.minimum(top, new)
        if self._form.combine == "sum":
            self._others[rows] += lower
        else:
            self._second[rows] = np.maximum(self._second[rows], lower)
        self._lead[rows] = np.where(new > top, j, self._lead[rows])
        self._top[rows] = np.maximum(top, new)
        if self._form.silent:
            self.fired[j] = len(new)

    def finish(self) -> None:
        weight = self._form.weight
        if not self._form.silent:
            self.fired = np.bincount(self._lead, minlength=len(self.fired))
            # Without the only antibody the term is absent.
            self._second[np.isneginf(self._second)] = 0.0
        if self._form.combine == "sum":
            self.full = RankedScores(self._left - weight * (self._top + self._others))
            return
        self.full = RankedScores(self._left - weight * self._top)
        # The images of each antibody that is somewhere the largest, in one sort instead of one search per antibody.
        self._by_lead = np.argsort(self._lead, kind="stable")
        self._bounds = np.searchsorted(self._lead[self._by_lead], np.arange(len(self.fired) + 1))

    def left_out(self, j: int, term: Term | None) -> Change:
        if term is None:
            rows = self._by_lead[self._bounds[j] : self._bounds[j + 1]]
            return Change(rows, self._left[rows] - self._form.weight * self._second[rows])
        fires, gone = term
        others = self._others[fires]
        left = np.where(self._lead[fires] == j, others, self._top[fires] + others - gone)
        return Change(fires, self._left[fires] - self._form.weight * left)


class _SoftmaxState(State):
    """Under a SoftmaxForm with G groups; holds some 5 G numbers per image.

    A group whose only antibody is left out is no longer counted. Groups do not form anew: leaving one out of a bank
    whose groups are drawn by chance (evaluation.scores.negative_labels) is leaving it out of its group.
    """

    meets_twice = True

    def __init__(self, form: SoftmaxForm, features: FloatArray, width: int) -> None:
        parts = [form.images(features[rows].astype(np.float64)) for rows in blocks(len(features), width)]
        images = SoftmaxImages(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
        self._points, self._form = images.points, form
        # Rounded in units of cosine, as the terms are: where a class is an antibody, too, the two stay equal.
        self._peak, self._known = (
            _rounded(logs * form.temperature) / form.temperature for logs in (images.peak, images.known)
        )
        self._bare = np.exp(self._peak - self._known)
        self.bare = RankedScores(self._bare)
        self._sizes = np.bincount(form.group)
        shape = len(self._sizes), len(features)
        self._lead = np.full(shape, -1, dtype=np.int32)
        # Of each group: the largest logarithm, the second, and the sum of all but the largest, relative to the second.
        self._top, self._second, self._others = np.full(shape, _NOTHING), np.full(shape, _NOTHING), np.zeros(shape)

    def __len__(self) -> int:
        return len(self._points)

    def terms(self, rows: slice) -> Callable[[int], Term]:
        cosines = product(self._form.antibodies[rows], self._points)

        def term(j: int) -> Term:
            logs = _rounded(cosines[j - rows.start])
            logs /= self._form.temperature
            return Term(ALL, logs)

        return term

    def alone(self, term: Term) -> Change:
        beyond = term.values - self._known
        small = np.abs(beyond)
        np.exp(np.negative(small, out=small), out=small)
        share = self._bare - self._form.beta * small
        nearer = np.flatnonzero(beyond > 0)
        share[nearer] = self._bare[nearer] * small[nearer] - self._form.beta
        small += 1
        share /= small
        return Change(ALL, share)

    def absorb(self, j: int, term: Term) -> None:
        g, new = self._form.group[j], term.values
        top, second, others = self._top[g], self._second[g], self._others[g]
        lower = np.minimum(top, new)
        np.copyto(self._lead[g], j, where=new > top)
        np.maximum(top, new, out=top)
        was = second.copy()
        np.maximum(second, lower, out=second)
        was -= second
        others *= np.exp(was, out=was)
        lower -= second
        others += np.exp(lower, out=lower)

    def finish(self) -> None:
        groups = range(len(self._sizes))
        self.fired = np.bincount(self._nearest(), minlength=len(self._form.antibodies))
        scores = np.empty_like(self._top)
        self._without_lead = np.empty_like(self._top)
        for g in groups:
            top, second, others = self._top[g], self._second[g], self._others[g]
            high = np.maximum(self._known, second)
            rest = np.exp(second - high)
            self._without_lead[g] = self._share(high, rest, others * rest)[0]
            high = np.maximum(self._known, top)
            largest = np.exp(top - high)
            scores[g], numerator, total = self._share(high, largest, largest + others * np.exp(second - high))
            # They are needed no more; what `left_out` needs takes their place.
            self._top[g], self._second[g], self._others[g] = high, numerator, total
        self._scores = scores
        self.full = RankedScores(_rounded(scores.mean(axis=0)) if len(groups) else self._bare)
        # Sums over groups as over antibodies: the largest apart.
        if len(groups) > 1:
            self._lead_group = scores.argmax(axis=0)
            self._largest = scores.max(axis=0)
            everyone = np.arange(len(self))
            scores[self._lead_group, everyone] = 0.0
            self._smaller = scores.sum(axis=0)
            scores[self._lead_group, everyone] = self._largest

    def left_out(self, j: int, term: Term | None) -> Change:
        g, groups = self._form.group[j], len(self._sizes)
        if term is None:
            return NO_CHANGE
        if self._sizes[g] == 1:
            if groups == 1:
                return Change(ALL, self._bare)
            others = np.where(self._lead_group == g, self._smaller, self._largest + self._smaller - self._scores[g])
            return Change(ALL, _rounded(others / (groups - 1)))
        high, numerator, total = self._top[g], self._second[g], self._others[g]
        gone = np.subtract(term.values, high, out=term.values)
        np.exp(gone, out=gone)
        # Where j leads this is not what is wanted, and may be 0 / 0; it is replaced.
        leads = np.flatnonzero(self._lead[g] == j)
        gone[leads] = 0.0
        share = numerator / (total - gone)
        share[leads] = self._without_lead[g, leads]
        if groups > 1:
            share -= self._scores[g]
            share /= groups
            share += self.full.scores
        # Adding and taking away again leaves errors in the last bits, and equal scores have to stay equal.
        return Change(ALL, _rounded(share))

    def _share(self, high: Floats, largest: Floats, total: Floats) -> tuple[Floats, Floats, Floats]:
        """A group's share of the score, its numerator and its denominator, all relative to e^high."""
        numerator = np.exp(self._peak - high) - self._form.beta * largest
        denominator = np.exp(self._known - high) + total
        return numerator / denominator, numerator, denominator

    def _nearest(self) -> IntArray:
        """(n,) the antibody with the largest term of all groups."""
        if not len(self._sizes):
            return np.zeros(0, dtype=np.int64)
        nearest: IntArray = self._lead[self._top.argmax(axis=0), np.arange(len(self))].astype(np.int64)
        return nearest


def _rounded(cosines: Floats) -> Floats:
    """The same array, to 2^-44."""
    cosines += _ROUNDER
    cosines -= _ROUNDER
    return cosines

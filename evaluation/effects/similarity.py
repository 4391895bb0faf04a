"""How alike antibodies and banks are: in words, in the embedding space, and in what they do to the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evaluation.antibodies.wording import words
from evaluation.effects.states import state_of
from evaluation.metrics import ACCEPTANCE
from evaluation.scores.base import FittedScore, HasForm
from evaluation.space import Bank
from immuno_core.arrays import blocks, check_unit_rows
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet, FloatArray, IntArray

Repels = Literal["flips", "lowers"]
DEFAULT_JACCARD = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Signatures:
    """Of A antibodies over n images: the known ones, then each outlier set, in the order given.

    `bits` (A, ceil(n / 8)) uint8, packed as numpy.packbits packs rows, and `sizes` (A,) how many images are repelled.
    """

    ids: tuple[str, ...]
    images: int
    bits: NDArray[np.uint8]
    sizes: IntArray

    def of(self, row: int) -> NDArray[np.bool_]:
        """Return (n,) which images the antibody of a row repels."""
        return np.unpackbits(self.bits[row], count=self.images).astype(bool)


@dataclass(frozen=True, slots=True)
class Niche:
    """Antibodies that repel nearly the same images, by row in the bank: `representative` repels the most."""

    representative: int
    members: tuple[int, ...]
    """In the order of the bank, the representative among them."""


def signatures(
    fitted: FittedScore,
    known: FeatureSet,
    outliers: Mapping[str, FeatureSet],
    *,
    repels: Repels = "flips",
    acceptance: float = ACCEPTANCE,
) -> Signatures:
    """Return what each antibody of a fitted score does on its own.

    "flips": an image accepted without any antibody, at the threshold that accepts the share `acceptance` of the known
    images, is rejected with this one alone. "lowers": its score falls at all; with radii, that is where it fires.
    Raises SetupError for a score without antibodies, and for an empty set.
    """
    if not isinstance(fitted, HasForm):
        raise SetupError(f"the score '{fitted.name}' gives an antibody no effect of its own; use 'calibrated'")
    form, sets = fitted.form, (known, *outliers.values())
    for images in sets:
        check_unit_rows(images.features, what=f"set '{images.name}'", dim=fitted.dim)
    states = [state_of(form, images, fitted.width) for images in sets]
    threshold = states[0].bare.threshold(acceptance)
    starts = np.cumsum([0, *(len(images) for images in sets)])
    bits = np.zeros((len(form.ids), -(-int(starts[-1]) // 8)), dtype=np.uint8)
    sizes = np.zeros(len(form.ids), dtype=np.int64)
    for some in blocks(len(form.ids), int(starts[-1])):
        cosines = [state.cosines(some) for state in states]
        for i, j in enumerate(range(some.start, some.stop)):
            repelled = np.zeros(int(starts[-1]), dtype=bool)
            for state, start, of_set in zip(states, starts[:-1], cosines, strict=True):
                rows, new = state.alone(state.term(j, of_set[i]))
                old = state.bare.scores[rows]
                part = repelled[start : start + len(state)]
                part[rows] = (old >= threshold) & (new < threshold) if repels == "flips" else new < old
            bits[j], sizes[j] = np.packbits(repelled), np.count_nonzero(repelled)
    return Signatures(form.ids, int(starts[-1]), bits, sizes)


def niches(found: Signatures, *, jaccard: float = DEFAULT_JACCARD) -> tuple[Niche, ...]:
    """Return the antibodies by niche, largest representative first; every antibody is in one.

    The antibodies are taken from the largest signature to the smallest, equals in the order of the bank. Each joins the
    representative most similar to it (the first of equals) if |A and B| / |A or B| >= `jaccard`; else it is the
    representative of a new niche. Two that repel nothing are identical. Memory does not grow with A x A; time does, in
    words of 64 images, where all signatures differ. Raises SetupError for `jaccard` outside (0, 1].
    """
    if not 0 < jaccard <= 1:
        raise SetupError(f"a Jaccard similarity of {jaccard}; give one above 0 and up to 1, such as {DEFAULT_JACCARD}")
    words = _words(found.bits)
    # Equal signatures are together whatever the rest does, so each is compared once.
    distinct, first, same = np.unique(words, axis=0, return_index=True, return_inverse=True)
    sizes = found.sizes[first]
    order = np.lexsort((first, -sizes))
    leaders = np.zeros(len(order), dtype=np.int64)
    of = np.zeros(len(order), dtype=np.int64)
    # Leaders have falling sizes; one larger than size / jaccard cannot be similar enough.
    count, start = 0, 0
    for one in order:
        while start < count and sizes[leaders[start]] * jaccard > sizes[one]:
            start += 1
        if start < count:
            near = leaders[start:count]
            both = np.bitwise_count(distinct[near] & distinct[one]).sum(axis=1, dtype=np.int64)
            either = np.maximum(sizes[near] + sizes[one] - both, 1)
            similar = np.where(sizes[near] + sizes[one] == 0, 1.0, both / either)
            best = int(similar.argmax())
            if similar[best] >= jaccard:
                of[one] = start + best
                continue
        leaders[count], of[one] = one, count
        count += 1
    niche_of = of[same.reshape(-1)]
    by_niche = np.argsort(niche_of, kind="stable")
    bounds = np.searchsorted(niche_of[by_niche], np.arange(count + 1))
    return tuple(
        Niche(int(first[leaders[i]]), tuple(by_niche[bounds[i] : bounds[i + 1]].tolist())) for i in range(count)
    )


def _words(bits: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The same bits, in words of 64, padded with zeros."""
    padded = np.zeros((len(bits), -(-bits.shape[1] // 8) * 8), dtype=np.uint8)
    padded[:, : bits.shape[1]] = bits
    return padded.view(np.uint64)


SAME = 0.9
"""Cosine from which two antibodies count as saying the same."""


@dataclass(frozen=True, slots=True)
class Alikeness:
    """Of two banks: `text` and `embedding` overlap of their antibodies, and `firing` overlap on the images.

    text: |A and B| / |A or B| over (words, class guarded). embedding: the share of the antibodies of both banks that
    have one of cosine >= SAME in the other. `nearest`: the mean cosine to the nearest antibody of the other bank.
    firing_outliers, firing_known: |A and B| / |A or B| over the images on which any antibody fires. None where both are
    empty, and there is nothing to compare.
    """

    text: float | None
    embedding: float | None
    nearest: float | None
    firing_outliers: float | None
    firing_known: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Fired:
    """On which of the known images (n,) and of the outliers (m,) any antibody of a bank fires."""

    known: NDArray[np.bool_]
    outliers: NDArray[np.bool_]


def fired(fitted: FittedScore, known: FeatureSet, outliers: Mapping[str, FeatureSet]) -> Fired:
    """Return on which images a fitted score's antibodies fire, each on its own (`signatures`, "lowers")."""
    found = signatures(fitted, known, outliers, repels="lowers")
    together = np.bitwise_or.reduce(found.bits, axis=0, initial=0)
    images = np.unpackbits(together, count=found.images).astype(bool)
    return Fired(images[: len(known)], images[len(known) :])


def alikeness(one: Bank, other: Bank, fired_one: Fired, fired_other: Fired) -> Alikeness:
    """Compare two banks of one encoder, given on which of the same images each fires."""
    said = [{(words(t), g) for t, g in zip(bank.texts, bank.guards, strict=True)} for bank in (one, other)]
    nearest = np.concatenate([_nearest(one.vectors, other.vectors), _nearest(other.vectors, one.vectors)])
    return Alikeness(
        text=_jaccard(len(said[0] & said[1]), len(said[0] | said[1])),
        embedding=float(np.mean(nearest >= SAME)) if nearest.size else None,
        nearest=float(nearest.mean()) if nearest.size else None,
        firing_outliers=_overlap(fired_one.outliers, fired_other.outliers),
        firing_known=_overlap(fired_one.known, fired_other.known),
    )


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and standard deviation (ddof 1; None for a single value) of a measure over banks."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def _nearest(rows: FloatArray, others: FloatArray) -> NDArray[np.float64]:
    """(n,) the largest cosine of each row to the others; -1 where there are none, nothing for no rows."""
    best = np.full(len(rows), -1.0)
    if len(others):
        for some in blocks(len(rows), len(others)):
            best[some] = (rows[some].astype(np.float64) @ others.astype(np.float64).T).max(axis=1)
    return best


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float | None:
    return _jaccard(int(np.count_nonzero(one & other)), int(np.count_nonzero(one | other)))


def _jaccard(both: int, either: int) -> float | None:
    return both / either if either else None

"""Negative selection: which proposed antibodies are fit to be measured, and why the others are not.

Immuno-VLM (arXiv 2605.30745), phase 2, keeps an antibody a that guards class k when delta_safe < cos(a, mu_k) <
delta_risk: near enough to matter, not so near that it is the class. Cosines differ wildly between encoders, so the band
is by default two quantiles of the class's own valid proposals; absolute bounds are an option.

An antibody is first given the kind, and the class, that its text claims. Then validity comes, in this order; the first
reason counts:

1. not text: empty, no letters, longer than is allowed or than the encoder reads, or with control or invisible
   characters;
2. guards a class that is not known;
3. names only a known class (any of them), or a synonym or plural, at most with attributes that do not change what it
   is. "a fish" and "two old fishes" are the class itself. "a fish in lava" is a contextual anomaly, and stays;
4. prose, placeholders, an example that the model was shown; a contextual antibody that does not put its class anywhere,
   a look-alike that names no thing (evaluation.antibodies.claims);
5. for look-alikes: a sub-category, which ends with the name of a known class as its head noun ("race car");
6. a proper noun; one that stands alone where the other things named for its class are written in small letters;
7. the words, or nearly the embedding, of an antibody of the bank or of an earlier proposal that passed so far. Only of
   one that acts on the same images: look-alikes act on all, a contextual antibody for the class that it guards (see
   evaluation.scores.calibrated), so "a car in a playground" repeats no "toy car", however near the two embeddings are.

The word rules and their exceptions are in evaluation.antibodies.wording. Every reason has the form "category: detail".
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.antibodies.claims import Claims
from evaluation.antibodies.wording import proper_noun, words
from evaluation.space import Bank
from immuno_core.arrays import blocks, check_unit_rows
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray, Floats, IntArray
from immuno_core.records import LONGEST_ANTIBODY, Antibody, AntibodyKind


@dataclass(frozen=True, slots=True)
class SelectionRules:
    """What passes.

    `band`: quantiles (low, high) in [0, 1] of the cosines of a class's valid proposals, both kept; (0, 1) keeps all.
    Of n, at most the shares low and 1 - high are turned down, so at least one stays.
    `bounds`: absolute cosines (delta_safe, delta_risk) instead, both turned down. `near_duplicate`: cosine between two
    texts from which they count as one. Raises SetupError for values out of range.
    """

    band: tuple[float, float] = (0.0, 1.0)
    bounds: tuple[float, float] | None = None
    near_duplicate: float = 0.98

    def __post_init__(self) -> None:
        low, high = self.band
        if not 0 <= low < high <= 1:
            raise SetupError(f"band = {self.band}: give two quantiles, the lower one first, such as (0.1, 0.9)")
        if self.bounds is not None and not -1 <= self.bounds[0] < self.bounds[1] <= 1:
            raise SetupError(f"bounds = {self.bounds}: give two cosines, the lower one first, such as (0.5, 0.9)")
        if self.bounds is not None and self.band != (0.0, 1.0):
            raise SetupError("give band (quantiles) or bounds (cosines), not both")
        if not 0 < self.near_duplicate <= 1:
            raise SetupError(f"near_duplicate = {self.near_duplicate}: give a cosine above 0, such as 0.98")


def screen(
    proposals: Sequence[Antibody],
    vectors: FloatArray,
    *,
    classes: Sequence[str],
    synonyms: Mapping[str, Sequence[str]],
    mu: NDArray[np.floating],
    bank: Bank,
    rules: SelectionRules,
    cut: Collection[str] = (),
    examples: Collection[str] = (),
) -> list[Antibody]:
    """Screen proposals with embeddings (P, d), given the prototypes `mu` (K, d) of `classes` and the bank in force.

    `synonyms` maps classes to other names of theirs; `cut` are texts that the encoder does not read whole; `examples`
    are things and places that the model was shown as such. Return the proposals in their order, each with the kind and
    class that its text claims, its cosine (to the nearest mu_k also where it guards an unknown class), and
    turned down with the reason where it is not fit; deterministic.
    Raises SetupError for arrays that do not fit one another, NaN and rows that are not of unit norm.
    """
    check_unit_rows(mu, what="prototypes")
    check_unit_rows(vectors, what="proposed antibodies", dim=mu.shape[1])
    check_unit_rows(bank.vectors, what="antibody vectors", dim=mu.shape[1])
    if len(vectors) != len(proposals) or len(mu) != len(classes):
        raise SetupError(
            f"{len(proposals)} proposals with {len(vectors)} vectors, {len(classes)} classes with {len(mu)} prototypes"
        )
    claims = Claims(classes, synonyms, examples)
    proposals = [claims.as_claimed(proposal) for proposal in proposals]
    guarded = guarded_classes([proposal.guards for proposal in proposals], classes)
    cosines = _cosines(vectors, mu, guarded)
    small = {one.guards for one in proposals if one.kind == "look_alike" and one.text.islower()}
    reasons = [
        _invalid(proposal, guards, claims, cut, capitals=proposal.guards not in small)
        for proposal, guards in zip(proposals, guarded, strict=True)
    ]
    _mark_same_words(proposals, reasons, bank)
    _mark_same_embedding(proposals, vectors, reasons, bank, rules.near_duplicate)
    _mark_outside_band(proposals, cosines, guarded, reasons, rules)
    measured = (replace(proposal, cosine=float(cosine)) for proposal, cosine in zip(proposals, cosines, strict=True))
    return [
        proposal.turned_down(reason) if reason else proposal for proposal, reason in zip(measured, reasons, strict=True)
    ]


_NO_CLASS, _UNKNOWN = -1, -2
DUPLICATE_BLOCK = 1024


def guarded_classes(guards: Sequence[str], classes: Sequence[str]) -> IntArray:
    """Return (P,) the row in `classes` of each class guarded: -1 for "", none in particular, -2 for an unknown one."""
    index = {name: k for k, name in enumerate(classes)} | {"": _NO_CLASS}
    return np.array([index.get(name, _UNKNOWN) for name in guards], dtype=np.int64)


def in_band(
    vectors: FloatArray, mu: NDArray[np.floating], guarded: IntArray, rules: SelectionRules
) -> NDArray[np.bool_]:
    """Return which of the antibodies (P, d) pass the band-pass of `rules`, given prototypes (K, d); no other filter.

    `guarded` (P,) as `guarded_classes` gives it; those that guard none, or an unknown class, are compared with the
    nearest prototype.
    """
    passed = np.ones(len(vectors), dtype=bool)
    cosines, groups = _cosines(vectors, mu, guarded), np.maximum(guarded, _NO_CLASS)
    for k in np.unique(groups):
        rows = np.flatnonzero(groups == k)
        passed[rows] = ~_band(cosines[rows], rules).outside
    return passed


def _cosines(vectors: FloatArray, mu: NDArray[np.floating], guarded: IntArray) -> Floats:
    centres = mu.astype(np.float64)
    cosines = np.empty(len(vectors))
    for rows in blocks(len(vectors), len(mu) + mu.shape[1]):
        all_classes = vectors[rows].astype(np.float64) @ centres.T
        own = all_classes[np.arange(len(all_classes)), np.maximum(guarded[rows], 0)]
        cosines[rows] = np.where(guarded[rows] >= 0, own, all_classes.max(axis=1))
    return cosines


def _invalid(proposal: Antibody, guarded: int, claims: Claims, cut: Collection[str], *, capitals: bool) -> str:
    """The first of the reasons 1 to 6, or ""."""
    text, names = proposal.text, claims.names
    text_words = words(text)
    if not any(character.isalpha() for word in text_words for character in word):
        return "not text: it has no words"
    if len(text) > LONGEST_ANTIBODY:
        return f"too long: {len(text)} characters, at most {LONGEST_ANTIBODY}"
    if text in cut:
        return "too long: it has more tokens than the encoder reads"
    if any(unicodedata.category(character).startswith("C") for character in text):
        return "not text: it has control or invisible characters"
    if guarded == _UNKNOWN:
        return f"unknown class: it guards '{proposal.guards}'"
    if (known := names.named_only(text_words)) is not None:
        return f"names a known class: '{known}'"
    if flaw := claims.flaw(proposal):
        return flaw
    if proposal.kind == "look_alike" and (known := names.kind_of(text_words)) is not None:
        return f"sub-category: a kind of '{known}'"
    if (noun := proper_noun(text, names, capitals=capitals)) is not None:
        return f"proper noun: '{noun}'"
    return ""


def _mark_same_words(proposals: Sequence[Antibody], reasons: list[str], bank: Bank) -> None:
    seen = {words(text): text for text in reversed(bank.texts)}
    for i, proposal in enumerate(proposals):
        if reasons[i]:
            continue
        proposal_words = words(proposal.text)
        if proposal_words in seen:
            reasons[i] = f"duplicate: the words of '{seen[proposal_words]}'"
        else:
            seen[proposal_words] = proposal.text


def _mark_same_embedding(
    proposals: Sequence[Antibody], vectors: FloatArray, reasons: list[str], bank: Bank, limit: float
) -> None:
    """Compare each proposal that passed so far with the bank and with the earlier ones that were kept here."""
    roles = np.array([_role(proposal.kind, proposal.guards) for proposal in proposals], dtype=object)
    of_bank = np.array([_role(*role) for role in zip(bank.kinds, bank.guards, strict=True)], dtype=object)
    for role in dict.fromkeys(roles):
        alike = np.flatnonzero(of_bank == role)
        candidates = np.array([i for i in np.flatnonzero(roles == role) if not reasons[i]], dtype=np.int64)
        kept = bank.vectors[alike].astype(np.float64)
        texts = [bank.texts[j] for j in alike]
        for part in blocks(len(candidates), 1, most=DUPLICATE_BLOCK):
            rows = candidates[part]
            block = vectors[rows].astype(np.float64)
            before, within = block @ kept.T, block @ block.T
            kept_here: list[int] = []
            for b, i in enumerate(rows):
                near = np.concatenate([before[b], within[b, kept_here]])
                nearest = int(near.argmax()) if near.size else -1
                if nearest >= 0 and near[nearest] >= limit:
                    earlier = [*texts, *(proposals[rows[h]].text for h in kept_here)][nearest]
                    reasons[i] = f"duplicate: nearly the embedding of '{earlier}' (cosine {near[nearest]:.3f})"
                else:
                    kept_here.append(b)
            kept = np.concatenate([kept, block[kept_here]])
            texts += [proposals[rows[h]].text for h in kept_here]


def _role(kind: AntibodyKind, guards: str) -> str:
    """What two antibodies share that act on the same images."""
    return f"in the place of {guards}" if kind == "contextual" else "look-alike"


def _mark_outside_band(
    proposals: Sequence[Antibody], cosines: Floats, guarded: IntArray, reasons: list[str], rules: SelectionRules
) -> None:
    valid = np.array([not reason for reason in reasons], dtype=bool)
    for k in np.unique(guarded[valid]):
        rows = np.flatnonzero(valid & (guarded == k))
        low, high, outside = _band(cosines[rows], rules)
        for i in rows[outside]:
            to = f"'{proposals[i].guards}'" if k >= 0 else "the nearest class"
            reasons[i] = f"outside the band: cosine {cosines[i]:.3f} to {to}, kept from {low:.3f} to {high:.3f}"


class _Band(NamedTuple):
    low: float
    high: float
    outside: NDArray[np.bool_]


def _band(cosines: Floats, rules: SelectionRules) -> _Band:
    """The band for the antibodies of one class with these cosines (p,), p >= 1, and which of them lie outside."""
    if rules.bounds is not None:
        low, high = rules.bounds
        return _Band(low, high, (cosines <= low) | (cosines >= high))
    # Order statistics: of few proposals an interpolated quantile would turn more away than the share it stands for.
    ordered, below = np.sort(cosines), math.floor(rules.band[0] * len(cosines) + 1e-9)
    above = math.floor((1 - rules.band[1]) * len(cosines) + 1e-9)
    low, high = float(ordered[below]), float(ordered[len(cosines) - 1 - above])
    return _Band(low, high, (cosines < low) | (cosines > high))

"""A map in two dimensions: classes, antibodies, known images and outliers.

Texts and images of a CLIP model lie in two cones apart (Liang et al., NeurIPS 2022), which would be the first axis of
any map. So texts are taken less the mean of the class texts, images (and visual antibodies, which are means of images)
less the mean of the known images. The axes are the first two principal components of all of them, each kind of points
with the same weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from evaluation.space import Bank
from immuno_core.features import FeatureSet, FloatArray
from immuno_core.records import VISUAL

Points = tuple[tuple[float, float], ...]
MOST_IMAGES = 600
"""Of the known images, and of all outliers together."""
MOST_TEXTS = 1000
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Plane:
    """Points by what they stand for; `kinds` are the antibodies', `shares` what the axes have of all variance."""

    shares: tuple[float, float] = (0.0, 0.0)
    classes: Points = ()
    antibodies: Points = ()
    kinds: tuple[str, ...] = ()
    known: Points = ()
    outliers: dict[str, Points] = field(default_factory=dict)
    """By outlier set."""


def plane(texts: FloatArray, bank: Bank, known: FeatureSet, outliers: Sequence[FeatureSet]) -> Plane:
    """Return the map of class texts (K, d), antibodies, known images and outlier sets; evenly some of what is many."""
    of_bank = _some(len(bank), MOST_TEXTS)
    kinds = tuple(bank.kinds[i] for i in of_bank)
    images = [known.features[_some(len(known), MOST_IMAGES)]]
    each = MOST_IMAGES // max(len(outliers), 1)
    images += [one.features[_some(len(one), max(each, 1))] for one in outliers]
    of_texts, of_images = texts.mean(axis=0), images[0].mean(axis=0)
    centres = np.where(np.array([kind == VISUAL for kind in kinds], dtype=bool)[:, None], of_images, of_texts)
    groups = [texts[_some(len(texts), MOST_TEXTS)] - of_texts, bank.vectors[of_bank] - centres]
    groups += [one - of_images for one in images]
    weighted = np.concatenate([group / np.sqrt(max(len(group), 1)) for group in groups]).astype(np.float64)
    variances, axes = np.linalg.eigh(weighted.T @ weighted)
    first = np.pad(axes[:, ::-1][:, :2], ((0, 0), (0, max(0, 2 - len(axes)))))
    # An axis has no direction of its own: its largest weight counts as positive, on every machine.
    first = first * np.sign(first[np.abs(first).argmax(axis=0), [0, 1]])
    total = max(float(variances.sum()), np.finfo(float).tiny)
    shares = [*(max(float(one), 0.0) / total for one in variances[::-1][:2]), 0.0]

    def points(group: FloatArray) -> Points:
        return tuple((round(float(x), _DIGITS), round(float(y), _DIGITS)) for x, y in group @ first)

    return Plane(
        shares=(round(shares[0], _DIGITS), round(shares[1], _DIGITS)),
        classes=points(groups[0]),
        antibodies=points(groups[1]),
        kinds=kinds,
        known=points(groups[2]),
        outliers={one.name: points(group) for one, group in zip(outliers, groups[3:], strict=True)},
    )


def _some(count: int, most: int) -> list[int]:
    """At most so many indices below `count`, spread evenly."""
    return list(range(count)) if count <= most else np.linspace(0, count - 1, most).round().astype(int).tolist()

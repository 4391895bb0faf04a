"""Test-time methods: they learn from the unlabelled test images, known ones and outliers, in the order these come.

A block of its own beside the rows of a benchmark, since an image's score depends on what came before it: of each method
and set mean and standard deviation over several orders of the stream, which is the known test images and the outliers
of one set, mixed. Their figures are not to be compared with those of methods that see one image at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Final

import numpy as np

from evaluation.benchmark.arms import Arms
from evaluation.benchmark.fields import Part, Text
from evaluation.benchmark.seeds import Spread
from evaluation.metrics import auroc, fpr95_id
from evaluation.scores.negative_labels import NegLabel
from evaluation.scores.words.adaneg import AdaNeg
from evaluation.space import Space
from immuno_core.config.methods import Arm, MethodEntry, PresetConfig
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet

ORDERS: Final = 5
_ARMS: Final[tuple[tuple[str, Arm], ...]] = (("AdaNeg", "neglabel"), ("AdaNeg, our bank", "bank"))
ABOUT: Final = (
    "They learn from the unlabelled test images themselves, known ones and outliers, in the order these come: not to "
    "be compared with the methods above, which see one image at a time."
)
"""What has to be said beside their figures."""


class Streamed(Part):
    """A test-time method on one outlier set, over several orders of the stream."""

    method: str
    arm: Text = ""
    ood: str
    antibodies: int = 0
    orders: int = 0
    fpr95_id: Spread
    auroc: Spread


def asks_for_streams(entries: Sequence[MethodEntry]) -> bool:
    """Whether a configuration has the preset of these methods."""
    return any(isinstance(entry, PresetConfig) and entry.preset == "test_time" for entry in entries)


def measure_streams(
    arms: Arms, known: FeatureSet, outliers: Sequence[FeatureSet], *, seed: int, orders: int = ORDERS
) -> tuple[tuple[Streamed, ...], dict[str, str]]:
    """Return a line per method and outlier set, and why methods were left out."""
    found: list[Streamed] = []
    left_out: dict[str, str] = {}
    for label, arm in _ARMS:
        try:
            space = arms.space(arm, NegLabel())
            if not len(space.bank):
                raise SetupError("it needs negative labels, and the bank is empty")
        except SetupError as error:
            left_out[label] = str(error)
            continue
        found += [_streamed(label, arm, space, known, images, seed=seed, orders=orders) for images in outliers]
    return tuple(found), left_out


def _streamed(
    label: str, arm: Arm, space: Space, known: FeatureSet, images: FeatureSet, *, seed: int, orders: int
) -> Streamed:
    every = np.concatenate([known.features, images.features])
    accepted, areas = [], []
    for number in range(orders):
        order = np.random.default_rng([seed, number]).permutation(len(every))
        scores = np.empty(len(every))
        scores[order] = AdaNeg().stream(space, every[order])
        of_known, of_outliers = scores[: len(known)], scores[len(known) :]
        accepted.append(fpr95_id(of_known, of_outliers))
        areas.append(auroc(of_known, of_outliers))
    fpr95, area = (Spread(fmean(values), stdev(values) if orders > 1 else None) for values in (accepted, areas))
    return Streamed(
        method=label, arm=arm, ood=images.name, antibodies=len(space.bank), orders=orders, fpr95_id=fpr95, auroc=area
    )

"""A small shield over the synthetic space of the head's tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evaluation.scores.calibrated import Calibrated
from evaluation.shield.artefact import Artefact, Provenance, ShieldEncoder
from evaluation.space import Feedback, Space
from tests.evaluation.shield.test_head import KNOWN, LABELS, SPACE

ENCODER = ShieldEncoder(
    model="synthetic",
    pretrained=None,
    dim=12,
    logit_scale=100.0,
    image_size=32,
    precision="fp32",
    weights_digest="a" * 128,
    preprocess_digest="b" * 64,
)
CALIBRATED = Calibrated(v=0.4, shrinkage=0.2, visual_weight=2.0, eps=0.05)
APART = replace(SPACE, feedback=Feedback(KNOWN, LABELS, {}))


def make_shield(space: Space = APART, **options: Any) -> Artefact:
    provenance = Provenance(created="2026-01-02T03:04:05+00:00", session="first", generation=2, licence="CC0-1.0")
    return Artefact.make(
        space,
        CALIBRATED.fit(space),
        encoder=ENCODER,
        method="calibrated",
        class_template="a photo of a {}.",
        provenance=provenance,
        **options,
    )

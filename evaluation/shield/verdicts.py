"""What a shield says of an image: accepted as its class, rejected and why, or for a person to decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np

from evaluation.shield.head import PARTS, JudgedArrays
from evaluation.shield.thresholds import KnownScores, Thresholds
from immuno_core.records import VISUAL, Antibody

Outcome = Literal["accepted", "rejected", "review", "failed"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("accepted", "review", "rejected", "failed")
_MEANS: Final = dict(
    zip(
        PARTS,
        (
            "it is far from every class",
            "no class stands out",
            "it is unlike the known images",
        ),
        strict=True,
    )
)


@dataclass(frozen=True, slots=True)
class FiredAntibody:
    """The antibody that took most from a score; `described` is its text, or what a visual one is like.

    It fires where `margin`, the similarity less that to the nearest class text, is beyond `radius`; a visual one has
    nothing taken off, and both are in standard deviations of the known images along its direction.
    """

    id: str
    described: str
    kind: str
    guards: str
    similarity: float
    margin: float
    radius: float


@dataclass(frozen=True, slots=True)
class ShieldVerdict:
    """What a shield says of one image. Higher scores are more in-distribution; accepted iff score >= threshold."""

    image: str
    """Its path, or its place in what was given."""
    outcome: Outcome
    label: str = ""
    """The class that it is taken for, accepted or not."""
    score: float | None = None
    threshold: float | None = None
    typicality: float | None = None
    """The share of known images that score lower."""
    reason: str = ""
    """Why it is not accepted; of a failed one, why it could not be read."""
    part: str = ""
    """The part of the score that `reason` speaks of: "antibody", or one of evaluation.shield.head.PARTS."""
    antibody: FiredAntibody | None = None
    """The one that takes most from the score, where any fires, accepted or not."""
    nearest: tuple[tuple[str, float], ...] = ()
    """The three nearest classes and their similarities, the first the one that it is taken for."""

    @property
    def accepted(self) -> bool:
        """Whether it is accepted without a person's looking."""
        return self.outcome == "accepted"

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "nearest": [{"class": name, "similarity": value} for name, value in self.nearest]}


def verdicts(
    judged: JudgedArrays,
    images: Sequence[str],
    *,
    classes: Sequence[str],
    antibodies: Sequence[Antibody],
    radii: Sequence[float],
    thresholds: Thresholds,
    calibration: KnownScores,
) -> list[ShieldVerdict]:
    """Return what is said of images (n,), in their order; `radii` of the antibodies, in theirs."""
    below, above = calibration.band(thresholds)
    typicality = calibration.share_below(judged.score)
    told = [name for name in PARTS if np.ptp(calibration.tables[name]) > 0]
    places = {name: calibration.share_below(judged.parts[:, PARTS.index(name)], name) for name in told}
    found = []
    for i, image in enumerate(images):
        score, row = float(judged.score[i]), int(judged.antibody[i])
        label = classes[judged.classes[i, 0]]
        threshold = thresholds.classes.get(label, thresholds.overall).value
        fired = None
        if row >= 0:
            one = antibodies[row]
            fired = FiredAntibody(
                one.id,
                one.described,
                one.kind,
                one.guards,
                float(judged.similarity[i]),
                float(judged.margin[i]),
                float(radii[row]),
            )
        outcome: Outcome = "accepted" if score >= threshold + above else "review"
        if score < threshold - below:
            outcome = "rejected"
        reason = part = ""
        if score < threshold:
            if fired is not None and judged.unrepelled[i] >= threshold:
                part, reason = "antibody", _of_antibody(fired)
            elif told:
                part = min(told, key=lambda name: places[name][i])
                reason = f"{_MEANS[part]}: {part} lower than of {100 * (1 - places[part][i]):.1f} % of known images"
        if outcome == "review":
            reason = f"close to the threshold; {reason}" if reason else "close to the threshold"
        named = tuple((classes[k], float(c)) for k, c in zip(judged.classes[i], judged.cosines[i], strict=True))
        found.append(
            ShieldVerdict(image, outcome, label, score, threshold, float(typicality[i]), reason, part, fired, named)
        )
    return found


def _of_antibody(fired: FiredAntibody) -> str:
    if fired.kind == VISUAL:
        return f"it looks like outliers that were seen ({fired.described})"
    return f"the antibody '{fired.described}' fires: margin {fired.margin:.3f} beyond its radius {fired.radius:.3f}"

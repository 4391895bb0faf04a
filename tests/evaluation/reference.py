"""The maths written down a second time, as naively as possible: one image, one class, one pair at a time, in float64.

Nothing here shares code with the package.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[Any]


def cos(a: Rows, b: Rows) -> float:
    return math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def cosines(x: Rows, rows: Rows) -> list[float]:
    return [cos(x, row) for row in rows]


def normalise(v: Rows) -> NDArray[np.float64]:
    v = np.asarray(v, dtype=np.float64)
    return v / math.sqrt(math.fsum(float(c) ** 2 for c in v))


def softmax(values: Sequence[float]) -> list[float]:
    top = max(values)
    powers = [math.exp(v - top) for v in values]
    return [p / math.fsum(powers) for p in powers]


# ---- prototypes


def prototype(images: Rows, text: Rows, alpha: float, xi: float) -> NDArray[np.float64]:
    """mu of one class from its images."""
    text = np.asarray(text, dtype=np.float64)
    if alpha == 1 or len(images) == 0:
        return text
    mu = normalise((1 - alpha) * normalise(sum(np.asarray(i, dtype=np.float64) for i in images)) + alpha * text)
    angle = math.acos(max(-1.0, min(1.0, cos(mu, normalise(text)))))
    if angle <= xi:
        return mu
    # Spherical interpolation from the text, xi / angle of the way to mu.
    return (math.sin(angle - xi) * normalise(text) + math.sin(xi) * mu) / math.sin(angle)


def prototypes(texts: Rows, images: Rows, labels: Sequence[int], alpha: float, xi: float) -> NDArray[np.float64]:
    chosen = [[x for x, y in zip(images, labels, strict=True) if y == k] for k in range(len(texts))]
    return np.array([prototype(np.array(c), t, alpha, xi) for c, t in zip(chosen, texts, strict=True)])


def leave_one_out(texts: Rows, images: Rows, labels: Sequence[int], alpha: float, xi: float) -> list[float]:
    best = []
    for i in range(len(images)):
        others = [j for j in range(len(images)) if j != i]
        mu = prototypes(texts, images[others], [labels[j] for j in others], alpha, xi)
        everyone = prototypes(texts, images, labels, alpha, xi)
        mu = np.array([mu[k] if k == labels[i] else everyone[k] for k in range(len(texts))])
        best.append(max(cosines(images[i], mu)))
    return best


# ---- scores of one image


def mcm(x: Rows, texts: Rows, temperature: float = 1.0) -> float:
    return max(softmax([c / temperature for c in cosines(x, texts)]))


def max_logit(x: Rows, texts: Rows) -> float:
    return max(cosines(x, texts))


def energy(x: Rows, texts: Rows, temperature: float = 1.0) -> float:
    top = max(cosines(x, texts)) / temperature
    return temperature * (top + math.log(math.fsum(math.exp(c / temperature - top) for c in cosines(x, texts))))


def eoe(x: Rows, texts: Rows, antibodies: Rows, temperature: float = 1.0, beta: float = 0.25) -> float:
    p = softmax([c / temperature for c in cosines(x, texts) + cosines(x, antibodies)])
    negative = p[len(texts) :]
    return max(p[: len(texts)]) - beta * (max(negative) if negative else 0.0)


def difference(x: Rows, mu: Rows, antibodies: Rows, weight: float) -> float:
    return max(cosines(x, mu)) - (weight * max(cosines(x, antibodies)) if len(antibodies) else 0.0)


def margin(x: Rows, texts: Rows, antibody: Rows) -> float:
    return cos(x, antibody) - max(cosines(x, texts))


def radius(fit: Rows, texts: Rows, antibody: Rows, eps: float) -> float:
    """The smallest margin of a fit image that at most a share eps of them exceeds."""
    margins = [margin(x, texts, antibody) for x in fit]
    return min(m for m in margins if sum(other > m for other in margins) <= eps * len(fit) + 1e-9)


def exceedances(x: Rows, texts: Rows, antibodies: Rows, radii: Sequence[float]) -> list[float]:
    beyond = [margin(x, texts, a) - r for a, r in zip(antibodies, radii, strict=True)]
    return [e if e > 1e-12 else 0.0 for e in beyond]


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def deviation(values: Sequence[float]) -> float:
    return math.sqrt(math.fsum((v - mean(values)) ** 2 for v in values) / len(values))


# ---- metrics


def threshold(scores: Sequence[float], share: float = 0.95) -> float:
    """The largest of the scores that at least the share of them reaches."""
    n = len(scores)
    return max(t for t in scores if sum(s >= t for s in scores) >= share * n - 1e-9)


def auroc(known: Sequence[float], outliers: Sequence[float]) -> float:
    wins = sum((i > o) + 0.5 * (i == o) for i in known for o in outliers)
    return float(wins / (len(known) * len(outliers)))


def fpr95_id(known: Sequence[float], outliers: Sequence[float], share: float = 0.95) -> float:
    t = threshold(known, share)
    return sum(o >= t for o in outliers) / len(outliers)


def fpr95_ood(known: Sequence[float], outliers: Sequence[float], share: float = 0.95) -> float:
    """Reject everything up to the smallest score t such that at least the share of outliers is rejected."""
    n = len(outliers)
    t = min(t for t in outliers if sum(o <= t for o in outliers) >= share * n - 1e-9)
    return sum(i <= t for i in known) / len(known)


# ---- effects


def effect(
    known_without: Sequence[float],
    known_with: Sequence[float],
    outliers_without: Sequence[float],
    outliers_with: Sequence[float],
    right: Sequence[bool],
    share: float = 0.95,
) -> dict[str, float]:
    """Gain, harm and changes of going from the scores without to the scores with."""
    t = threshold(known_without, share)

    def lost(before: Sequence[float], after: Sequence[float]) -> float:
        accepted = sum(b >= t for b in before)
        return sum(b >= t > a for b, a in zip(before, after, strict=True)) / accepted if accepted else 0.0

    def good(scores: Sequence[float]) -> float:
        return sum(s >= t and r for s, r in zip(scores, right, strict=True)) / len(scores)

    return {
        "gain": lost(outliers_without, outliers_with),
        "harm": lost(known_without, known_with),
        "d_fpr95": fpr95_id(known_with, outliers_with, share) - fpr95_id(known_without, outliers_without, share),
        "d_auroc": auroc(known_with, outliers_with) - auroc(known_without, outliers_without),
        "d_id_accuracy": good(known_with) - good(known_without),
    }

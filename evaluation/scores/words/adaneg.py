"""AdaNeg: NegLabel that collects the images it is tested on. No score of its own, as it has no figure for one image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.special import log_softmax

from evaluation.scores.negative_labels import FittedGrouped, NegLabel
from evaluation.space import Space
from immuno_core.features import FloatArray, Floats, IntArray

AT_ONCE: Final = 256
"""Images of the stream that come together, as in the authors' code."""


@dataclass(frozen=True)
class AdaNeg:
    """AdaNeg (Zhang & Zhang, NeurIPS 2024, arXiv 2410.20149), a test-time method.

        S(x) = NegLabel(x; proxies) + lambda NegLabel(x; texts)           higher = more in-distribution

    Each class and each word has a memory of its text and up to `memory` test images, whose normalised mean is its
    proxy. An image that NegLabel by the texts says is known (above g + gap (1 - g)) joins the nearest class, one that
    it says is an outlier (below g - gap g) the nearest word; into a full memory it comes in the place of that with the
    most undecided softmax (over the classes, or over the words), if it is itself less so. Images come in batches, are
    stored, and are then scored. Defaults as in the paper: lambda = 0.1, g = 0.5, gap = 0.5, memory 10, G = 5, T = 0.01.
    Its weighing of a memory by the likeness of its images to the one that is scored is left out: proxies are means.
    """

    weight: float = 0.1
    g: float = 0.5
    gap: float = 0.5
    memory: int = 10
    groups: int = 5
    tau: float = 0.01

    def stream(self, space: Space, images: FloatArray) -> Floats:
        """Return the scores (n,) of images (n, d) that come in this order; the space needs words."""
        plain = NegLabel(tau=self.tau, groups=self.groups, least=1).fit(space)
        memory = _Memory(plain, self.memory)
        found = np.empty(len(images))
        for start in range(0, len(images), AT_ONCE):
            batch = slice(start, start + AT_ONCE)
            by_texts = plain.score(images[batch])
            memory.take(
                images[batch].astype(np.float64),
                known=by_texts > self.g + self.gap * (1 - self.g),
                outliers=by_texts < self.g - self.gap * self.g,
            )
            found[batch] = memory.score(images[batch]) + self.weight * by_texts
        return found


class _Memory:
    """What was stored by label: classes first, then words."""

    def __init__(self, plain: FittedGrouped, size: int) -> None:
        self._plain, self._size = plain, size
        self._texts = np.concatenate([plain.class_vectors, plain.antibodies])
        self._proxies = self._texts.copy()
        self._stored: dict[int, list[tuple[float, Floats]]] = {}

    def take(self, x: Floats, *, known: np.ndarray, outliers: np.ndarray) -> None:
        """Store images (b, d) by what is said of them, one after the other."""
        classes = len(self._plain.class_vectors)
        for chosen, labels, first in ((known, slice(0, classes), 0), (outliers, slice(classes, None), classes)):
            rows: IntArray = np.flatnonzero(chosen)
            logs = log_softmax(x[rows] @ self._texts[labels].T / self._plain.tau, axis=1)
            entropies = -(np.exp(logs) * logs).sum(axis=1)
            for row, label, entropy in zip(rows, first + logs.argmax(axis=1), entropies, strict=True):
                self._store(int(label), float(entropy), x[row])

    def _store(self, label: int, entropy: float, image: Floats) -> None:
        stored = self._stored.setdefault(label, [])
        if len(stored) == self._size:
            worst = max(range(len(stored)), key=lambda i: stored[i][0])
            if entropy >= stored[worst][0]:
                return
            del stored[worst]
        stored.append((entropy, image))
        mean = self._texts[label] + np.sum([one for _, one in stored], axis=0)
        self._proxies[label] = mean / max(np.linalg.norm(mean), 1e-12)

    def score(self, images: FloatArray) -> Floats:
        """NegLabel (b,) with the proxies in the place of the texts."""
        classes = len(self._plain.class_vectors)
        proxies = replace(
            self._plain, class_vectors=self._proxies[:classes].copy(), antibodies=self._proxies[classes:].copy()
        )
        return proxies.score(images)

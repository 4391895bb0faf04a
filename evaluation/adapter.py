"""The residual adapter of vaccinated images: f(z) = normalise(z + relu(z W1 + b1) W2 + b2).

Immuno-VLM (Fang, Fang & Ji, ICML 2026, arXiv 2605.30745), phase 3. evaluation.vaccination trains it; this is what is
left of it to use, and it needs NumPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.blocks import blocks
from evaluation.checks import check_unit_rows
from evaluation.features import FloatArray
from evaluation.files import write_atomically
from immuno.errors import SetupError

Floats = NDArray[np.float64]

_NAMES = ("w1", "b1", "w2", "b2")
# An embedding that its residual cancels has no direction left: it stays where it was.
_NO_DIRECTION = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """f, with float32 `w1` (d, h), `b1` (h,), `w2` (h, d), `b2` (d,). Raises SetupError for others, and for NaN."""

    w1: FloatArray
    b1: FloatArray
    w2: FloatArray
    b2: FloatArray

    def __post_init__(self) -> None:
        shapes = tuple(array.shape for array in self.arrays)
        if self.w1.ndim != 2 or shapes[1:] != (self.w1.shape[1:], self.w1.shape[::-1], self.w1.shape[:1]):
            raise SetupError(f"an adapter's arrays are (d, h), (h,), (h, d) and (d,), not {shapes}")
        for name, array in zip(_NAMES, self.arrays, strict=True):
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise SetupError(f"the adapter's {name} are not finite float32 numbers; train it again")

    @classmethod
    def identity(cls, dim: int) -> Adapter:
        """Return the adapter that changes nothing, for embeddings of `dim` dimensions."""
        zeros = np.zeros((dim, 0), np.float32)
        return cls(zeros, zeros[0], zeros.T, np.zeros(dim, np.float32))

    @property
    def arrays(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """W1, b1, W2, b2."""
        return self.w1, self.b1, self.w2, self.b2

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing, not even the last bits."""
        return not (self.w2.any() or self.b2.any())

    def block(self, z: Floats) -> Floats:
        """Return f of a block of unit rows (b, d), in float64."""
        if self.is_identity:
            return z
        moved = z + np.maximum(z @ self.w1 + self.b1, 0) @ self.w2 + self.b2
        sizes = np.linalg.norm(moved, axis=1, keepdims=True)
        return np.where(sizes < _NO_DIRECTION, z, moved / np.maximum(sizes, _NO_DIRECTION))

    def apply(self, features: FloatArray) -> FloatArray:
        """Return f of unit rows (n, d), n >= 0, as float32 unit rows.

        Raises SetupError for another d, NaN, and rows that are not of unit norm.
        """
        check_unit_rows(features, what="images to adapt", dim=len(self.w1))
        if self.is_identity:
            return features
        found = np.empty(features.shape, np.float32)
        for rows in blocks(len(features), 3 * len(self.w1) + len(self.b1)):
            found[rows] = self.block(features[rows].astype(np.float64))
        return found

    def save(self, path: Path) -> None:
        """Write the weights as safetensors, whole or not at all."""
        from safetensors.numpy import save

        write_atomically(path, save({n: np.ascontiguousarray(a) for n, a in zip(_NAMES, self.arrays, strict=True)}))

    @classmethod
    def load(cls, path: Path) -> Adapter:
        """Read what `save` wrote. Raises SetupError naming the file where it is missing or holds something else."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            found = load(path.read_bytes())
            return cls(*(found[name] for name in _NAMES))
        except (OSError, SafetensorError, KeyError, SetupError) as error:
            raise SetupError(f"{path} is not an adapter that vaccination saved ({error})") from None

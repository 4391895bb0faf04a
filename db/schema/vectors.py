"""Embeddings as bytes: float32, little-endian, whatever the machine. NumPy is loaded only when a vector is touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from immuno_core.errors import ImmunoError, SetupError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


DTYPE = "<f4"


def to_bytes(vector: NDArray[np.float32], dim: int, what: str) -> bytes:
    """Return the bytes of a (dim,) float vector. Raises SetupError naming `what` for a wrong shape, kind or a NaN."""
    import numpy as np

    array = np.asarray(vector)
    if array.shape != (dim,):
        raise SetupError(f"the embedding of {what} has shape {array.shape}, but the session's encoder gives ({dim},)")
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise SetupError(f"the embedding of {what} is not made of finite floating-point numbers ({array.dtype})")
    return array.astype(DTYPE).tobytes()


def from_bytes(rows: Sequence[bytes], dim: int) -> NDArray[np.float32]:
    """Return (len(rows), dim) float32, the machine's own byte order. Raises ImmunoError for bytes of another length."""
    import numpy as np

    for row in rows:
        if len(row) != 4 * dim:
            raise ImmunoError(f"a stored embedding has {len(row)} bytes, not {4 * dim}; see 'immuno db check'")
    joined = bytearray().join(rows)  # which may be written to
    return np.frombuffer(joined, DTYPE).reshape(len(rows), dim).astype(np.float32, copy=False)


def norm(row: bytes) -> float:
    """Return the length of a stored vector; NaN or infinite where a number in it is."""
    import numpy as np

    return float(np.linalg.norm(np.frombuffer(row, DTYPE).astype(np.float64)))


def directions(rows: Sequence[bytes], dim: int) -> NDArray[np.float32]:
    """Return stored vectors at unit length, (len(rows), dim) float32; a vector of zeros stays one."""
    import numpy as np

    vectors = from_bytes(rows, dim)
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    unit: NDArray[np.float32] = (vectors / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)
    return unit


def cosines_to(direction: NDArray[np.float32], rows: Sequence[bytes]) -> NDArray[np.float32]:
    """Return the cosines of stored vectors to a (d,) direction of unit length, (len(rows),) float32, to about 1e-5."""
    import numpy as np

    vectors = from_bytes(rows, len(direction))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squares = np.einsum("nd,nd->n", vectors, vectors)
        cosines: NDArray[np.float32] = (vectors @ direction) / np.sqrt(squares)
    odd = np.flatnonzero(
        ~((squares > 1e-30) & (squares < 1e30))
    ).tolist()  # zeros, and lengths that float32 cannot square
    if odd:
        cosines[odd] = directions([rows[i] for i in odd], len(direction)) @ direction
    return cosines


def to_half(row: bytes) -> NDArray[np.float16]:
    """Return the direction of a stored vector, (d,) float16: its dot products are cosines to about 1e-4, for search."""
    import numpy as np

    vector, length = np.frombuffer(row, DTYPE).astype(np.float64), norm(row)
    half: NDArray[np.float16] = (vector / length if length else vector).astype(np.float16)
    return half

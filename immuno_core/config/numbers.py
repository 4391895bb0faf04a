"""The bounds of numbers in a configuration: none is taken that what is behind it could not take (inf, 10^400, true)."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

MOST_SEED: Final = 2**32 - 1
"""What random generators take."""
MOST_SECONDS: Final = 1e6
"""11 days; sockets take no timeout above 24."""
_MOST: Final = 10**9


def whole(least: int = 0, most: int = _MOST) -> Any:
    """Return the pydantic field of a whole number from `least` to `most`."""
    return Field(strict=True, ge=least, le=most)


def real(*, ge: float | None = None, gt: float | None = None, lt: float | None = None, most: float = _MOST) -> Any:
    """Return the pydantic field of a finite number of at most `most`; the other bounds are called as pydantic's."""
    return Field(strict=True, allow_inf_nan=False, ge=ge, gt=gt, lt=lt, le=most)


def seconds() -> Any:
    """Return the pydantic field of a time to wait."""
    return real(gt=0, most=MOST_SECONDS)

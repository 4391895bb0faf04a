"""The random state of a session: a generator that is stored with each generation and taken up again by the next.

A resumed session therefore draws what an uninterrupted one would have drawn. The state is plain JSON; its integers of
128 bits are written as text, because not every database keeps them as numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from immuno.errors import ImmunoError

_KIND = "PCG64"


def new_generator(seed: int) -> np.random.Generator:
    """Return the generator that a session of this seed begins with."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0x1DEA])))


def state_of(generator: np.random.Generator) -> dict[str, Any]:
    """Return the state to be stored. What it draws next is fixed by it."""
    state = generator.bit_generator.state
    return {
        "kind": _KIND,
        "state": str(state["state"]["state"]),
        "increment": str(state["state"]["inc"]),
        "has_uint32": int(state["has_uint32"]),
        "uinteger": int(state["uinteger"]),
    }


def generator_of(stored: Mapping[str, Any]) -> np.random.Generator:
    """Return a generator that goes on from a stored state. Raises ImmunoError for what is none."""
    try:
        if stored["kind"] != _KIND:
            raise ValueError(stored["kind"])
        bits = np.random.PCG64(0)
        bits.state = {
            "bit_generator": _KIND,
            "state": {"state": int(stored["state"]), "inc": int(stored["increment"])},
            "has_uint32": int(stored["has_uint32"]),
            "uinteger": int(stored["uinteger"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ImmunoError(f"the session's random state cannot be read ({error}); start a new session") from error
    return np.random.Generator(bits)

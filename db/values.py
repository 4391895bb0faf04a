"""Numbers that may be NaN or infinite, stored so that no database changes them.

SQLite turns NaN into NULL without a word, and PostgreSQL's JSON refuses it. So such a number is stored as a value and a
kind: (0.5, "finite"), (None, "nan"), (None, "inf"), (None, "-inf"); within JSON as {"value": null, "kind": "nan"}.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from immuno.errors import SetupError

KINDS = ("finite", "nan", "inf", "-inf")
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def split_number(number: float) -> tuple[float | None, str]:
    """Return (value, kind): the value is None unless the number is finite."""
    number = float(number)
    if math.isfinite(number):
        return number, "finite"
    return None, "nan" if math.isnan(number) else ("inf" if number > 0 else "-inf")


def join_number(value: float | None, kind: str) -> float:
    """Return the number that was split into value and kind."""
    return _NOT_FINITE[kind] if value is None else value


def to_json(value: Any, where: str = "value") -> Any:
    """Return `value` as strict JSON values: numbers that are not finite as {"value": null, "kind": ...}.

    Mappings, lists and tuples of str, bool, None and real numbers (NumPy scalars too) are taken. Raises SetupError,
    naming the place, for anything else: what JSON would change silently (a key that is no text, say) is refused.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number, kind = split_number(float(value))
        return number if kind == "finite" else {"value": None, "kind": kind}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise SetupError(f"{where}: the key {key!r} is not text; JSON would change it, so write '{key}'")
        return {key: to_json(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise SetupError(
        f"{where}: {type(value).__name__} cannot be stored as JSON; hand in text, numbers, lists or mappings"
    )


def from_json(value: Any) -> Any:
    """Undo `to_json` (tuples come back as lists)."""
    if isinstance(value, dict):
        if value.keys() == {"value", "kind"} and value["value"] is None and value["kind"] in _NOT_FINITE:
            return _NOT_FINITE[value["kind"]]
        return {key: from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return value

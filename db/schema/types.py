# ruff: noqa: ARG002, D102 (the two methods of every TypeDecorator, whose arguments SQLAlchemy gives)
"""Column types that give back on every database exactly what was handed in, or refuse it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Double, Text
from sqlalchemy.types import TypeDecorator

from immuno_core.errors import SetupError
from immuno_core.text import strict_json

_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


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
        number = float(value)
        return number if math.isfinite(number) else {"value": None, "kind": str(number)}
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


def load_json(raw: str | bytes) -> Any:
    """Read JSON that is stored. Raises SetupError for what is none, and for what would not be read whole."""
    try:
        return strict_json(raw)
    except ValueError as error:
        raise SetupError(f"JSON that is stored cannot be read ({error}); see: immuno db check") from None


_ESCAPE = "\u241b"  # the visible sign for "escape", which no model or file name has reason to write
_TO_ESCAPE = re.compile(f"[\x00\ud800-\udfff{_ESCAPE}]")
_ESCAPED = re.compile(f"{_ESCAPE}([0-9a-f]{{4}})")


def storable_text(value: str) -> str:
    """Return a text with NUL, lone surrogates and U+241B written as U+241B and four hex digits."""
    if value.isascii() and "\x00" not in value:  # nearly every one
        return value
    return _TO_ESCAPE.sub(lambda found: f"{_ESCAPE}{ord(found[0]):04x}", value)


def plain_text(value: str) -> str:
    """Undo `storable_text`."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), value)


class LosslessText(TypeDecorator[str]):
    """Any Python text. NUL (which PostgreSQL refuses) and lone surrogates (which no database takes) are escaped.

    They are stored as U+241B and four hex digits, and come back as they were; all other text is stored as it is.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise SetupError(f"{value!r} was to be stored as text, but is {type(value).__name__}")
        return storable_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else plain_text(value)


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time, in UTC. A time without a time zone is refused: elsewhere it would mean something else."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise SetupError(f"the time {value.isoformat()} has no time zone; use datetime.now(UTC)")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)  # SQLite drops the zone


class Measured(TypeDecorator[float]):
    """A measured number; undefined is NaN here, and NULL in the database, where averages pass it over."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        return None if value is None or math.isnan(value) else float(value)

    def process_result_value(self, value: float | None, dialect: Dialect) -> float:
        return math.nan if value is None else value


class StrictJson(TypeDecorator[Any]):
    """JSON without NaN and Infinity; see db.schema.types for how these are stored."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return to_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return from_json(value)

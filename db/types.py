"""Column types that give back on every database exactly what was handed in, or refuse it."""

# ruff: noqa: ARG002, D102 (the two methods of every TypeDecorator, whose arguments SQLAlchemy decides)

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Text
from sqlalchemy.types import TypeDecorator

from db.values import from_json, to_json
from immuno.errors import SetupError

_ESCAPE = "\u241b"  # the visible sign for "escape", which no model or file name has reason to write
_TO_ESCAPE = re.compile(f"[\x00\ud800-\udfff{_ESCAPE}]")
_ESCAPED = re.compile(f"{_ESCAPE}([0-9a-f]{{4}})")


def storable_text(value: str) -> str:
    """Return a text with NUL, lone surrogates and U+241B written as U+241B and four hex digits."""
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


class StrictJson(TypeDecorator[Any]):
    """JSON without NaN and Infinity; see db.values for how these are stored."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return to_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return from_json(value)

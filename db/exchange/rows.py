"""Rows as plain JSON values and back: what one line of an exported file holds, and by what two rows are compared.

Texts are written as they are stored (db.schema.types.LosslessText: NUL and lone surrogates escaped), times in ISO 8601,
JSON as db.schema.types keeps it. SQLite takes any value for any column, so what comes from a file is checked here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, String, Table
from sqlalchemy.dialects import sqlite

from db.schema.types import LosslessText, StrictJson, UtcDateTime, from_json, to_json
from immuno_core.errors import SetupError, did_you_mean

Row = dict[str, Any]
"""One row as the column types hand it out: column name -> value."""
VECTOR = "vector"
"""The one column of bytes (embeddings): it does not go into JSON."""
_DIALECT = sqlite.dialect()
_TEXT = LosslessText()


def encode(table: Table, row: Mapping[str, Any]) -> Row:
    """Return the row's JSON values by column, without its vector."""
    return {column.name: _encoded(column, row[column.name]) for column in table.columns if column.name != VECTOR}


def _encoded(column: Column[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column.type, LosslessText):
        return _TEXT.process_bind_param(value, _DIALECT)
    if isinstance(column.type, UtcDateTime):
        return value.isoformat()
    return to_json(value) if isinstance(column.type, StrictJson) else value


def decode(table: Table, values: Mapping[str, Any], where: str) -> Row:
    """Undo `encode`. Raises SetupError naming `where` and the column for what the table cannot hold."""
    names = [column.name for column in table.columns if column.name != VECTOR]
    for name in names:
        if name not in values:
            raise SetupError(f"{where}: the key '{name}' is missing")
    for name in values:
        if name not in names:
            raise SetupError(f"{where}: unknown key {name!r}{did_you_mean(name, names)}")
    return {name: _decoded(table.columns[name], values[name], f"{where}: '{name}'") for name in names}


def _decoded(column: Column[Any], value: Any, where: str) -> Any:
    kind = column.type
    if value is None:
        if not column.nullable:
            raise SetupError(f"{where} is null, but must have a value")
        return None
    if isinstance(kind, LosslessText):
        return _TEXT.process_result_value(_storable(value, where), _DIALECT)
    if isinstance(kind, UtcDateTime):
        return _time(value, where)
    if isinstance(kind, StrictJson):
        if not isinstance(value, dict | list):
            raise SetupError(f"{where} is not an object or a list, but {value!r}")
        return from_json(value)
    if isinstance(kind, Boolean):
        fits = isinstance(value, bool)
    elif isinstance(kind, Integer):
        most = 2 ** (63 if isinstance(kind, BigInteger) else 31)
        fits = isinstance(value, int) and not isinstance(value, bool) and -most <= value < most
    elif isinstance(kind, Float):
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    elif isinstance(kind, String):
        fits = len(_storable(value, where)) <= (kind.length or len(value))
    else:
        raise NotImplementedError(f"{column} has a type that db.exchange.rows does not know: {kind!r}")
    if not fits:
        raise SetupError(f"{where} cannot be {value!r}")
    return value


def _storable(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise SetupError(f"{where} is not a text, but {value!r}")
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise SetupError(f"{where} has a NUL or half a character (a lone surrogate), which an export escapes")
    return value


def _time(value: Any, where: str) -> datetime:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise SetupError(f"{where} is not a time, but {value!r}") from None
    if time.tzinfo is None:
        raise SetupError(f"{where} is a time without a time zone: {value!r}")
    return time

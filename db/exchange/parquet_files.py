"""Tables as Parquet files, which pandas, DuckDB, Polars and Spark read: the other form of an exported session.

Every column has its type: texts as they are stored (db.exchange.rows), times as UTC timestamps, JSON as text, vectors
as lists of float32. PyArrow is imported when a file is written or read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, String, Table

from db.exchange.rows import VECTOR, Row, encode
from db.schema.types import LosslessText, StrictJson, UtcDateTime
from db.schema.vectors import from_bytes
from immuno_core.errors import SetupError

_AT_ONCE = 1000


def write_parquet(path: Path, table: Table, rows: Iterable[Row]) -> int:
    """Write the rows of a table into a new file; return how many they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([pa.field(column.name, _type(column), column.nullable) for column in table.columns])
    source, count = iter(rows), 0
    with path.open("xb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while some := list(islice(source, _AT_ONCE)):
            values = [_values(table, row) for row in some]
            writer.write_table(pa.Table.from_pylist(values, schema))
            count += len(some)
    return count


def _values(table: Table, row: Row) -> Row:
    values = encode(table, row)
    for column in table.columns:
        if column.name == VECTOR:
            values[VECTOR] = from_bytes([row[VECTOR]], len(row[VECTOR]) // 4)[0]
        elif row[column.name] is not None and isinstance(column.type, StrictJson):
            values[column.name] = json.dumps(values[column.name], allow_nan=False)
        elif isinstance(column.type, UtcDateTime):
            values[column.name] = row[column.name]
    return values


def _type(column: Column[Any]) -> Any:
    import pyarrow as pa

    kind = column.type
    if column.name == VECTOR:
        return pa.list_(pa.field("element", pa.float32(), nullable=False))
    if isinstance(kind, UtcDateTime):
        return pa.timestamp("us", tz="UTC")
    if isinstance(kind, LosslessText | StrictJson | String):
        return pa.string()
    if isinstance(kind, Boolean):
        return pa.bool_()
    if isinstance(kind, BigInteger):
        return pa.int64()
    if isinstance(kind, Integer):
        return pa.int32()
    if isinstance(kind, Float):
        return pa.float64()
    raise NotImplementedError(f"{column} has a type that db.exchange.parquet_files does not know: {kind!r}")


def read_parquet(path: Path, table: Table) -> Iterator[tuple[str, Row]]:
    """Yield (place, values) of a file: values as `db.exchange.rows.decode` wants them, and the vector as bytes.

    Raises SetupError naming the file for what is no Parquet file, and for columns of another name or type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    expected = {column.name: _type(column) for column in table.columns}
    try:
        with pq.ParquetFile(path) as file:
            found = {field.name: field.type for field in file.schema_arrow}
            for name in (*expected, *found):
                if found.get(name) != expected.get(name):
                    raise SetupError(
                        f"{path}: the column '{name}' is {found.get(name, 'missing')}, not "
                        f"{expected.get(name, 'a column of this table')}; export the session again"
                    )
            number = 0
            for batch in file.iter_batches(_AT_ONCE):
                for values in batch.to_pylist():
                    number += 1
                    where = f"{path}, row {number}"
                    yield where, _decodable(table, values, where)
    except pa.ArrowException as error:
        raise SetupError(f"{path} is not a Parquet file ({str(error).splitlines()[0]}); export again") from None


def _decodable(table: Table, values: Row, where: str) -> Row:
    import numpy as np

    for column in table.columns:
        value = values[column.name]
        if value is None:
            continue
        if column.name == VECTOR:
            values[VECTOR] = np.array(value, np.float32)
        elif isinstance(column.type, UtcDateTime):
            values[column.name] = value.isoformat()
        elif isinstance(column.type, StrictJson):
            try:
                values[column.name] = json.loads(value)
            except ValueError as error:
                raise SetupError(f"{where}: '{column.name}' is not JSON ({error})") from None
    return values

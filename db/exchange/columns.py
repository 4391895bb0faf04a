"""Rows of a Parquet file, of which a small one may stand for any number of values: runs and dictionaries are counted.

PyArrow is imported when a file is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from immuno_core.errors import SetupError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_MOST_VALUES: Final = 2**28
"""Of a column in the whole file: a million antibodies of 256 dimensions."""
_ROWS: Final = 1024
"""That are unfolded at a time, and what they may come to then: bytes of text, and numbers."""
_MOST_BYTES: Final = 2**30
_MOST_NUMBERS: Final = 2**24


@contextmanager
def parquet_file(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file. Raises SetupError for what is none, or holds more than fits anywhere, then and within."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            texts = [
                one.name
                for one in file.schema_arrow
                if pa.types.is_string(one.type) or pa.types.is_large_string(one.type)
            ]
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            for i in range(file.metadata.num_columns):
                values = sum(group.column(i).num_values for group in groups)
                if values > _MOST_VALUES:
                    raise SetupError(f"{path}: a column has {values:,} values; {_MOST_VALUES:,} are the most")
            yield file
    except (OSError, pa.ArrowException) as error:
        raise SetupError(f"{path} is not a Parquet file ({str(error).splitlines()[0]})") from None


def rows_of(file: pq.ParquetFile, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows as plain values. Raises SetupError before any would take more memory than it may."""
    for batch in file.iter_batches(_ROWS):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            size, most = _size(column)
            if size > most:
                raise SetupError(f"{path}: {len(batch):,} rows of '{name}' come to {size:,}; {most:,} are the most")
        yield from batch.to_pylist()


def _size(column: pa.Array) -> tuple[int, int]:
    """What a column comes to when it is unfolded, and the most it may."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        lengths = pc.binary_length(column.dictionary).take(column.indices)
        return pc.sum(lengths.cast(pa.int64())).as_py() or 0, _MOST_BYTES
    if pa.types.is_list(column.type):
        return len(column.flatten()), _MOST_NUMBERS
    return column.nbytes, _MOST_BYTES

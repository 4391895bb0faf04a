"""A bank with its embeddings as one Parquet file: text, kind, guards, rationale and vector of each antibody.

The encoder stands in the file's metadata (`immuno_encoder`, JSON), so that who takes the bank in need not embed it
again. Texts alone go into a .jsonl (evaluation.bank). PyArrow is imported when a file is written or read.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from db.types import plain_text, storable_text
from db.vectors import to_bytes
from immuno.errors import SetupError
from immuno.records import AntibodyKind, EncoderInfo, ProposedAntibody

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ENCODER = b"immuno_encoder"
_TEXTS = ("text", "kind", "guards", "rationale")


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedBank:
    """Antibodies with their embeddings (A, d) of an encoder."""

    antibodies: tuple[ProposedAntibody, ...]
    vectors: NDArray[np.float32]
    encoder: EncoderInfo


def write_bank_parquet(path: Path, bank: EmbeddedBank) -> None:
    """Write the file, whole or not at all; one that is there is replaced. Raises SetupError where it cannot be."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {name: storable_text(getattr(one, name)) for name in _TEXTS} | {"vector": vector}
        for one, vector in zip(bank.antibodies, bank.vectors, strict=True)
    ]
    encoder = json.dumps(asdict(bank.encoder)).encode()
    schema = pa.schema([*((name, pa.string()) for name in _TEXTS), ("vector", pa.list_(pa.float32()))])
    table = pa.Table.from_pylist(rows, schema.with_metadata({_ENCODER: encoder}))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                pq.write_table(table, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}") from None


def read_bank_parquet(path: Path) -> EmbeddedBank:
    """Read the file. Raises SetupError, naming the row where there is one, for what is no such file."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise SetupError(f"there is no file {path}") from None
    except (OSError, pa.ArrowException) as error:
        raise SetupError(f"{path} is not a Parquet file ({str(error).splitlines()[0]})") from None
    encoder = _encoder(path, table.schema.metadata or {})
    missing = next((name for name in (*_TEXTS, "vector") if name not in table.column_names), None)
    if missing is not None:
        raise SetupError(f"{path} has no column '{missing}'; write one with: immuno db export SESSION FILE.parquet")
    antibodies, vectors = [], []
    for number, row in enumerate(table.to_pylist(), start=1):
        where = f"{path}, row {number}"
        antibodies.append(_antibody(row, where))
        vector = np.array(row["vector"] if isinstance(row["vector"], list) else [], np.float32)
        to_bytes(vector, encoder.dim, f"the antibody at {where}")  # refuses a wrong size, and NaN
        vectors.append(vector)
    if not antibodies:
        raise SetupError(f"{path} holds no antibody")
    return EmbeddedBank(tuple(antibodies), np.stack(vectors), encoder)


def _antibody(row: dict[str, Any], where: str) -> ProposedAntibody:
    for name in _TEXTS:
        if not isinstance(row[name], str):
            raise SetupError(f"{where}: '{name}' is not a text, but {row[name]!r}")
    kind, kinds = row["kind"], get_args(AntibodyKind)
    if kind not in kinds or not row["text"].strip():
        raise SetupError(f"{where}: a text of the kind {' or '.join(kinds)} is wanted, not {row['text']!r}, {kind!r}")
    return ProposedAntibody(
        plain_text(row["text"]), kind, guards=plain_text(row["guards"]), rationale=plain_text(row["rationale"])
    )


def _encoder(path: Path, metadata: dict[bytes, bytes]) -> EncoderInfo:
    try:
        found = EncoderInfo(**json.loads(metadata[_ENCODER]))
        sound = isinstance(found.dim, int) and isinstance(found.digest, str)
    except (KeyError, ValueError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise SetupError(f"{path} does not say which encoder its vectors are of; it is no bank that immuno exported")
    return found

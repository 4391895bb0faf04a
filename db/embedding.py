"""Embeddings for antibodies that were stored without: imported texts, and what was turned down before it was embedded.

This room knows no encoder: the front door (`immuno db embed`) embeds what `unembedded` lists, and `add_embeddings`
stores it, so that `nearest` finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session as Transaction

from db import models as m
from db import queries
from db.bank_files import EmbeddedBank
from db.engine import reading, writing
from db.records import AntibodyRecord, GenerationRecord
from db.store import AntibodyStore
from db.vectors import DTYPE, to_bytes
from db.writing import batches, insert_new, insert_rows, new_id, now
from immuno.errors import SetupError
from immuno.records import EncoderInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def unembedded(store: AntibodyStore, session_id: str, encoder_digest: str) -> tuple[AntibodyRecord, ...]:
    """Return the antibodies of a session that have no proposed embedding of an encoder, oldest first."""
    embedded = select(m.Embedding.id).where(
        m.Embedding.antibody_id == m.Antibody.id,
        m.Embedding.kind == "proposed",
        m.Embedding.encoder_digest == encoder_digest,
    )
    with reading(store.engine) as transaction:
        query = queries.antibody_rows().where(m.Generation.session_id == session_id, ~embedded.exists())
        return tuple(queries.antibody_record(*row) for row in transaction.execute(query))


def add_embeddings(store: AntibodyStore, encoder: EncoderInfo, vectors: Mapping[str, NDArray[np.float32]]) -> int:
    """Store the (d,) embeddings of stored antibodies, by their ids, as if they had been proposed with them.

    One transaction; an antibody that has one of that encoder keeps it. Return how many were added. Raises SetupError
    for an antibody that is not stored, and for a vector of another size than the encoder's.
    """
    with writing(store.engine) as transaction:
        row = asdict(encoder) | {"digest": encoder.digest, "created_at": now()}
        insert_new(transaction, m.Encoder, [row])
        made_in = _generations(transaction, list(vectors))
        has = _embedded(transaction, list(vectors), encoder.digest)
        rows = [
            {
                "id": new_id(),
                "antibody_id": key,
                "generation_id": made_in[key],
                "encoder_digest": encoder.digest,
                "kind": "proposed",
                "parent_id": None,
                "dim": encoder.dim,
                "dtype": DTYPE,
                "vector": to_bytes(vector, encoder.dim, f"the antibody {key}"),
            }
            for key, vector in vectors.items()
            if key not in has
        ]
        insert_rows(transaction, m.Embedding, rows)
        return len(rows)


def add_bank_embeddings(store: AntibodyStore, generation: GenerationRecord, bank: EmbeddedBank) -> int:
    """Store the embeddings that an imported bank brought; return how many were added."""
    stored = store.antibodies(generation.session_id, generation=generation.number)
    keys = {(one.text, one.guards): one.id for one in stored}
    named = ((keys[one.text, one.guards], vector) for one, vector in zip(bank.antibodies, bank.vectors, strict=True))
    return add_embeddings(store, bank.encoder, dict(named))


def _generations(transaction: Transaction, keys: list[str]) -> dict[str, str]:
    """Antibody id -> the generation that proposed it. On PostgreSQL it is locked: of two who embed it one waits."""
    found: dict[str, str] = {}
    for some in batches(keys):
        query = select(m.Antibody.id, m.Antibody.generation_id).where(m.Antibody.id.in_(some))
        found |= dict(transaction.execute(query).all())
    for some in batches(found.values()):
        mine = select(m.Generation.id).where(m.Generation.id.in_(some)).order_by(m.Generation.id)
        transaction.execute(mine.with_for_update(key_share=True))
    missing = next((key for key in keys if key not in found), None)
    if missing is not None:
        raise SetupError(f"there is no antibody with the id {missing!r}")
    return found


def _embedded(transaction: Transaction, keys: list[str], encoder_digest: str) -> set[str]:
    proposed = select(m.Embedding.antibody_id).where(
        m.Embedding.kind == "proposed", m.Embedding.encoder_digest == encoder_digest
    )
    found = (transaction.scalars(proposed.where(m.Embedding.antibody_id.in_(some))) for some in batches(keys))
    return set(chain.from_iterable(found))

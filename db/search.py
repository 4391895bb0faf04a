"""Which stored antibodies mean nearly the same: by the cosine of the embeddings they were proposed with.

On SQLite every embedding of the encoder is read and compared, block by block, in float32. On PostgreSQL an index finds
candidates, roughly (db.halves), and these are compared so.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Select, select
from sqlalchemy.orm import Session as Transaction

from db import models as m
from db import queries
from db.engine import is_sqlite, reading
from db.naming import antibodies_named, similar_texts
from db.store import AntibodyStore
from db.vectors import from_bytes
from immuno.errors import SetupError
from immuno.records import AntibodyKind, AntibodyStatus

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK = 256
"""Embeddings compared at once: 512 kB of 512-d ones stay in the processor's cache, which halves the time."""
_DECIMALS = 6
"""What float32 can tell apart; equal vectors in different places of a block differ behind it."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An antibody and its cosine to the one that was asked for."""

    similarity: float
    id: str
    session: str
    generation: int
    """The number of the generation that proposed it."""
    text: str
    kind: AntibodyKind
    guards: str
    status: AntibodyStatus


@dataclass(frozen=True, slots=True)
class Among:
    """Which antibodies are compared; None is all."""

    session_id: str | None = None
    guards: str | None = None
    kind: AntibodyKind | None = None
    status: AntibodyStatus | None = None


def nearest(store: AntibodyStore, name: str, among: Among | None = None, *, limit: int = 10) -> tuple[Neighbour, ...]:
    """Return the antibodies nearest to a stored one (its id, or its whole text; of several the newest), nearest first.

    Itself is left out; equal texts of other generations are not. Raises SetupError for a text or an id that is not
    stored, and for an antibody that was turned down before it was embedded: no model is loaded here.
    """
    with reading(store.engine) as transaction:
        found = antibodies_named(transaction, name)
        if not found:
            raise SetupError(
                f"no antibody in {store.url} has the text or id {name!r}{similar_texts(transaction, name)}. 'immuno db'"
                " loads no model: 'immuno refine' embeds and stores what it proposes; a vector of your own goes to"
                " db.search.nearest_to_vector"
            )
        query = (
            select(m.Embedding.antibody_id, m.Embedding.vector, m.Embedding.dim, m.Embedding.encoder_digest)
            .where(m.Embedding.antibody_id.in_([one.id for one in found]), m.Embedding.kind == "proposed")
            .order_by(m.Embedding.id.desc())
        )
        embedded = transaction.execute(query).first()
        if embedded is None:
            raise SetupError(
                f"the antibody {name!r} is stored without an embedding ({found[0].reason or found[0].status});"
                " 'immuno db' loads no model: name another, or hand its vector to db.search.nearest_to_vector"
            )
        own_id, raw, dim, encoder = embedded
        vector = from_bytes([raw], dim)[0]
        return _nearest(transaction, vector, encoder, among or Among(), limit=limit, without=own_id)


def nearest_to_vector(
    store: AntibodyStore,
    vector: NDArray[np.floating],
    encoder_digest: str,
    among: Among | None = None,
    *,
    limit: int = 10,
) -> tuple[Neighbour, ...]:
    """Return the antibodies nearest to a (d,) embedding of that encoder (EncoderInfo.digest), nearest first.

    Raises SetupError for an encoder that is not stored, and for a vector of another size.
    """
    with reading(store.engine) as transaction:
        dim = transaction.scalar(select(m.Encoder.dim).where(m.Encoder.digest == encoder_digest))
        if dim is None:
            raise SetupError(f"no encoder in {store.url} has the digest {encoder_digest!r}")
        if vector.shape != (dim,):
            raise SetupError(f"the vector has shape {vector.shape}, but the encoder's embeddings are ({dim},)")
        return _nearest(transaction, vector, encoder_digest, among or Among(), limit=limit)


def _nearest(
    transaction: Transaction,
    vector: NDArray[np.floating],
    encoder_digest: str,
    among: Among,
    *,
    limit: int,
    without: str | None = None,
) -> tuple[Neighbour, ...]:
    import numpy as np

    tiny = float(np.finfo(np.float32).tiny)
    asked = (vector / max(float(np.linalg.norm(vector)), tiny)).astype(np.float32)
    best: list[tuple[float, str]] = []  # (minus cosine, id): of equals the oldest first
    query, connection = _embeddings(encoder_digest, among), transaction.connection()
    if not is_sqlite(connection.engine.url):
        from db.halves import likely

        query = likely(transaction, query, encoder_digest, asked, limit + 1)  # + 1: itself
    # Through the connection: a session's own loading would take as long as the rest.
    rows = connection.execute(query, execution_options={"yield_per": _BLOCK})
    for block in rows.partitions():
        ids, raw = zip(*block, strict=True)
        vectors = from_bytes(raw, len(asked))
        norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
        cosines = np.round(vectors @ asked / np.maximum(norms, tiny), _DECIMALS)
        worst = -best[-1][0] if len(best) == limit else -np.inf
        near = [(-float(cosines[i]), ids[i]) for i in np.flatnonzero(cosines >= worst) if ids[i] != without]
        best = heapq.nsmallest(limit, best + near)
    chosen = transaction.execute(queries.antibody_rows().where(m.Antibody.id.in_([own for _, own in best])))
    records = {antibody.id: (antibody, number, session) for antibody, number, session in chosen}
    return tuple(_neighbour(-minus, *records[own]) for minus, own in best)


def _embeddings(encoder_digest: str, among: Among) -> Select[str, bytes]:
    query = select(m.Embedding.antibody_id, m.Embedding.vector).where(
        m.Embedding.kind == "proposed", m.Embedding.encoder_digest == encoder_digest
    )
    wanted = {m.Antibody.guards: among.guards, m.Antibody.kind: among.kind, m.Antibody.status: among.status}
    conditions = [column == value for column, value in wanted.items() if value is not None]
    if conditions:
        query = query.join(m.Antibody, m.Antibody.id == m.Embedding.antibody_id).where(*conditions)
    if among.session_id is not None:
        query = query.join(m.Generation, m.Generation.id == m.Embedding.generation_id)
        query = query.where(m.Generation.session_id == among.session_id)
    return query


def _neighbour(similarity: float, antibody: m.Antibody, generation: int, session: str) -> Neighbour:
    record = queries.antibody_record(antibody, generation, session)
    return Neighbour(
        similarity=similarity,
        id=record.id,
        session=session,
        generation=generation,
        text=record.text,
        kind=record.kind,
        guards=record.guards,
        status=record.status,
    )

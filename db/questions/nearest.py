"""Which stored antibodies mean nearly the same: by the cosine of their embeddings.

First candidates are found, roughly: on SQLite by reading all embeddings of the encoder that the filters leave; on
PostgreSQL by an index (db.schema.pgvector). The cosines of the candidates are measured in float64, so that both ways
give the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import BindParameter, Connection, Row, Select, bindparam, select
from sqlalchemy.orm import Session as Transaction

from db.queries import narrowed
from db.questions.naming import antibodies_named, similar_texts
from db.schema import models as m
from db.schema.engine import is_sqlite, reading
from db.schema.vectors import DTYPE, cosines_to, directions, from_bytes, to_half
from db.store import AntibodyStore
from db.writing import is_id
from immuno_core.errors import SetupError
from immuno_core.records import AntibodyKind, AntibodyStatus, described

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_BLOCK = 256
"""Embeddings read and compared at once: 512 kB of 512-d ones stay in the processor's cache."""
_DECIMALS = 6
"""What stored float32 can tell apart."""
_DOUBT = 2e-5
"""How much two cosines of unit vectors in float32 may differ from what they are, and more."""
_MOST_MEASURED = 10_000
"""Candidates whose cosines are measured; more are only there where thousands of texts have one embedding."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An antibody and its cosine to the one that was asked for."""

    similarity: float
    id: str
    session: str
    generation: int
    """The number of the generation that proposed it."""
    text: str
    """Of a visual one what it is like."""
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
    stored, and for an antibody without an embedding.
    """
    with reading(store.engine) as transaction:
        connection = transaction.connection()  # here and below: the session's own rows would take twice the time
        embedded = connection.execute(_asked(), {"ids": [name]}).first() if is_id(name) else None
        if embedded is None:
            found = antibodies_named(transaction, name)
            if not found:
                raise SetupError(
                    f"no antibody in {store.url} has the text or id {name!r}{similar_texts(transaction, name)}."
                    " Any other text is embedded by the encoder of a session or of a configuration: name one with"
                    " --session or --config; a vector of your own goes to db.questions.nearest.nearest_to_vector"
                )
            embedded = connection.execute(_asked(), {"ids": [one.id for one in found]}).first()
            if embedded is None:
                raise SetupError(
                    f"the antibody {name!r} is stored without an embedding ({found[0].reason or found[0].status});"
                    f" give it one with: immuno db embed {found[0].session} --config CONFIG"
                )
        own_id, raw, dim, encoder = embedded
        vector = from_bytes([raw], dim)[0]
        return _nearest(transaction, vector, encoder, among or Among(), limit=limit, without=own_id)


def is_stored(store: AntibodyStore, name: str) -> bool:
    """Whether an antibody has this id, or exactly this text."""
    with reading(store.engine) as transaction:
        return bool(antibodies_named(transaction, name))


# Queries that are made once: to build them anew for each call would take a fifth of its time.
@cache
def _asked() -> Select[str, bytes, int, str]:
    """The newest embedding of some antibodies."""
    return (
        select(m.Embedding.antibody_id, m.Embedding.vector, m.Embedding.dim, m.Embedding.encoder_digest)
        .where(m.Embedding.antibody_id.in_(bindparam("ids", expanding=True)))
        .order_by(m.Embedding.id.desc())
    )


@cache
def _these() -> Select[*tuple[Any, ...]]:
    """Some antibodies, by their `ids`, with their embeddings of an `encoder`."""
    ids: BindParameter[Any] = bindparam("ids", expanding=True)
    return _described(_embeddings(bindparam("encoder"), Among()).where(m.Embedding.antibody_id.in_(ids)))


@lru_cache(maxsize=64)
def _likely(encoder_digest: str, among: Among, dim: int, most: int) -> Select[*tuple[Any, ...]]:
    """On PostgreSQL: the antibodies that are likely the `most` nearest to a `direction`."""
    from db.schema.pgvector import likely

    return _described(likely(_embeddings(encoder_digest, among), encoder_digest, dim, most))


def _described(embeddings: Select[str, bytes]) -> Select[*tuple[Any, ...]]:
    """What a Neighbour says of antibodies, and last the embedding."""
    found = embeddings.subquery()
    antibody = m.Antibody.id, m.Session.name, m.Generation.number, m.Antibody.text, m.Antibody.kind
    return (
        select(*antibody, m.Antibody.guards, m.Antibody.status, m.Antibody.samples, found.c.vector)
        .join(found, found.c.antibody_id == m.Antibody.id)
        .join(m.Generation, m.Generation.id == m.Antibody.generation_id)
        .join(m.Session, m.Session.id == m.Generation.session_id)
    )


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

    asked = directions([vector.astype(DTYPE).tobytes()], len(vector))[0]
    found = _candidates(transaction, asked, encoder_digest, among, most=limit + 1)  # + 1: itself
    rows = [row for row in found if row[0] != without]
    if not rows:
        return ()
    measured = from_bytes([raw for *_, raw in rows], len(asked)).astype(np.float64)
    lengths = np.linalg.norm(measured, axis=1) * np.linalg.norm(vector.astype(np.float64))
    cosines = np.round((measured @ vector.astype(np.float64)) / np.where(lengths > 0, lengths, 1), _DECIMALS).tolist()
    best = sorted(range(len(rows)), key=lambda i: (-cosines[i], rows[i][0]))[:limit]  # of equals the oldest first
    return tuple(_neighbour(cosines[i], *rows[i][:-1]) for i in best)


def _neighbour(similarity: float, key: str, session: str, number: int, text: str, *rest: Any) -> Neighbour:
    *others, samples = rest
    return Neighbour(similarity, key, session, number, described(text, samples), *others)


def _candidates(
    transaction: Transaction, asked: NDArray[np.float32], encoder_digest: str, among: Among, *, most: int
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the antibodies that may be among the `most` nearest to a direction: on SQLite certainly all of these."""
    connection = transaction.connection()
    if is_sqlite(connection.engine.url):
        ids = _roughly_nearest(connection, asked, encoder_digest, among, most)
        return connection.execute(_these(), {"ids": ids, "encoder": encoder_digest}).all()
    from db.schema.pgvector import prepare_search

    prepare_search(connection, most, narrowed=among != Among())
    query = _likely(encoder_digest, among, len(asked), most)
    return connection.execute(query, {"direction": to_half(asked.astype(DTYPE).tobytes())}).all()


def _roughly_nearest(
    connection: Connection, asked: NDArray[np.float32], encoder_digest: str, among: Among, most: int
) -> list[str]:
    """Return the ids of the `most` antibodies nearest to a direction, and of those that float32 may have put behind."""
    import numpy as np

    ids: list[str] = []
    roughly: list[NDArray[np.float32]] = []
    rows = connection.execute(_embeddings(encoder_digest, among), execution_options={"yield_per": _BLOCK})
    for block in rows.partitions():
        some, raw = zip(*block, strict=True)
        ids += some
        roughly.append(cosines_to(asked, raw))
    if not ids:
        return []
    cosines = np.concatenate(roughly)
    near = _nearly_best(cosines, most)
    if len(near) > _MOST_MEASURED:  # equal texts: the oldest of those that tie
        near = near[np.lexsort((np.array(ids)[near], -np.round(cosines[near], _DECIMALS - 1)))][:_MOST_MEASURED]
    return [ids[i] for i in near]


def _nearly_best(cosines: NDArray[np.float32], most: int) -> NDArray[np.intp]:
    """Return where the `most` greatest are, and those that float32 may have put behind them."""
    import numpy as np

    if len(cosines) <= most:
        return np.arange(len(cosines))
    least = np.partition(cosines, len(cosines) - most)[len(cosines) - most]
    return np.flatnonzero(cosines >= least - _DOUBT)


def _embeddings(encoder_digest: str | BindParameter[str], among: Among) -> Select[str, bytes]:
    """The embeddings of an encoder, with the ids of their antibodies."""
    query = select(m.Embedding.antibody_id, m.Embedding.vector).where(m.Embedding.encoder_digest == encoder_digest)
    wanted = {m.Antibody.guards: among.guards, m.Antibody.kind: among.kind, m.Antibody.status: among.status}
    if any(value is not None for value in wanted.values()):
        query = query.join(m.Antibody, m.Antibody.id == m.Embedding.antibody_id)
    if among.session_id is not None:
        query = query.join(m.Generation, m.Generation.id == m.Embedding.generation_id)
    return narrowed(query, wanted | {m.Generation.session_id: among.session_id})

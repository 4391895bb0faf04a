"""PostgreSQL's index of the embeddings: their directions as pgvector's halfvec, with an HNSW index for each encoder.

Derived from `embeddings`, and no part of the record: whatever inserts embeddings through an engine of ours fills it in
the same transaction, and `immuno db check` counts what it lacks. It finds candidates; their cosines are measured on
the float32 vectors. SQLite has no such table, and compares all vectors. Imports pgvector, so only PostgreSQL loads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    Insert,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    bindparam,
    cast,
    event,
    insert,
    text,
)

from db.schema.models import Base, Embedding
from db.schema.vectors import to_half

_EMBEDDINGS = Base.metadata.tables[Embedding.__tablename__]
_metadata = MetaData(naming_convention=Base.metadata.naming_convention)
halves = Table(
    "halves",
    _metadata,
    Column("embedding_id", String(36), ForeignKey(_EMBEDDINGS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("encoder_digest", String(64), nullable=False),
    Column("half", HALFVEC(), nullable=False),
)
"""The HNSW indexes are no part of the model: the database makes one when an encoder is inserted, whoever does that."""
_FUNCTIONS = (
    """
    CREATE FUNCTION immuno_index_halves(digest text, dim integer) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        IF dim <= 4000 THEN  -- pgvector indexes no longer halfvec
            EXECUTE format(
                'CREATE INDEX IF NOT EXISTS %I ON halves USING hnsw ((half::halfvec(%s)) halfvec_ip_ops)'
                ' WHERE encoder_digest = %L',
                'hnsw_' || left(digest, 40), dim, digest
            );
        END IF;
    END $$
    """,
    """
    CREATE FUNCTION immuno_index_encoder() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM immuno_index_halves(NEW.digest, NEW.dim);
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER immuno_index_encoder AFTER INSERT ON encoders
        FOR EACH ROW EXECUTE FUNCTION immuno_index_encoder()
    """,
)


@event.listens_for(halves, "before_create")
def _before_create(_table: Table, connection: Connection, **_options: Any) -> None:
    connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))


@event.listens_for(halves, "after_create")
def _after_create(_table: Table, connection: Connection, **_options: Any) -> None:
    for function in _FUNCTIONS:
        connection.execute(text(function))


_CANDIDATES = 2
"""How many times more candidates are fetched than wanted: float16 may order them a little otherwise."""
_SEARCHED, _MOST_SEARCHED = 100, 1000
"""hnsw.ef_search as a rule (below, the recall suffers), and the greatest that pgvector takes."""
SETTINGS = f"SET hnsw.ef_search = {_SEARCHED}; SET hnsw.iterative_scan = strict_order"
"""For each connection: to say it in each transaction would take a tenth of the time."""


def fill_with(engine: Engine) -> None:
    """From now on, write the half of every embedding that the engine inserts."""

    @event.listens_for(engine, "after_execute")
    def _after_execute(
        connection: Connection,
        statement: Any,
        rows: Sequence[Mapping[str, Any]],
        row: Mapping[str, Any],
        _options: Mapping[str, Any],
        _result: Any,
    ) -> None:
        if isinstance(statement, Insert) and getattr(statement.table, "name", None) == _EMBEDDINGS.name:
            added = [
                {"embedding_id": one["id"], "encoder_digest": one["encoder_digest"], "half": to_half(one["vector"])}
                for one in (rows or [row])
            ]
            connection.execute(insert(halves), added)


def prepare_search(connection: Connection, limit: int, *, narrowed: bool) -> None:
    """For the transaction, have the index look at enough for `limit` answers (as a rule it does).

    `narrowed`: something else is asked for besides nearness.
    """
    searched = min(8 * limit, _MOST_SEARCHED)
    if searched > _SEARCHED:
        connection.exec_driver_sql(f"SET LOCAL hnsw.ef_search = {searched}")
    if narrowed:  # a plan for all values would not see that few rows have this one, and read the index in vain
        connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_custom_plan")


def likely(query: Select[*tuple[Any, ...]], encoder_digest: str, dim: int, limit: int) -> Select[*tuple[Any, ...]]:
    """Narrow a query of one encoder's embeddings down to those that are likely nearest to `direction`.

    That is a parameter of the query, (dim,) float16 as db.schema.vectors.to_half gives it. Twice as many as `limit`
    (what else the query asks for is respected: the index is read on until there are enough), roughly nearest first; all
    of them where there are fewer.
    """
    half = cast(halves.c.half, HALFVEC(dim))  # what is indexed
    # Both are written out: of parameters the planner could not tell that the encoder's own index will do, nor that few
    # rows are wanted.
    encoder = bindparam("encoder", encoder_digest, String, literal_execute=True)
    count = bindparam("count", limit * _CANDIDATES, Integer, literal_execute=True)
    return (
        query.join(halves, halves.c.embedding_id == _EMBEDDINGS.c.id)
        .where(halves.c.encoder_digest == encoder)
        .order_by(half.max_inner_product(bindparam("direction", type_=HALFVEC())))
        .limit(count)
    )

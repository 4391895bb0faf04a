"""Embeddings that PostgreSQL can search by pgvector, and claims on work.

On PostgreSQL each encoder has an HNSW index of its own, over its embeddings only: the cosines of two encoders have
nothing to do with one another, and an index over both would lose answers to the filter. A trigger makes it with the
encoder, whoever inserts that. `half::halfvec(d)`: an index wants to know the dimension, of which the column holds many.

Revision: 0003, after 0002
"""

from __future__ import annotations

import numpy as np
import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import UserDefinedType

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BATCH = 1000
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
    "SELECT immuno_index_halves(digest, dim) FROM encoders",
)


class _HalfVec(UserDefinedType[str]):
    def get_col_spec(self, **_kw: object) -> str:
        return "halfvec"


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    op.create_table(
        "claims",
        sa.Column("work", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("work", name=op.f("pk_claims")),
    )
    if postgresql:
        op.execute("CREATE EXTENSION IF NOT EXISTS vector")
        op.create_table(
            "halves",
            sa.Column("embedding_id", sa.String(length=36), nullable=False),
            sa.Column("encoder_digest", sa.String(length=64), nullable=False),
            sa.Column("half", _HalfVec(), nullable=False),
            sa.ForeignKeyConstraint(
                ["embedding_id"],
                ["embeddings.id"],
                name=op.f("fk_halves_embedding_id_embeddings"),
                ondelete="CASCADE",
            ),
            sa.PrimaryKeyConstraint("embedding_id", name=op.f("pk_halves")),
        )
        _fill()
        for statement in _FUNCTIONS:
            op.execute(statement)


def _fill() -> None:
    """Give the embeddings that are there their directions in float16."""
    connection, last = op.get_bind(), ""
    some = sa.text(f"SELECT id, encoder_digest, vector FROM embeddings WHERE id > :last ORDER BY id LIMIT {_BATCH}")
    insert = sa.text("INSERT INTO halves VALUES (:id, :encoder, CAST(:half AS halfvec))")
    while rows := connection.execute(some, {"last": last}).all():
        connection.execute(insert, [{"id": row.id, "encoder": row[1], "half": _half(row.vector)} for row in rows])
        last = rows[-1].id


def _half(row: bytes) -> str:
    vector = np.frombuffer(row, "<f4").astype(np.float64)
    length = np.linalg.norm(vector)
    return str((vector / length if length else vector).astype(np.float16).tolist())


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER immuno_index_encoder ON encoders")
        op.execute("DROP FUNCTION immuno_index_encoder()")
        op.execute("DROP FUNCTION immuno_index_halves(text, integer)")
        op.drop_table("halves")
    op.drop_table("claims")

"""SQLite's stamps: for each encoder a word that changes whenever an embedding of it is added, changed or removed.

Triggers write them, whoever writes the embeddings, so that what was computed from all embeddings of an encoder
(db.questions.vector_file) can tell by one look whether it is still true. `token` changes with every change, `epoch`
only when an embedding is changed or removed: with an equal epoch, embeddings were added at most. Both are random, so
that two copies of a database that go their own ways do not come to have one stamp. PostgreSQL has an index instead
(db.schema.pgvector).
"""

from __future__ import annotations

from sqlalchemy import DDL, Column, MetaData, String, Table, event

from db.schema.models import Base

metadata = MetaData(naming_convention=Base.metadata.naming_convention)
stamps = Table(
    "vector_stamps",
    metadata,
    Column("encoder_digest", String(64), primary_key=True),
    Column("token", String(32), nullable=False),
    Column("epoch", String(32), nullable=False),
)
_CHANGED = "token = excluded.token, epoch = excluded.epoch"


def _trigger(change: str, row: str, then: str) -> str:
    new = "hex(randomblob(16))"
    parts = (
        f"CREATE TRIGGER immuno_stamp_{change} AFTER {change.upper()} ON embeddings BEGIN",
        f"INSERT INTO vector_stamps VALUES ({row}.encoder_digest, {new}, {new})",  # noqa: S608 (all ours)
        f"ON CONFLICT (encoder_digest) DO UPDATE SET {then}; END",
    )
    return " ".join(parts)


TRIGGERS = (
    _trigger("insert", "NEW", "token = excluded.token"),
    _trigger("update", "OLD", _CHANGED),
    _trigger("delete", "OLD", _CHANGED),
)
"""(The encoder of an embedding is part of its unique key, and never updated.)"""
for _statement in TRIGGERS:
    event.listen(stamps, "after_create", DDL(_statement))  # type: ignore[no-untyped-call]

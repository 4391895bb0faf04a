"""Where sessions, antibodies and prompts come from; what a call cost; indices for what is asked for.

On SQLite also a stamp for each encoder's embeddings, kept by triggers. (A later migration that makes `embeddings` anew
loses its triggers, and has to make them anew too.)

Of rows that were there, what nobody recorded is NULL or empty.

Revision: 0004, after 0003
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COLUMNS: dict[str, tuple[tuple[str, Any, str | None], ...]] = {
    "sessions": (("llm", sa.Text(), None), ("parent_generation_id", sa.String(length=36), None)),
    "prompts": (("reason", sa.Text(), ""),),
    "generations": (("random_state", sa.JSON(), "{}"),),
    "antibodies": (
        ("origin", sa.Text(), ""),
        ("parent_id", sa.String(length=36), None),
        ("relation", sa.String(length=32), None),
    ),
    "llm_calls": (
        ("parameters", sa.JSON(), "{}"),
        ("cache_key", sa.String(length=64), None),
        ("reused", sa.Boolean(), "false"),
        ("cost_usd", sa.Double(), None),
        ("seconds", sa.Double(), None),
    ),
    "claims": (("host", sa.Text(), ""), ("pid", sa.Integer(), "0"), ("boot", sa.Text(), "")),
}
"""By table: name, type, and what it is in the rows that are there (None: NULL, and may be so in others too)."""
_CHECKS = {
    "relation": "relation IN ('matured', 'edited', 'copied')",
    "relation_to_a_parent": "(relation IS NULL) = (parent_id IS NULL)",
}
"""Of antibodies."""
_INDICES = (
    ("antibodies", "text", "hash"),
    ("antibodies", "parent_id", "btree"),
    ("embeddings", "generation_id", "btree"),
    ("bank_members", "antibody_id", "btree"),
    ("verdicts", "sample_id", "btree"),
    ("llm_calls", "cache_key", "btree"),
)
"""Table, column, and PostgreSQL's kind of index."""

_NEW = "hex(randomblob(16))"
_CHANGED = "token = excluded.token, epoch = excluded.epoch"
_STAMPS = (("insert", "NEW", "token = excluded.token"), ("update", "OLD", _CHANGED), ("delete", "OLD", _CHANGED))
"""Event, row, and what it changes."""


def upgrade() -> None:
    for table, columns in _COLUMNS.items():
        with op.batch_alter_table(table) as batch_op:
            for name, kind, before in columns:
                given = sa.false() if before == "false" else before
                batch_op.add_column(sa.Column(name, kind, nullable=before is None, server_default=given))
            for check, rule in _CHECKS.items() if table == "antibodies" else ():
                batch_op.create_check_constraint(op.f(f"ck_antibodies_{check}"), rule)
        with op.batch_alter_table(table) as batch_op:  # a new row says its own
            for name, kind, before in columns:
                if before is not None:
                    batch_op.alter_column(name, existing_type=kind, existing_nullable=False, server_default=None)
    if op.get_bind().dialect.name == "sqlite":
        op.create_table(
            "vector_stamps",
            sa.Column("encoder_digest", sa.String(length=64), nullable=False),
            sa.Column("token", sa.String(length=32), nullable=False),
            sa.Column("epoch", sa.String(length=32), nullable=False),
            sa.PrimaryKeyConstraint("encoder_digest", name=op.f("pk_vector_stamps")),
        )
        op.execute(f"INSERT INTO vector_stamps SELECT digest, {_NEW}, {_NEW} FROM encoders")
        for change, row, then in _STAMPS:
            op.execute(
                f"CREATE TRIGGER immuno_stamp_{change} AFTER {change.upper()} ON embeddings BEGIN"
                f" INSERT INTO vector_stamps VALUES ({row}.encoder_digest, {_NEW}, {_NEW})"
                f" ON CONFLICT (encoder_digest) DO UPDATE SET {then}; END"
            )
    for table, name, kind in _INDICES:
        op.create_index(op.f(f"ix_{table}_{name}"), table, [name], postgresql_using=kind)


def downgrade() -> None:
    for table, name, _ in reversed(_INDICES):
        op.drop_index(op.f(f"ix_{table}_{name}"), table_name=table)
    if op.get_bind().dialect.name == "sqlite":
        for change, *_ in _STAMPS:
            op.execute(f"DROP TRIGGER immuno_stamp_{change}")
        op.drop_table("vector_stamps")
    for table, columns in _COLUMNS.items():
        with op.batch_alter_table(table) as batch_op:
            for check in reversed(_CHECKS) if table == "antibodies" else ():
                batch_op.drop_constraint(op.f(f"ck_antibodies_{check}"), type_="check")
            for name, *_ in reversed(columns):
                batch_op.drop_column(name)

"""Visual antibodies: a kind of their own, without a text, with the samples that they came from.

Revision: 0007, after 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_OLD, _NEW = "kind IN ('look_alike', 'contextual')", "kind IN ('look_alike', 'contextual', 'visual')"


def upgrade() -> None:
    with op.batch_alter_table("antibodies") as batch_op:
        batch_op.add_column(sa.Column("samples", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.drop_constraint(op.f("ck_antibodies_kind"), type_="check")
        batch_op.create_check_constraint(op.f("ck_antibodies_kind"), _NEW)
    with op.batch_alter_table("antibodies") as batch_op:  # a new row says its own
        batch_op.alter_column("samples", existing_type=sa.JSON(), existing_nullable=False, server_default=None)


def downgrade() -> None:
    """Visual antibodies go, with what was measured of them."""
    visual = "(SELECT id FROM antibodies WHERE kind = 'visual')"
    for table in ("bank_members", "effects", "embeddings"):
        op.execute(f"DELETE FROM {table} WHERE antibody_id IN {visual}")  # noqa: S608 - names of ours
    op.execute(f"UPDATE verdicts SET nearest_antibody_id = NULL WHERE nearest_antibody_id IN {visual}")  # noqa: S608
    op.execute("DELETE FROM antibodies WHERE kind = 'visual'")
    with op.batch_alter_table("antibodies") as batch_op:
        batch_op.drop_constraint(op.f("ck_antibodies_kind"), type_="check")
        batch_op.create_check_constraint(op.f("ck_antibodies_kind"), _OLD)
        batch_op.drop_column("samples")

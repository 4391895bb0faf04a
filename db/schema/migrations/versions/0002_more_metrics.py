"""Lines of results: arm, intervals, H-score, OSCR, and what the deployed threshold does.

Revision: 0002, after 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NUMBERS = ("h_score", "oscr", "threshold", "acceptance", "rejection", "accepted_accuracy")
"""Of lines written before, these stay NULL, and so do their kinds: they were not measured."""


def upgrade() -> None:
    with op.batch_alter_table("results") as batch_op:
        batch_op.add_column(sa.Column("arm", sa.Text(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("intervals", sa.JSON(), nullable=False, server_default="{}"))
        for name in _NUMBERS:
            batch_op.add_column(sa.Column(name, sa.Double(), nullable=True))
            batch_op.add_column(sa.Column(f"{name}_kind", sa.String(length=6), nullable=True))
            batch_op.create_check_constraint(
                op.f(f"ck_results_{name}_kind"), f"{name}_kind IN ('finite', 'nan', 'inf', '-inf')"
            )
            batch_op.create_check_constraint(
                op.f(f"ck_results_{name}_finite"),
                f"(coalesce({name}_kind, '') = 'finite') = ({name} IS NOT NULL)",
            )
    # The defaults were for the lines that were there; a new line says its own.
    with op.batch_alter_table("results") as batch_op:
        batch_op.alter_column("arm", existing_type=sa.Text(), existing_nullable=False, server_default=None)
        batch_op.alter_column("intervals", existing_type=sa.JSON(), existing_nullable=False, server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("results") as batch_op:
        for name in reversed(_NUMBERS):
            batch_op.drop_constraint(op.f(f"ck_results_{name}_finite"), type_="check")
            batch_op.drop_constraint(op.f(f"ck_results_{name}_kind"), type_="check")
            batch_op.drop_column(f"{name}_kind")
            batch_op.drop_column(name)
        batch_op.drop_column("intervals")
        batch_op.drop_column("arm")

"""What a session measures on, what each generation ran with, and calls told apart by what was asked.

Of rows that were there, what nobody recorded is empty.

Revision: 0006, after 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_KEY = ["session_id", "generation", "step", "subject"]
_OLD, _NEW = f"uq_llm_calls_{'_'.join(_KEY)}", f"uq_llm_calls_{'_'.join(_KEY)}_request_digest"
_JSON = (("sessions", "grounds"), ("generations", "versions"))


def upgrade() -> None:
    for table, name in _JSON:
        with op.batch_alter_table(table) as batch_op:
            batch_op.add_column(sa.Column(name, sa.JSON(), nullable=False, server_default="{}"))
            if table == "generations":
                batch_op.add_column(sa.Column("git_sha", sa.Text(), nullable=True))
        with op.batch_alter_table(table) as batch_op:  # a new row says its own
            batch_op.alter_column(name, existing_type=sa.JSON(), existing_nullable=False, server_default=None)
    with op.batch_alter_table("llm_calls") as batch_op:
        batch_op.drop_constraint(op.f(_OLD), type_="unique")
        batch_op.create_unique_constraint(op.f(_NEW), [*_KEY, "request_digest"])


def downgrade() -> None:
    """Of calls that differ in what was asked, the last one stays: its reply was used."""
    same = " AND ".join(f"other.{name} = llm_calls.{name}" for name in _KEY)
    op.execute(
        f"DELETE FROM llm_calls WHERE EXISTS (SELECT 1 FROM llm_calls other WHERE {same}"  # noqa: S608 - names of ours
        " AND (other.created_at > llm_calls.created_at"
        " OR other.created_at = llm_calls.created_at AND other.id > llm_calls.id))"
    )
    with op.batch_alter_table("llm_calls") as batch_op:
        batch_op.drop_constraint(op.f(_NEW), type_="unique")
        batch_op.create_unique_constraint(op.f(_OLD), _KEY)
    for table, name in reversed(_JSON):
        with op.batch_alter_table(table) as batch_op:
            batch_op.drop_column(name)
            if table == "generations":
                batch_op.drop_column("git_sha")

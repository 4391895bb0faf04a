"""The first schema.

Revision: 0001, the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("split", sa.String(length=32), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("role IN ('id', 'outlier')", name=op.f("ck_datasets_role")),
        sa.CheckConstraint("split IN ('fit', 'feedback', 'test')", name=op.f("ck_datasets_split")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("digest", "name", "split", "role", name=op.f("uq_datasets_digest_name_split_role")),
    )
    op.create_table(
        "encoders",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("pretrained", sa.Text(), nullable=True),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("logit_scale", sa.Double(), nullable=False),
        sa.Column("image_size", sa.Integer(), nullable=False),
        sa.Column("precision", sa.String(length=32), nullable=False),
        sa.Column("weights_digest", sa.Text(), nullable=False),
        sa.Column("preprocess_digest", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_encoders")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("git_sha", sa.Text(), nullable=True),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("encoder_digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("status IN ('running', 'paused', 'finished', 'failed')", name=op.f("ck_sessions_status")),
        sa.ForeignKeyConstraint(
            ["encoder_digest"], ["encoders.digest"], name=op.f("fk_sessions_encoder_digest_encoders")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("name", name=op.f("uq_sessions_name")),
    )
    op.create_table(
        "generations",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("session_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.String(length=36), nullable=True),
        sa.Column("prompt_version", sa.Integer(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("guideline", sa.Text(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["generations.id"], name=op.f("fk_generations_parent_id_generations")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_generations_session_id_sessions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generations")),
        sa.UniqueConstraint("session_id", "number", name=op.f("uq_generations_session_id_number")),
    )
    op.create_table(
        "llm_calls",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("session_id", sa.String(length=36), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("request_digest", sa.String(length=64), nullable=False),
        sa.Column("request_text", sa.Text(), nullable=False),
        sa.Column("reply_text", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("reply_text IS NOT NULL OR error IS NOT NULL", name=op.f("ck_llm_calls_replied_or_failed")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_llm_calls_session_id_sessions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_llm_calls")),
        sa.UniqueConstraint(
            "session_id", "generation", "step", "subject", name=op.f("uq_llm_calls_session_id_generation_step_subject")
        ),
    )
    op.create_table(
        "prompts",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("session_id", sa.String(length=36), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("parent_version", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id", "parent_version", "step"],
            ["prompts.session_id", "prompts.version", "prompts.step"],
            name=op.f("fk_prompts_session_id_parent_version_step_prompts"),
        ),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_prompts_session_id_sessions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompts")),
        sa.UniqueConstraint("session_id", "version", "step", name=op.f("uq_prompts_session_id_version_step")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("config_digest", sa.String(length=64), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("git_sha", sa.Text(), nullable=True),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("session_id", sa.String(length=36), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('running', 'finished', 'failed')", name=op.f("ck_runs_status")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_runs_session_id_sessions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_runs_config_digest"), ["config_digest"], unique=False)

    op.create_table(
        "antibodies",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("generation_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("guards", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("rationale", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("cosine", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('look_alike', 'contextual')", name=op.f("ck_antibodies_kind")),
        sa.CheckConstraint("status IN ('accepted', 'rejected')", name=op.f("ck_antibodies_status")),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name=op.f("fk_antibodies_generation_id_generations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_antibodies")),
        sa.UniqueConstraint("generation_id", "digest", name=op.f("uq_antibodies_generation_id_digest")),
        sa.UniqueConstraint("generation_id", "position", name=op.f("uq_antibodies_generation_id_position")),
    )
    op.create_table(
        "results",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("ood", sa.Text(), nullable=False),
        sa.Column("n_id", sa.Integer(), nullable=False),
        sa.Column("n_ood", sa.Integer(), nullable=False),
        sa.Column("auroc", sa.Double(), nullable=True),
        sa.Column("auroc_kind", sa.String(length=6), nullable=False),
        sa.Column("aupr_in", sa.Double(), nullable=True),
        sa.Column("aupr_in_kind", sa.String(length=6), nullable=False),
        sa.Column("aupr_out", sa.Double(), nullable=True),
        sa.Column("aupr_out_kind", sa.String(length=6), nullable=False),
        sa.Column("fpr95_id", sa.Double(), nullable=True),
        sa.Column("fpr95_id_kind", sa.String(length=6), nullable=False),
        sa.Column("fpr95_ood", sa.Double(), nullable=True),
        sa.Column("fpr95_ood_kind", sa.String(length=6), nullable=False),
        sa.Column("id_accuracy", sa.Double(), nullable=True),
        sa.Column("id_accuracy_kind", sa.String(length=6), nullable=False),
        sa.Column("antibodies", sa.Integer(), nullable=False),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.CheckConstraint("(aupr_in_kind = 'finite') = (aupr_in IS NOT NULL)", name=op.f("ck_results_aupr_in_finite")),
        sa.CheckConstraint(
            "(aupr_out_kind = 'finite') = (aupr_out IS NOT NULL)", name=op.f("ck_results_aupr_out_finite")
        ),
        sa.CheckConstraint("(auroc_kind = 'finite') = (auroc IS NOT NULL)", name=op.f("ck_results_auroc_finite")),
        sa.CheckConstraint(
            "(fpr95_id_kind = 'finite') = (fpr95_id IS NOT NULL)", name=op.f("ck_results_fpr95_id_finite")
        ),
        sa.CheckConstraint(
            "(fpr95_ood_kind = 'finite') = (fpr95_ood IS NOT NULL)", name=op.f("ck_results_fpr95_ood_finite")
        ),
        sa.CheckConstraint(
            "(id_accuracy_kind = 'finite') = (id_accuracy IS NOT NULL)", name=op.f("ck_results_id_accuracy_finite")
        ),
        sa.CheckConstraint("aupr_in_kind IN ('finite', 'nan', 'inf', '-inf')", name=op.f("ck_results_aupr_in_kind")),
        sa.CheckConstraint("aupr_out_kind IN ('finite', 'nan', 'inf', '-inf')", name=op.f("ck_results_aupr_out_kind")),
        sa.CheckConstraint("auroc_kind IN ('finite', 'nan', 'inf', '-inf')", name=op.f("ck_results_auroc_kind")),
        sa.CheckConstraint("fpr95_id_kind IN ('finite', 'nan', 'inf', '-inf')", name=op.f("ck_results_fpr95_id_kind")),
        sa.CheckConstraint(
            "fpr95_ood_kind IN ('finite', 'nan', 'inf', '-inf')", name=op.f("ck_results_fpr95_ood_kind")
        ),
        sa.CheckConstraint(
            "id_accuracy_kind IN ('finite', 'nan', 'inf', '-inf')", name=op.f("ck_results_id_accuracy_kind")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_results_run_id_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_results")),
        sa.UniqueConstraint("run_id", "method", "seed", "ood", name=op.f("uq_results_run_id_method_seed_ood")),
    )
    op.create_table(
        "test_reads",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("sets", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_test_reads_run_id_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_reads")),
    )
    with op.batch_alter_table("test_reads", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_test_reads_run_id"), ["run_id"], unique=False)

    op.create_table(
        "effects",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("generation_id", sa.String(length=36), nullable=False),
        sa.Column("antibody_id", sa.String(length=36), nullable=True),
        sa.Column("scope", sa.String(length=32), nullable=False),
        sa.Column("outlier_set", sa.Text(), nullable=False),
        sa.Column("split", sa.String(length=32), nullable=False),
        sa.Column("gain", sa.Double(), nullable=True),
        sa.Column("gain_kind", sa.String(length=6), nullable=False),
        sa.Column("harm", sa.Double(), nullable=True),
        sa.Column("harm_kind", sa.String(length=6), nullable=False),
        sa.Column("d_fpr95", sa.Double(), nullable=True),
        sa.Column("d_fpr95_kind", sa.String(length=6), nullable=False),
        sa.Column("d_auroc", sa.Double(), nullable=True),
        sa.Column("d_auroc_kind", sa.String(length=6), nullable=False),
        sa.Column("d_id_accuracy", sa.Double(), nullable=True),
        sa.Column("d_id_accuracy_kind", sa.String(length=6), nullable=False),
        sa.Column("fired_id", sa.Integer(), nullable=False),
        sa.Column("fired_outliers", sa.Integer(), nullable=False),
        sa.CheckConstraint("(d_auroc_kind = 'finite') = (d_auroc IS NOT NULL)", name=op.f("ck_effects_d_auroc_finite")),
        sa.CheckConstraint("(d_fpr95_kind = 'finite') = (d_fpr95 IS NOT NULL)", name=op.f("ck_effects_d_fpr95_finite")),
        sa.CheckConstraint(
            "(d_id_accuracy_kind = 'finite') = (d_id_accuracy IS NOT NULL)",
            name=op.f("ck_effects_d_id_accuracy_finite"),
        ),
        sa.CheckConstraint("(gain_kind = 'finite') = (gain IS NOT NULL)", name=op.f("ck_effects_gain_finite")),
        sa.CheckConstraint("(harm_kind = 'finite') = (harm IS NOT NULL)", name=op.f("ck_effects_harm_finite")),
        sa.CheckConstraint("(scope = 'bank') = (antibody_id IS NULL)", name=op.f("ck_effects_bank_has_no_antibody")),
        sa.CheckConstraint("d_auroc_kind IN ('finite', 'nan', 'inf', '-inf')", name=op.f("ck_effects_d_auroc_kind")),
        sa.CheckConstraint("d_fpr95_kind IN ('finite', 'nan', 'inf', '-inf')", name=op.f("ck_effects_d_fpr95_kind")),
        sa.CheckConstraint(
            "d_id_accuracy_kind IN ('finite', 'nan', 'inf', '-inf')", name=op.f("ck_effects_d_id_accuracy_kind")
        ),
        sa.CheckConstraint("gain_kind IN ('finite', 'nan', 'inf', '-inf')", name=op.f("ck_effects_gain_kind")),
        sa.CheckConstraint("harm_kind IN ('finite', 'nan', 'inf', '-inf')", name=op.f("ck_effects_harm_kind")),
        sa.CheckConstraint("scope IN ('solo', 'leave_one_out', 'bank')", name=op.f("ck_effects_scope")),
        sa.CheckConstraint("split IN ('fit', 'feedback', 'test')", name=op.f("ck_effects_split")),
        sa.ForeignKeyConstraint(["antibody_id"], ["antibodies.id"], name=op.f("fk_effects_antibody_id_antibodies")),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name=op.f("fk_effects_generation_id_generations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_effects")),
        sa.UniqueConstraint(
            "generation_id",
            "antibody_id",
            "scope",
            "outlier_set",
            "split",
            name=op.f("uq_effects_generation_id_antibody_id_scope_outlier_set_split"),
        ),
    )
    with op.batch_alter_table("effects", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_effects_antibody_id"), ["antibody_id"], unique=False)
        batch_op.create_index(
            "ux_effects_bank",
            ["generation_id", "outlier_set", "split"],
            unique=True,
            sqlite_where=sa.text("antibody_id IS NULL"),
            postgresql_where=sa.text("antibody_id IS NULL"),
        )

    op.create_table(
        "embeddings",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("antibody_id", sa.String(length=36), nullable=False),
        sa.Column("generation_id", sa.String(length=36), nullable=False),
        sa.Column("encoder_digest", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("parent_id", sa.String(length=36), nullable=True),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("dtype", sa.String(length=32), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("kind IN ('proposed', 'matured')", name=op.f("ck_embeddings_kind")),
        sa.ForeignKeyConstraint(["antibody_id"], ["antibodies.id"], name=op.f("fk_embeddings_antibody_id_antibodies")),
        sa.ForeignKeyConstraint(
            ["encoder_digest"], ["encoders.digest"], name=op.f("fk_embeddings_encoder_digest_encoders")
        ),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name=op.f("fk_embeddings_generation_id_generations")
        ),
        sa.ForeignKeyConstraint(["parent_id"], ["embeddings.id"], name=op.f("fk_embeddings_parent_id_embeddings")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embeddings")),
        sa.UniqueConstraint(
            "antibody_id",
            "generation_id",
            "kind",
            "encoder_digest",
            name=op.f("uq_embeddings_antibody_id_generation_id_kind_encoder_digest"),
        ),
    )
    op.create_table(
        "verdicts",
        sa.Column("generation_id", sa.String(length=36), nullable=False),
        sa.Column("set_name", sa.Text(), nullable=False),
        sa.Column("sample_id", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("score_kind", sa.String(length=6), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("nearest_class", sa.Text(), nullable=False),
        sa.Column("nearest_antibody_id", sa.String(length=36), nullable=True),
        sa.CheckConstraint("(score_kind = 'finite') = (score IS NOT NULL)", name=op.f("ck_verdicts_score_finite")),
        sa.CheckConstraint("score_kind IN ('finite', 'nan', 'inf', '-inf')", name=op.f("ck_verdicts_score_kind")),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name=op.f("fk_verdicts_generation_id_generations")
        ),
        sa.ForeignKeyConstraint(
            ["nearest_antibody_id"], ["antibodies.id"], name=op.f("fk_verdicts_nearest_antibody_id_antibodies")
        ),
        sa.PrimaryKeyConstraint("generation_id", "set_name", "sample_id", name=op.f("pk_verdicts")),
    )
    op.create_table(
        "bank_members",
        sa.Column("generation_id", sa.String(length=36), nullable=False),
        sa.Column("antibody_id", sa.String(length=36), nullable=False),
        sa.Column("embedding_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(
            ["antibody_id"], ["antibodies.id"], name=op.f("fk_bank_members_antibody_id_antibodies")
        ),
        sa.ForeignKeyConstraint(
            ["embedding_id"], ["embeddings.id"], name=op.f("fk_bank_members_embedding_id_embeddings")
        ),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name=op.f("fk_bank_members_generation_id_generations")
        ),
        sa.PrimaryKeyConstraint("generation_id", "antibody_id", name=op.f("pk_bank_members")),
    )


def downgrade() -> None:
    op.drop_table("bank_members")
    op.drop_table("verdicts")
    op.drop_table("embeddings")
    with op.batch_alter_table("effects", schema=None) as batch_op:
        batch_op.drop_index(
            "ux_effects_bank",
            sqlite_where=sa.text("antibody_id IS NULL"),
            postgresql_where=sa.text("antibody_id IS NULL"),
        )
        batch_op.drop_index(batch_op.f("ix_effects_antibody_id"))

    op.drop_table("effects")
    with op.batch_alter_table("test_reads", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_test_reads_run_id"))

    op.drop_table("test_reads")
    op.drop_table("results")
    op.drop_table("antibodies")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_runs_config_digest"))

    op.drop_table("runs")
    op.drop_table("prompts")
    op.drop_table("llm_calls")
    op.drop_table("generations")
    op.drop_table("sessions")
    op.drop_table("encoders")
    op.drop_table("datasets")

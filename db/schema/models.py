"""The tables. One schema for SQLite and PostgreSQL: portable types, named constraints, text keys that sort by time.

Keys are UUIDs of version 7 in their usual 36 characters, the same in every database and on the screen, so that
databases can be merged and ids pasted. Unique keys say what a repeated write would repeat. NULL is a number that
is undefined, or was not measured.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, get_args

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from db.records import RunStatus, SessionStatus
from db.schema.types import LosslessText, Measured, StrictJson, UtcDateTime
from immuno_core.records import AntibodyKind, AntibodyRelation, AntibodyStatus, Split

Key = Annotated[str, mapped_column(String(36))]
PrimaryKey = Annotated[str, mapped_column(String(36), primary_key=True)]
Digest = Annotated[str, mapped_column(String(64))]
Word = Annotated[str, mapped_column(String(32))]
"""One of a few words fixed by the program."""
Seed = Annotated[int, mapped_column(BigInteger)]
Number = Annotated[float, mapped_column(Measured(), nullable=True)]
"""NULL where it is undefined."""


class Base(DeclarativeBase):
    """The base of every table: one naming convention, one mapping from Python types to columns."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it as a plain class attribute)
        str: LosslessText(),
        float: Double(),
        datetime: UtcDateTime(),
        dict[str, Any]: StrictJson(),
        dict[str, str]: StrictJson(),
        list[str]: StrictJson(),
    }


def one_of(column: str, words: tuple[str, ...]) -> CheckConstraint:
    """The column holds one of the words."""
    return CheckConstraint(f"{column} IN ({', '.join(repr(word) for word in words)})", name=column)


class Encoder(Base):
    """What fixes an embedding (immuno_core.records.EncoderInfo)."""

    __tablename__ = "encoders"

    digest: Mapped[Digest] = mapped_column(primary_key=True)
    model: Mapped[str]
    pretrained: Mapped[str | None]
    dim: Mapped[int]
    logit_scale: Mapped[float]
    image_size: Mapped[int]
    precision: Mapped[Word]
    weights_digest: Mapped[str]
    preprocess_digest: Mapped[str]
    created_at: Mapped[datetime]


class Dataset(Base):
    """An image set as it was when it was used."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("digest", "name", "split", "role"),
        one_of("split", get_args(Split)),
        one_of("role", ("id", "outlier")),
    )

    id: Mapped[PrimaryKey]
    digest: Mapped[str]
    name: Mapped[str]
    split: Mapped[Word]
    role: Mapped[Word]
    count: Mapped[int]
    created_at: Mapped[datetime]


class Session(Base):
    """A resumable refinement run. It may start from a generation of another session, which may be elsewhere: no key.

    `grounds` says its classes, and of each set of fit and feedback what tells whether it is still the same; empty where
    that was not recorded.
    """

    __tablename__ = "sessions"
    __table_args__ = (UniqueConstraint("name"), one_of("status", get_args(SessionStatus)))

    id: Mapped[PrimaryKey]
    name: Mapped[str]
    status: Mapped[Word]
    config: Mapped[dict[str, Any]]
    seed: Mapped[Seed]
    git_sha: Mapped[str | None]
    versions: Mapped[dict[str, str]]
    encoder_digest: Mapped[Digest] = mapped_column(ForeignKey("encoders.digest"))
    llm: Mapped[str | None]
    parent_generation_id: Mapped[Key | None]
    grounds: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Prompt(Base):
    """The text of one step in one version of a session's prompt. A step that is new in its version has no parent."""

    __tablename__ = "prompts"
    __table_args__ = (
        UniqueConstraint("session_id", "version", "step"),
        ForeignKeyConstraint(
            ["session_id", "parent_version", "step"], ["prompts.session_id", "prompts.version", "prompts.step"]
        ),
    )

    id: Mapped[PrimaryKey]
    session_id: Mapped[Key] = mapped_column(ForeignKey("sessions.id"))
    version: Mapped[int]
    step: Mapped[str]
    text: Mapped[str]
    parent_version: Mapped[int | None]
    reason: Mapped[str]
    created_at: Mapped[datetime]


class Generation(Base):
    """One round of the loop. Its prompt version is in `prompts`, where it has one row per step.

    `git_sha` and `versions` are those it was made with, which may be others than its session began with.
    """

    __tablename__ = "generations"
    __table_args__ = (UniqueConstraint("session_id", "number"),)

    id: Mapped[PrimaryKey]
    session_id: Mapped[Key] = mapped_column(ForeignKey("sessions.id"))
    number: Mapped[int]
    parent_id: Mapped[Key | None] = mapped_column(ForeignKey("generations.id"))
    prompt_version: Mapped[int]
    accepted: Mapped[bool]
    reason: Mapped[str]
    guideline: Mapped[str]
    metrics: Mapped[dict[str, Any]]
    random_state: Mapped[dict[str, Any]]
    git_sha: Mapped[str | None]
    versions: Mapped[dict[str, str]]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]


class Antibody(Base):
    """An antibody as proposed, kept or not. `digest` stands for (text, guards, *samples), too long for an index.

    `samples` ("set/image") are those of a visual one, which has no text.

    What it was made from may be an antibody of another session, and that in another database: hence no foreign key.
    """

    __tablename__ = "antibodies"
    __table_args__ = (
        UniqueConstraint("generation_id", "digest"),
        UniqueConstraint("generation_id", "position"),
        # By hash on PostgreSQL, where a B-tree takes no text above 2.7 kB.
        Index(None, "text", postgresql_using="hash"),
        one_of("kind", get_args(AntibodyKind)),
        one_of("status", get_args(AntibodyStatus)),
        one_of("relation", get_args(AntibodyRelation)),
        CheckConstraint("(relation IS NULL) = (parent_id IS NULL)", name="relation_to_a_parent"),
    )

    id: Mapped[PrimaryKey]
    generation_id: Mapped[Key] = mapped_column(ForeignKey("generations.id"))
    position: Mapped[int]
    text: Mapped[str]
    kind: Mapped[Word]
    guards: Mapped[str]
    digest: Mapped[Digest]
    rationale: Mapped[str]
    status: Mapped[Word]
    reason: Mapped[str]
    cosine: Mapped[float | None]
    origin: Mapped[str]
    parent_id: Mapped[Key | None] = mapped_column(index=True)
    relation: Mapped[Word | None]
    samples: Mapped[list[str]]
    created_at: Mapped[datetime]


class Embedding(Base):
    """The vector of an antibody by an encoder: of its text, or, of one made by maturation, what that made of it."""

    __tablename__ = "embeddings"
    __table_args__ = (UniqueConstraint("antibody_id", "encoder_digest"),)

    id: Mapped[PrimaryKey]
    antibody_id: Mapped[Key] = mapped_column(ForeignKey("antibodies.id"))
    generation_id: Mapped[Key] = mapped_column(ForeignKey("generations.id"), index=True)
    encoder_digest: Mapped[Digest] = mapped_column(ForeignKey("encoders.digest"))
    dim: Mapped[int]
    dtype: Mapped[Word]
    vector: Mapped[bytes]


class BankMember(Base):
    """An antibody in force after a generation, with its embedding by the session's encoder."""

    __tablename__ = "bank_members"

    generation_id: Mapped[Key] = mapped_column(ForeignKey("generations.id"), primary_key=True)
    antibody_id: Mapped[Key] = mapped_column(ForeignKey("antibodies.id"), primary_key=True, index=True)


class Effect(Base):
    """A measured boundary effect (immuno_core.records.Effect) of an antibody; of a bank where `antibody_id` is NULL."""

    __tablename__ = "effects"
    __table_args__ = (
        UniqueConstraint("generation_id", "antibody_id", "scope", "outlier_set", "split"),
        # NULLs differ from one another in a unique key, so the effects of banks need their own.
        Index(
            "ux_effects_bank",
            "generation_id",
            "outlier_set",
            "split",
            unique=True,
            sqlite_where=text("antibody_id IS NULL"),
            postgresql_where=text("antibody_id IS NULL"),
        ),
        one_of("scope", ("solo", "leave_one_out", "bank")),
        one_of("split", get_args(Split)),
        CheckConstraint("(scope = 'bank') = (antibody_id IS NULL)", name="bank_has_no_antibody"),
    )

    id: Mapped[PrimaryKey]
    generation_id: Mapped[Key] = mapped_column(ForeignKey("generations.id"))
    antibody_id: Mapped[Key | None] = mapped_column(ForeignKey("antibodies.id"), index=True)
    scope: Mapped[Word]
    outlier_set: Mapped[str]
    split: Mapped[Word]
    gain: Mapped[Number]
    harm: Mapped[Number]
    d_fpr95: Mapped[Number]
    d_auroc: Mapped[Number]
    d_id_accuracy: Mapped[Number]
    fired_id: Mapped[int]
    fired_outliers: Mapped[int]


class SampleList(Base):
    """Feedback samples of one set, at most 50,000, which generations judged: `names` (packed), in the order of a digest
    of each, of which the first 64 bits run from `first` to `last` (db.schema.packed)."""

    __tablename__ = "sample_lists"
    __table_args__ = (Index(None, "first", "last"),)

    digest: Mapped[Digest] = mapped_column(primary_key=True)
    set_name: Mapped[str]
    first: Mapped[Seed]
    last: Mapped[Seed]
    count: Mapped[int]
    names: Mapped[bytes]


class Verdicts(Base):
    """What a generation's boundary said of the samples of a list (immuno_core.records.Verdict): `judged` has 13 bytes
    for each, in the list's order, which name classes and antibodies by their place in `classes` and `antibodies`."""

    __tablename__ = "verdicts"

    generation_id: Mapped[Key] = mapped_column(ForeignKey("generations.id"), primary_key=True)
    samples_digest: Mapped[Digest] = mapped_column(ForeignKey("sample_lists.digest"), primary_key=True, index=True)
    classes: Mapped[list[str]]
    antibodies: Mapped[list[str]]
    judged: Mapped[bytes]


class LlmCall(Base):
    """A call of the chat model, written before the generation that it belongs to: hence a number and no foreign key.

    `request_digest` and `cache_key` are equal where model, parameters and messages are; a call with `reused` took the
    reply of an earlier one with its key, and cost nothing. Where two versions asked differently for one generation,
    the last call of a step and subject is the one that was used. `seconds` is how long the reply took. Only before
    schema 0005 a call without a reply was recorded, with its `error` (now among the parameters).
    """

    __tablename__ = "llm_calls"
    __table_args__ = (UniqueConstraint("session_id", "generation", "step", "subject", "request_digest"),)

    id: Mapped[PrimaryKey]
    session_id: Mapped[Key] = mapped_column(ForeignKey("sessions.id"))
    generation: Mapped[int]
    step: Mapped[str]
    subject: Mapped[str]
    request_digest: Mapped[Digest]
    request_text: Mapped[str]
    reply_text: Mapped[str | None]
    model: Mapped[str]
    parameters: Mapped[dict[str, Any]]
    cache_key: Mapped[Digest | None] = mapped_column(index=True)
    reused: Mapped[bool]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    cost_usd: Mapped[float | None]
    seconds: Mapped[float | None]
    created_at: Mapped[datetime]


class Run(Base):
    """A run of a benchmark."""

    __tablename__ = "runs"
    __table_args__ = (one_of("status", get_args(RunStatus)),)

    id: Mapped[PrimaryKey]
    config: Mapped[dict[str, Any]]
    config_digest: Mapped[Digest] = mapped_column(index=True)
    seed: Mapped[Seed]
    git_sha: Mapped[str | None]
    versions: Mapped[dict[str, str]]
    status: Mapped[Word]
    session_id: Mapped[Key | None] = mapped_column(ForeignKey("sessions.id"))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Result(Base):
    """One line of results.json (immuno_core.records.ResultRow), without its metrics."""

    __tablename__ = "results"
    __table_args__ = (UniqueConstraint("run_id", "method", "seed", "ood"),)

    id: Mapped[PrimaryKey]
    run_id: Mapped[Key] = mapped_column(ForeignKey("runs.id"))
    method: Mapped[str]
    params: Mapped[dict[str, Any]]
    seed: Mapped[Seed]
    ood: Mapped[str]
    n_id: Mapped[int]
    n_ood: Mapped[int]
    antibodies: Mapped[int]
    extra: Mapped[dict[str, Any]]
    arm: Mapped[str]


class ResultMetric(Base):
    """A metric of a line of results, with its bootstrap interval where it has one; NULL where it is undefined."""

    __tablename__ = "result_metrics"

    result_id: Mapped[Key] = mapped_column(ForeignKey("results.id"), primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]


class TestRead(Base):
    """One opening of the sealed split: when, by which run, which sets, why."""

    __tablename__ = "test_reads"
    __test__ = False  # not a pytest class

    id: Mapped[PrimaryKey]
    run_id: Mapped[Key] = mapped_column(ForeignKey("runs.id"), index=True)
    sets: Mapped[list[str]]
    reason: Mapped[str]
    at: Mapped[datetime]

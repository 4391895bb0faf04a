"""Every SELECT, from rows to the records of db.records. The order of an answer is fixed, and the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVarTuple

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session as Transaction
from sqlalchemy.orm import aliased

from db.records import (
    AntibodyRecord,
    EffectRecord,
    GenerationRecord,
    LlmCallRecord,
    PromptRecord,
    RunRecord,
    SessionRecord,
    TestReadRecord,
)
from db.schema import models as m
from db.schema.forms import are_metrics
from db.schema.packed import ACCEPTED, names_of, verdict_at
from db.schema.vectors import from_bytes
from immuno_core.errors import SetupError
from immuno_core.records import EncoderInfo, ResultRow, Verdict, described

if TYPE_CHECKING:
    from immuno_core.bank import Bank

Ts = TypeVarTuple("Ts")


def columns(row: m.Base, *without: str) -> dict[str, Any]:
    """The columns of an ORM row by name."""
    return {name: getattr(row, name) for name in row.__mapper__.column_attrs.keys() if name not in without}  # noqa: SIM118


def narrowed(query: Select[*Ts], wanted: Mapping[Any, Any]) -> Select[*Ts]:
    """Return the query with those of the conditions, column -> value, whose value is not None."""
    return query.where(*(column == value for column, value in wanted.items() if value is not None))


def sessions(transaction: Transaction, name: str | None = None) -> tuple[SessionRecord, ...]:
    """Return the sessions (or the one of that name), oldest first."""
    count = select(func.count()).where(m.Generation.session_id == m.Session.id).scalar_subquery()
    best = (
        select(func.max(m.Generation.number))
        .where(m.Generation.session_id == m.Session.id, m.Generation.accepted)
        .scalar_subquery()
    )
    branched, origin = aliased(m.Generation), aliased(m.Session)
    query = (
        select(m.Session, m.Encoder, count, best, origin.name, branched.number)
        .join(m.Encoder, m.Encoder.digest == m.Session.encoder_digest)
        .outerjoin(branched, branched.id == m.Session.parent_generation_id)
        .outerjoin(origin, origin.id == branched.session_id)
    )
    query = narrowed(query, {m.Session.name: name})
    return tuple(
        SessionRecord(
            **columns(session, "encoder_digest"),
            encoder=EncoderInfo(**columns(encoder, "digest", "created_at")),
            generations=generations,
            best=best_number,
            parent=None if parent is None else f"{parent}:{parent_number}",
        )
        for session, encoder, generations, best_number, parent, parent_number in transaction.execute(
            query.order_by(m.Session.created_at, m.Session.id)
        )
    )


def generations(
    transaction: Transaction,
    *,
    session_id: str | None = None,
    generation_id: str | None = None,
    number: int | None = None,
    accepted: bool | None = None,
) -> tuple[GenerationRecord, ...]:
    """Return generations by session and number."""
    parent = aliased(m.Generation)
    query = (
        select(m.Generation, m.Session.name.label("session"), parent.number.label("parent"), *_counts())
        .join(m.Session, m.Session.id == m.Generation.session_id)
        .outerjoin(parent, parent.id == m.Generation.parent_id)
        .order_by(m.Session.created_at, m.Session.id, m.Generation.number)
    )
    wanted = {m.Generation.session_id: session_id, m.Generation.id: generation_id, m.Generation.number: number}
    query = narrowed(query, wanted | {m.Generation.accepted: accepted})
    found = []
    for row in transaction.execute(query):
        values = dict(row._mapping)
        own = columns(values.pop("Generation"), "parent_id")
        if not are_metrics(own["metrics"]):  # of a row that older versions imported: one bad one hides no other
            own["metrics"] = {}
        found.append(GenerationRecord(**own, **values))
    return tuple(found)


def _counts() -> Iterator[Any]:
    """What a generation proposed, kept and left in force, and what its calls of the chat model cost."""

    def counted(name: str, *conditions: Any) -> Any:
        return select(func.count()).where(*conditions).scalar_subquery().label(name)

    def spent(column: Any, nothing: float) -> Any:
        total = func.coalesce(func.sum(column), nothing)
        return select(total).where(*called, m.LlmCall.reused.is_(False)).scalar_subquery().label(column.key)

    called = m.LlmCall.session_id == m.Generation.session_id, m.LlmCall.generation == m.Generation.number
    proposed = m.Antibody.generation_id == m.Generation.id
    yield counted("proposed", proposed)
    yield counted("kept", proposed, m.Antibody.status == "accepted")
    yield counted("bank", m.BankMember.generation_id == m.Generation.id)
    yield counted("calls", *called)
    yield spent(m.LlmCall.prompt_tokens, 0)
    yield spent(m.LlmCall.completion_tokens, 0)
    yield spent(m.LlmCall.cost_usd, 0.0)


def antibody_rows() -> Select[m.Antibody, int, str]:
    """Select every antibody with its generation's number and its session's name, in the order of their creation."""
    return (
        select(m.Antibody, m.Generation.number, m.Session.name)
        .join(m.Generation, m.Generation.id == m.Antibody.generation_id)
        .join(m.Session, m.Session.id == m.Generation.session_id)
        .order_by(m.Session.created_at, m.Session.id, m.Generation.number, m.Antibody.position)
    )


def antibodies(transaction: Transaction, rows: Select[m.Antibody, int, str]) -> tuple[AntibodyRecord, ...]:
    """Return the antibodies that a narrowed `antibody_rows` selects."""
    return tuple(antibody_record(*row) for row in transaction.execute(rows))


def antibody_record(antibody: m.Antibody, generation: int, session: str) -> AntibodyRecord:
    """Return the record of a row of `antibody_rows`."""
    return AntibodyRecord(
        **columns(antibody, "digest", "samples"),
        samples=tuple(antibody.samples),
        generation=generation,
        session=session,
    )


def effects(transaction: Transaction, wanted: Mapping[Any, Any], limit: int | None) -> tuple[EffectRecord, ...]:
    """Return the effects that fit (column -> value) by generation, in the order in which they were handed in."""
    query = (
        select(m.Effect, m.Generation.number, m.Session.name, m.Antibody)
        .join(m.Generation, m.Generation.id == m.Effect.generation_id)
        .join(m.Session, m.Session.id == m.Generation.session_id)
        .outerjoin(m.Antibody, m.Antibody.id == m.Effect.antibody_id)
        .order_by(m.Session.created_at, m.Session.id, m.Generation.number, m.Effect.id)
    )
    return tuple(
        EffectRecord(
            **columns(effect, "id"),
            generation=number,
            session=session,
            antibody_text=None if one is None else described(one.text, one.samples),
            guards=None if one is None else one.guards,
        )
        for effect, number, session, one in transaction.execute(narrowed(query, wanted).limit(limit))
    )


def verdicts(transaction: Transaction, generation_id: str) -> tuple[Verdict, ...]:
    """Return a generation's verdicts, by set and sample."""
    query = select(m.SampleList, m.Verdicts)
    found = [
        verdict_at(place, samples.set_name, name, columns(verdicts))
        for samples, verdicts in transaction.execute(_judging(query, generation_id))
        for place, name in enumerate(names_of(samples.names))
    ]
    # Sorted here: databases sort text each by its own rules.
    return tuple(sorted(found, key=lambda verdict: (verdict.set_name, verdict.sample_id)))


def accepted(transaction: Transaction, generation_id: str) -> dict[str, bytes]:
    """Return by set, for each sample that a generation judged, whether it was accepted: 0 or 1.

    Generations that judged the same samples have them in the same order.
    """
    found: dict[str, bytes] = {}
    query = select(m.SampleList.set_name, m.Verdicts.judged)
    for set_name, judged in transaction.execute(_judging(query, generation_id)).all():
        found[set_name] = found.get(set_name, b"") + judged[ACCEPTED]
    return found


def _judging(query: Select[*Ts], generation_id: str) -> Select[*Ts]:
    joined = query.select_from(m.Verdicts).join(m.SampleList, m.SampleList.digest == m.Verdicts.samples_digest)
    return joined.where(m.Verdicts.generation_id == generation_id).order_by(m.SampleList.first, m.SampleList.digest)


def prompts(transaction: Transaction, session_id: str | None) -> tuple[PromptRecord, ...]:
    """Return prompts by session, version, and the order in which they were handed in."""
    query = (
        select(m.Prompt, m.Session.name)
        .join(m.Session, m.Session.id == m.Prompt.session_id)
        .order_by(m.Session.created_at, m.Session.id, m.Prompt.version, m.Prompt.id)
    )
    query = narrowed(query, {m.Prompt.session_id: session_id})
    return tuple(
        PromptRecord(**columns(prompt, "session_id"), session=name) for prompt, name in transaction.execute(query)
    )


def bank(transaction: Transaction, generation_id: str) -> Bank:
    """Return the bank in force after a generation. Raises SetupError for an unknown generation."""
    encoder = transaction.execute(
        select(m.Encoder.digest, m.Encoder.dim)
        .join(m.Session, m.Session.encoder_digest == m.Encoder.digest)
        .join(m.Generation, m.Generation.session_id == m.Session.id)
        .where(m.Generation.id == generation_id)
    ).first()
    if encoder is None:
        raise SetupError(f"there is no generation with the id {generation_id!r}")
    query = (
        antibody_rows()
        .join(m.BankMember, m.BankMember.antibody_id == m.Antibody.id)
        .join(m.Embedding, m.Embedding.antibody_id == m.Antibody.id)
        .where(m.BankMember.generation_id == generation_id, m.Embedding.encoder_digest == encoder.digest)
        .add_columns(m.Embedding.vector)
    )
    from immuno_core.bank import Bank  # it loads NumPy

    rows = transaction.execute(query).all()
    antibodies = tuple(antibody_record(antibody, number, session) for antibody, number, session, _ in rows)
    return Bank(antibodies, from_bytes([vector for *_, vector in rows], encoder.dim))


def llm_calls(transaction: Transaction, session_id: str | None) -> tuple[LlmCallRecord, ...]:
    """Return a session's calls, or all, in the order in which they were made."""
    query = select(m.LlmCall).order_by(m.LlmCall.created_at, m.LlmCall.id)
    query = narrowed(query, {m.LlmCall.session_id: session_id})
    return tuple(LlmCallRecord(**columns(call)) for call in transaction.scalars(query))


def runs(transaction: Transaction) -> tuple[RunRecord, ...]:
    """Return runs, oldest first."""
    query = select(m.Run).order_by(m.Run.started_at, m.Run.id)
    return tuple(RunRecord(**columns(run)) for run in transaction.scalars(query))


def results(transaction: Transaction, run_id: str) -> tuple[ResultRow, ...]:
    """Return a run's lines, in the order in which they were saved."""
    query = select(m.Result).where(m.Result.run_id == run_id).order_by(m.Result.id)
    measured = select(m.ResultMetric).join(m.Result, m.Result.id == m.ResultMetric.result_id)
    metrics: dict[str, dict[str, float | None]] = {}
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    for row in transaction.scalars(measured.where(m.Result.run_id == run_id).order_by(m.ResultMetric.metric)):
        metrics.setdefault(row.result_id, {})[row.metric] = row.value
        if (row.low, row.high) != (None, None):
            low, high = (math.nan if end is None else end for end in (row.low, row.high))
            intervals.setdefault(row.result_id, {})[row.metric] = low, high
    return tuple(
        ResultRow(
            **columns(line, "id", "run_id"), metrics=metrics.get(line.id, {}), intervals=intervals.get(line.id, {})
        )
        for line in transaction.scalars(query)
    )


def test_reads(transaction: Transaction) -> tuple[TestReadRecord, ...]:
    """Return every opening of the sealed split, oldest first."""
    return tuple(
        TestReadRecord(**columns(row, "sets"), sets=tuple(row.sets))
        for row in transaction.scalars(select(m.TestRead).order_by(m.TestRead.at, m.TestRead.id))
    )

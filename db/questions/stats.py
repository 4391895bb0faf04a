"""How much of everything is in a database, or of one session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select

from db.schema import models as m
from db.schema.engine import reading
from db.store import AntibodyStore
from immuno_core.records import VISUAL


@dataclass(frozen=True, slots=True)
class Stat:
    """One number about a database."""

    name: str
    number: int


def stats(store: AntibodyStore, session_id: str | None = None) -> tuple[Stat, ...]:
    """Count sessions, generations, antibodies, embeddings, effects, verdicts, calls with their tokens, and runs."""
    with reading(store.engine) as transaction:
        return tuple(Stat(name, int(transaction.scalar(query) or 0)) for name, query in _queries(session_id))


def _queries(session_id: str | None) -> Iterator[tuple[str, Select[Any]]]:
    def of_session(query: Select[Any], column: Any) -> Select[Any]:
        return query if session_id is None else query.where(column == session_id)

    def of_generations(what: Any, table: Any, *conditions: ColumnElement[bool]) -> Select[Any]:
        query = select(what).select_from(table).where(*conditions)
        if session_id is None:
            return query
        own = select(m.Generation.id).where(m.Generation.session_id == session_id)
        return query.where(table.generation_id.in_(own))

    count = func.count()
    yield "sessions", of_session(select(count).select_from(m.Session), m.Session.id)
    generations = of_session(select(count).select_from(m.Generation), m.Generation.session_id)
    yield "generations", generations
    yield "generations accepted", generations.where(m.Generation.accepted)
    yield "prompts", of_session(select(count).select_from(m.Prompt), m.Prompt.session_id)
    yield "antibodies", of_generations(count, m.Antibody)
    yield "antibodies accepted", of_generations(count, m.Antibody, m.Antibody.status == "accepted")
    yield "look-alikes", of_generations(count, m.Antibody, m.Antibody.kind == "look_alike")
    yield "contextual", of_generations(count, m.Antibody, m.Antibody.kind == "contextual")
    yield "visual", of_generations(count, m.Antibody, m.Antibody.kind == VISUAL)
    yield "classes guarded", of_generations(func.count(m.Antibody.guards.distinct()), m.Antibody)
    yield "embeddings", of_generations(count, m.Embedding)
    yield "effects", of_generations(count, m.Effect)
    judged = of_generations(func.sum(m.SampleList.count), m.Verdicts)
    yield "verdicts", judged.join(m.SampleList, m.SampleList.digest == m.Verdicts.samples_digest)
    yield "calls", of_session(select(count).select_from(m.LlmCall), m.LlmCall.session_id)
    yield "prompt tokens", of_session(select(func.sum(m.LlmCall.prompt_tokens)), m.LlmCall.session_id)
    yield "completion tokens", of_session(select(func.sum(m.LlmCall.completion_tokens)), m.LlmCall.session_id)
    runs = of_session(select(m.Run.id), m.Run.session_id)
    yield "runs", select(count).select_from(runs.subquery())
    yield "results", select(count).select_from(m.Result).where(m.Result.run_id.in_(runs))
    yield "test reads", select(count).select_from(m.TestRead).where(m.TestRead.run_id.in_(runs))

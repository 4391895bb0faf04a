"""Calls of the chat model, many in one transaction; and where the same was asked before, in this session or another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Row, Select, select

from db import models as m
from db.engine import reading, writing
from db.store import AntibodyStore
from db.writing import insert_new, new_id, now


@dataclass(frozen=True, slots=True)
class CallDraft:
    """A call that was answered, to be recorded; what the columns of `llm_calls` mean is said in db.records."""

    generation: int
    step: str
    subject: str
    request_digest: str
    request_text: str
    reply_text: str
    model: str
    parameters: Mapping[str, Any]
    prompt_tokens: int | None
    completion_tokens: int | None
    reused: bool = False
    cost_usd: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A recorded reply, without what was asked."""

    reply_text: str
    prompt_tokens: int | None
    completion_tokens: int | None


def record_calls(store: AntibodyStore, session_id: str, calls: Sequence[CallDraft]) -> None:
    """Record calls in one transaction. Of two under one key (generation, step, subject) the first one stays."""
    time = now()
    rows = [
        {
            **{"id": new_id(), "session_id": session_id, "error": None, "created_at": time},
            **{"cache_key": call.request_digest, **asdict(call)},
        }
        for call in calls
    ]
    with writing(store.engine) as transaction:
        insert_new(transaction, m.LlmCall, rows)


def find_calls(
    store: AntibodyStore, session_id: str, generation: int, step: str, digests: Sequence[str]
) -> Mapping[str, StoredReply]:
    """Return digest -> the reply recorded for it in this generation and step of the session, where there is one."""
    query = _replies(digests).where(
        m.LlmCall.session_id == session_id, m.LlmCall.generation == generation, m.LlmCall.step == step
    )
    with reading(store.engine) as transaction:
        return _by_digest(transaction.execute(query).all())


def find_replies(store: AntibodyStore, digests: Sequence[str]) -> Mapping[str, StoredReply]:
    """Return digest -> the oldest reply recorded for it in any session, where there is one."""
    if not digests:
        return {}
    # By the cache key, which has an index; of several, the last one counts in the dictionary.
    query = (
        _replies(digests)
        .where(m.LlmCall.cache_key.in_(digests), m.LlmCall.reused.is_(False))
        .order_by(m.LlmCall.created_at.desc(), m.LlmCall.id.desc())
    )
    with reading(store.engine) as transaction:
        return _by_digest(transaction.execute(query).all())


def _by_digest(rows: Iterable[Row[str, str | None, int | None, int | None]]) -> dict[str, StoredReply]:
    return {
        digest: StoredReply(reply, prompt_tokens, completion_tokens)
        for digest, reply, prompt_tokens, completion_tokens in rows
        if reply is not None
    }


def _replies(digests: Sequence[str]) -> Select[str, str | None, int | None, int | None]:
    call = m.LlmCall
    return select(call.request_digest, call.reply_text, call.prompt_tokens, call.completion_tokens).where(
        call.request_digest.in_(digests), call.reply_text.is_not(None)
    )

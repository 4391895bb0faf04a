"""Calls of the chat model, many in one transaction; and where the same was asked before, in this session or another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Row, Select, select

from db.schema import models as m
from db.schema.engine import reading, writing
from db.store import AntibodyStore
from db.writing import insert_new, new_id, now
from immuno_core.errors import SetupError


@dataclass(frozen=True, slots=True)
class CallDraft:
    """A call to be recorded, with its reply; what the columns mean is said in db.records."""

    generation: int
    step: str
    subject: str
    request_digest: str
    """Of all that could change the reply; it is the cache key too."""
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
    """Record calls in one transaction. Of two under one key (generation, step, subject) the first one stays.

    Raises SetupError for a cost or a duration that is not a finite number.
    """
    time = now()
    for call in calls:
        for name, number in (("cost", call.cost_usd), ("duration", call.seconds)):
            if number is not None and not math.isfinite(number):
                raise SetupError(f"the {name} of a call cannot be {number}; use None where it is unknown")
    rows = [
        asdict(call) | {"id": new_id(), "session_id": session_id, "cache_key": call.request_digest, "created_at": time}
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

"""Calls of the chat model, many in one transaction; and where the same was asked before, in this session or another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, select

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
    call = m.LlmCall
    return _replies(store, digests, call.session_id == session_id, call.generation == generation, call.step == step)


def find_replies(store: AntibodyStore, digests: Sequence[str]) -> Mapping[str, StoredReply]:
    """Return digest -> the oldest reply recorded for it in any session, where there is one."""
    # By the cache key, which has an index.
    return _replies(store, digests, m.LlmCall.cache_key.in_(digests), m.LlmCall.reused.is_(False)) if digests else {}


def _replies(
    store: AntibodyStore, digests: Sequence[str], *conditions: ColumnElement[bool]
) -> Mapping[str, StoredReply]:
    call = m.LlmCall
    query: Select[*tuple[Any, ...]] = (
        select(call.request_digest, call.reply_text, call.prompt_tokens, call.completion_tokens)
        .where(call.request_digest.in_(digests), call.reply_text.is_not(None), *conditions)
        .order_by(call.created_at.desc(), call.id.desc())  # of several, the last one counts in the dictionary
    )
    with reading(store.engine) as transaction:
        return {digest: StoredReply(*reply) for digest, *reply in transaction.execute(query)}

"""Calls of the chat model, many in one transaction; and where the same was asked before, in this session or another."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, select

from db.schema import models as m
from db.schema.engine import BusyError, reading, writing
from db.store import AntibodyStore
from db.writing import insert_new, new_id, now
from immuno_core.errors import SetupError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CallDraft:
    """A call to be recorded, with its reply; what the columns mean is said in db.records."""

    generation: int
    step: str
    subject: str
    request_digest: str
    """Of all that could change the reply; part of the key, and the cache key too."""
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
    """Record calls in one transaction. Of two of one key (generation, step, subject, digest) the first one stays.

    The replies may have been paid for: while others write it waits, however long. Raises SetupError for a cost or a
    duration that is not a finite number.
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
    while True:
        try:
            with writing(store.engine) as transaction:
                insert_new(transaction, m.LlmCall, rows)
            return
        except BusyError as busy:
            _log.warning("%s; %d repl%s to record, waiting on", busy, len(rows), "y" if len(rows) == 1 else "ies")


def find_calls(
    store: AntibodyStore, session_id: str, generation: int, step: str, subjects: Sequence[str] | None = None
) -> Mapping[tuple[str, str], StoredReply]:
    """Return (subject, digest) -> the reply recorded in this generation and step of the session; default: of all."""
    call = m.LlmCall
    where = [call.session_id == session_id, call.generation == generation, call.step == step]
    if subjects is not None:
        where.append(call.subject.in_(subjects))
    return {(subject, digest): reply for subject, digest, reply in _replies(store, *where)}


def find_replies(store: AntibodyStore, digests: Sequence[str]) -> Mapping[str, StoredReply]:
    """Return digest -> the oldest reply recorded for it in any session, where there is one."""
    if not digests:
        return {}
    # By the cache key, which has an index.
    found = _replies(store, m.LlmCall.cache_key.in_(digests), m.LlmCall.reused.is_(False))
    return {digest: reply for _, digest, reply in found}


def _replies(store: AntibodyStore, *conditions: ColumnElement[bool]) -> list[tuple[str, str, StoredReply]]:
    """The subject, digest and reply of calls, the oldest last."""
    call = m.LlmCall
    query: Select[*tuple[Any, ...]] = (
        select(call.subject, call.request_digest, call.reply_text, call.prompt_tokens, call.completion_tokens)
        .where(call.reply_text.is_not(None), *conditions)
        .order_by(call.created_at.desc(), call.id.desc())
    )
    with reading(store.engine) as transaction:
        return [(subject, digest, StoredReply(*reply)) for subject, digest, *reply in transaction.execute(query)]

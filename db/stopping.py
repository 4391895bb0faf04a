"""Asking a session that another process runs, perhaps on another machine, to end after its generation.

The request is a row among the claims (db.claims): no part of the record, withdrawn when a run begins or has obeyed.
"""

from __future__ import annotations

from sqlalchemy import delete, select

from db.schema.engine import reading, writing
from db.schema.machinery import Claim
from db.store import AntibodyStore
from db.writing import insert_new, new_id, now

_REQUEST = "stop:"


def ask_to_stop(store: AntibodyStore, session_id: str) -> None:
    """Leave a request for whoever runs the session."""
    time = now()
    row = {"work": _work(session_id), "owner": new_id(), "claimed_at": time, "beat_at": time}
    with writing(store.engine) as transaction:
        insert_new(transaction, Claim, [row | {"host": "", "pid": 0, "boot": ""}])


def asked_to_stop(store: AntibodyStore, session_id: str) -> bool:
    """Whether somebody has asked, since the request was last withdrawn."""
    with reading(store.engine) as transaction:
        return transaction.scalar(select(Claim.work).where(Claim.work == _work(session_id))) is not None


def withdraw_stop(store: AntibodyStore, session_id: str) -> None:
    """Take the request back, where there is one."""
    with writing(store.engine) as transaction:
        transaction.execute(delete(Claim).where(Claim.work == _work(session_id)))


def is_request(work: str) -> bool:
    """Whether a claim on this work is a request to stop, which nobody is at work on."""
    return work.startswith(_REQUEST)


def _work(session_id: str) -> str:
    return f"{_REQUEST}{session_id}"

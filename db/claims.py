"""Claims on work: one process has it, says now and then that it lives, and another takes over when it has not.

Work is named by a text (`session_work(id)` for the running of a session). A claim holds nobody up by itself: who
finds the work taken goes elsewhere. After a crash it is free once its owner has been silent for `silence`. An owner
that was only slow learns from `beat` that it has been replaced, and stops; whatever both write meanwhile is
kept from harm by the unique keys (the storage contract). Times are the database's own on PostgreSQL, so that the
clocks of the machines need not agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import CursorResult, delete, func, select, update
from sqlalchemy.orm import Session as Transaction

from db.engine import reading, writing
from db.machinery import Claim
from db.store import AntibodyStore
from db.writing import insert_new, now

SILENCE = timedelta(seconds=60)
"""An owner that has not been heard of for so long is taken for dead; beat at least three times as often."""


@dataclass(frozen=True, slots=True)
class ClaimRecord:
    """Who has a piece of work, since when, and when the owner was last heard of."""

    work: str
    owner: str
    claimed_at: datetime
    beat_at: datetime


def session_work(session_id: str) -> str:
    """Return the name of the work of running a session."""
    return f"session:{session_id}"


def claim(store: AntibodyStore, work: str, owner: str, *, silence: timedelta = SILENCE) -> ClaimRecord:
    """Take work that is free, one's own, or of an owner silent for `silence`; return whose it is now.

    `owner` has to differ between processes that may compete (`db.store.new_id()`): it is compared with the answer's.
    """
    with writing(store.engine) as transaction:
        time = _time(transaction)
        row = {"work": work, "owner": owner, "host": "", "pid": 0, "boot": "", "claimed_at": time, "beat_at": time}
        while not insert_new(transaction, Claim, [row]):
            held = transaction.get(Claim, work, with_for_update=True)
            if held is None:  # given back at this moment
                continue
            time = _time(transaction)  # it may have taken a while to get the row
            if held.owner == owner:
                held.beat_at = time
            elif held.beat_at + silence <= time:
                held.owner, held.claimed_at, held.beat_at = owner, time, time
            break
        return _record(transaction.get_one(Claim, work))


def beat(store: AntibodyStore, work: str, owner: str) -> bool:
    """Say that the owner lives; False where the work is no longer its own."""
    with writing(store.engine) as transaction:
        mine = update(Claim).where(Claim.work == work, Claim.owner == owner)
        return _touched(transaction.execute(mine.values(beat_at=_time(transaction))))


def release(store: AntibodyStore, work: str, owner: str) -> bool:
    """Give the work back; False where it was no longer the owner's."""
    with writing(store.engine) as transaction:
        return _touched(transaction.execute(delete(Claim).where(Claim.work == work, Claim.owner == owner)))


def claims(store: AntibodyStore) -> tuple[ClaimRecord, ...]:
    """Return all claims, oldest first."""
    with reading(store.engine) as transaction:
        found = transaction.scalars(select(Claim).order_by(Claim.claimed_at))
        return tuple(_record(one) for one in found)


def _record(row: Claim) -> ClaimRecord:
    return ClaimRecord(row.work, row.owner, row.claimed_at, row.beat_at)


def _touched(result: object) -> bool:
    return isinstance(result, CursorResult) and result.rowcount == 1


def _time(transaction: Transaction) -> datetime:
    if transaction.connection().dialect.name == "sqlite":  # all its processes share this machine's clock
        return now()
    time = transaction.scalar(select(func.clock_timestamp()))
    assert isinstance(time, datetime)  # noqa: S101 (for mypy: PostgreSQL's clock always tells)
    return time

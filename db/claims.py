"""Claims on work: one process has it, says now and then that it lives, and another takes over when it has died.

Work is named by a text (`session_work(id)` for the running of a session). `held` is all that most callers need:

    with store.claim_session(session.id) as claim:
        for ...:
            claim.check()

Who finds the work taken gets an error that says by whom. After a crash the work is free at once for a process of the
same machine, which sees that the owner is gone, and for others once the owner has been silent for SILENCE. An owner
that was only slow learns from `check` that it has been replaced; whatever both write meanwhile is kept from harm by
the unique keys (the storage contract). Times are the database's own on PostgreSQL, so that the clocks of the machines
need not agree. A clock can be set, forward or back, while the owner lives: one that seems silent gets the time of two
beats more to show that it is not.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from threading import Event, Thread
from typing import Any

from sqlalchemy import CursorResult, Delete, Engine, delete, func, select, update
from sqlalchemy.orm import Session as Transaction

from db.schema.engine import reading, writing
from db.schema.machinery import Claim
from db.writing import insert_new, new_id, now
from immuno_core.errors import ImmunoError, SetupError

SILENCE = timedelta(seconds=60)
"""An owner that has not been heard of for so long is taken for dead."""
_BEATS = 6
"""In that time: some may come late or be lost."""
_LAST_BEAT_SECONDS = 5.0
_STOP = "stop:"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClaimRecord:
    """Who has a piece of work, since when, and when the owner was last heard of."""

    work: str
    owner: str
    host: str
    pid: int
    claimed_at: datetime
    beat_at: datetime


class ClaimLostError(ImmunoError):
    """Another process has taken the work over: this one was silent for too long, and must stop."""


class HeldClaim:
    """Work that is this process's own, as long as `check` says nothing else."""

    def __init__(self, engine: Engine, work: str, owner: str, what: str) -> None:
        self._engine, self._work, self._owner, self._what = engine, work, owner, what

    def check(self) -> None:
        """Raise ClaimLostError where another process has taken over. Call it between two pieces of the work."""
        if not self._is_mine():
            raise ClaimLostError(
                f"{self._what} was taken over by another process, because this one gave no sign of life for "
                f"{SILENCE.total_seconds():g} s; what it had stored is kept"
            )

    def asked_to_stop(self) -> bool:
        """Whether somebody has asked since the work was taken."""
        return asked_to_stop(self._engine, self._work)

    def _is_mine(self) -> bool:
        with reading(self._engine) as transaction:
            found = transaction.get(Claim, self._work)
            return found is not None and found.owner == self._owner


def session_work(session_id: str) -> str:
    """Return the name of the work of running a session."""
    return f"session:{session_id}"


@contextmanager
def held(engine: Engine, work: str, what: str, *, silence: timedelta = SILENCE) -> Iterator[HeldClaim]:
    """Have work (`what`, in words) while the context lasts; a thread says all the while that this process lives.

    Raises SetupError where another process that lives has it, naming machine and process id.
    """
    owner, stop = new_id(), Event()
    mine = HeldClaim(engine, work, owner, what)
    if _seems_silent(engine, work, silence):
        patience = 2 * silence.total_seconds() / _BEATS
        _log.warning("%s has an owner that was silent for long; waiting %.0f s for a sign of life", what, patience)
        stop.wait(patience)
    found = claim(engine, work, owner, silence=silence)
    if found.owner != owner:
        with reading(engine) as transaction:
            ago = max((_time(transaction) - found.beat_at).total_seconds(), 0.0)
        raise SetupError(
            f"{what} is running on {found.host} (pid {found.pid}), seen {ago:.0f} s ago; stop it there, or, if it "
            f"died, try again in {max(silence.total_seconds() - ago, 1):.0f} s"
        )

    def live() -> None:
        while not stop.wait(silence.total_seconds() / _BEATS):
            with suppress(ImmunoError):  # a server that is away for a moment; if it stays away, silence says so
                if not beat(engine, work, owner):
                    return

    heart = Thread(target=live, name=f"heartbeat of {work}", daemon=True)
    heart.start()
    try:
        yield mine
    finally:
        stop.set()
        heart.join(_LAST_BEAT_SECONDS)  # a beat that hangs must not keep the program
        with suppress(ImmunoError):  # it must not hide why the work ended; silence gives the claim back as well
            release(engine, work, owner)


def claim(engine: Engine, work: str, owner: str, *, silence: timedelta = SILENCE) -> ClaimRecord:
    """Take work that is free, one's own, or of an owner that is dead; return whose it is now.

    Dead is who was silent for `silence`, and a process of this machine that is no more. `owner` has to differ between
    those that may compete (`db.store.new_id()`): it is compared with the answer's. What was asked of an earlier owner
    (`ask_to_stop`) goes with him.
    """
    here = {"owner": owner, "host": socket.gethostname(), "pid": os.getpid(), "boot": _boot()}
    with writing(engine) as transaction:
        time = _time(transaction)
        while not (taken := bool(insert_new(transaction, Claim, [_row(work, time) | here]))):
            found = transaction.get(Claim, work, with_for_update=True)
            if found is None:  # given back at this moment
                continue
            time = _time(transaction)  # it may have taken a while to get the row
            if found.owner == owner:
                found.beat_at = time
            elif _is_silent(found, time, silence) or _is_gone(found):
                taken = True
                for name, value in (_row(work, time) | here).items():
                    setattr(found, name, value)
            break
        if taken:
            transaction.execute(_withdrawal(work))
        return _record(transaction.get_one(Claim, work))


def beat(engine: Engine, work: str, owner: str) -> bool:
    """Say that the owner lives; False where the work is no longer its own."""
    with writing(engine) as transaction:
        mine = update(Claim).where(Claim.work == work, Claim.owner == owner)
        return _touched(transaction.execute(mine.values(beat_at=_time(transaction))))


def release(engine: Engine, work: str, owner: str) -> bool:
    """Give the work back, and with it what was asked of its owner; False where it was no longer the owner's."""
    with writing(engine) as transaction:
        mine = _touched(transaction.execute(delete(Claim).where(Claim.work == work, Claim.owner == owner)))
        if mine:
            transaction.execute(_withdrawal(work))
        return mine


def claims(engine: Engine) -> tuple[ClaimRecord, ...]:
    """Return all claims, oldest first."""
    with reading(engine) as transaction:
        work = select(Claim).where(~Claim.work.startswith(_STOP)).order_by(Claim.claimed_at)
        return tuple(_record(row) for row in transaction.scalars(work))


def ask_to_stop(engine: Engine, work: str) -> None:
    """Ask whoever does the work, perhaps on another machine, to end it soon: a session after its generation.

    The request is a row among the claims. It goes when the work is taken or given back, and by nobody else's doing.
    """
    nobody = {"owner": new_id(), "host": "", "pid": 0, "boot": ""}
    with writing(engine) as transaction:
        insert_new(transaction, Claim, [_row(_STOP + work, now()) | nobody])


def asked_to_stop(engine: Engine, work: str) -> bool:
    """Whether somebody has asked whoever does the work to end it."""
    with reading(engine) as transaction:
        return transaction.get(Claim, _STOP + work) is not None


def _withdrawal(work: str) -> Delete:
    return delete(Claim).where(Claim.work == _STOP + work)


def _row(work: str, time: datetime) -> dict[str, Any]:
    return {"work": work, "claimed_at": time, "beat_at": time}


def _record(row: Claim) -> ClaimRecord:
    return ClaimRecord(row.work, row.owner, row.host, row.pid, row.claimed_at, row.beat_at)


@cache
def _boot() -> str:
    """Return what tells whether another's process id means something here: the machine's boot, and the namespace.

    Empty where the system does not say; then only silence tells that a process is dead.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _seems_silent(engine: Engine, work: str, silence: timedelta) -> bool:
    """Whether nothing but the clock says that the owner of the work is dead."""
    with reading(engine) as transaction:
        found = transaction.get(Claim, work)
        return found is not None and _is_silent(found, _time(transaction), silence) and not _is_gone(found)


def _is_silent(found: Claim, time: datetime, silence: timedelta) -> bool:
    """Whether the owner was heard of too long ago, or at a time that the clock, set back since, has not reached yet."""
    return abs(time - found.beat_at) >= silence


def _is_gone(found: Claim) -> bool:
    """Whether the owner was a process of this machine, and is no more. (Of a number given anew, silence tells.)"""
    import psutil

    if not found.boot or found.boot != _boot():
        return False
    try:
        return bool(psutil.Process(found.pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _touched(result: object) -> bool:
    return isinstance(result, CursorResult) and result.rowcount == 1


def _time(transaction: Transaction) -> datetime:
    if transaction.connection().dialect.name == "sqlite":  # all its processes share this machine's clock
        return now()
    time = transaction.scalar(select(func.clock_timestamp()))
    assert isinstance(time, datetime)  # noqa: S101 (for mypy: PostgreSQL's clock always tells)
    return time

"""Claims on work: one owner at a time, signs of life, takeover after death or silence; who was replaced learns it."""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from threading import Event

import pytest
from sqlalchemy import text, update

from db.claims import (
    SILENCE,
    ClaimLostError,
    ask_to_stop,
    asked_to_stop,
    beat,
    claim,
    claims,
    held,
    release,
    session_work,
)
from db.records import SessionRecord
from db.schema.engine import writing
from db.schema.machinery import Claim
from db.store import AntibodyStore
from immuno_core.errors import SetupError

from .workers import start

NONE = timedelta(0)
"""A silence after which everybody is taken for dead at once."""
SHORT = timedelta(seconds=0.3)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def change(store: AntibodyStore, **values: object) -> None:
    with writing(store.engine) as transaction:
        changes = ", ".join(f"{name} = :{name}" for name in values)
        transaction.execute(text(f"UPDATE claims SET {changes}"), values)  # noqa: S608 (names of columns, above)


def test_work_has_one_owner_until_it_is_given_back(store: AntibodyStore) -> None:
    first = claim(store.engine, "w", "a")
    assert (first.work, first.owner, first.host, first.pid) == ("w", "a", socket.gethostname(), os.getpid())
    assert claim(store.engine, "w", "b") == first
    assert claim(store.engine, "other", "b").owner == "b"
    assert not release(store.engine, "w", "b")
    assert release(store.engine, "w", "a")
    assert claim(store.engine, "w", "b").owner == "b"
    assert [one.work for one in claims(store.engine)] == ["other", "w"]


def test_claiming_again_and_a_beat_are_signs_of_life(store: AntibodyStore) -> None:
    first = claim(store.engine, "w", "a")
    time.sleep(0.002)
    again = claim(store.engine, "w", "a")
    assert again.claimed_at == first.claimed_at
    assert again.beat_at > first.beat_at
    time.sleep(0.002)
    assert beat(store.engine, "w", "a")
    (stored,) = claims(store.engine)
    assert stored.beat_at > again.beat_at
    assert claim(store.engine, "w", "b", silence=timedelta(minutes=1)).owner == "a"


def test_who_was_silent_is_replaced(store: AntibodyStore) -> None:
    first = claim(store.engine, "w", "a")
    assert claim(store.engine, "w", "b", silence=SILENCE).owner == "a"
    taken = claim(store.engine, "w", "b", silence=NONE)
    assert taken.owner == "b"
    assert taken.claimed_at > first.claimed_at
    assert not beat(store.engine, "w", "a")
    assert not release(store.engine, "w", "a")
    assert beat(store.engine, "w", "b")


def test_nothing_beats_for_work_that_nobody_has(store: AntibodyStore) -> None:
    assert not beat(store.engine, "w", "a")
    assert not release(store.engine, "w", "a")
    assert claims(store.engine) == ()


def test_held_work_gives_signs_of_life_and_is_given_back(store: AntibodyStore) -> None:
    with held(store.engine, "w", "the work", silence=SHORT) as mine:
        (first,) = claims(store.engine)
        wait_until(lambda: claims(store.engine)[0].beat_at > first.beat_at)
        mine.check()
    assert claims(store.engine) == ()


def test_work_is_given_back_whatever_ends_it(store: AntibodyStore) -> None:
    with pytest.raises(KeyboardInterrupt), held(store.engine, "w", "the work"):
        raise KeyboardInterrupt
    assert claims(store.engine) == ()


def test_a_sign_of_life_that_hangs_keeps_nobody(store: AntibodyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, over = Event(), Event()

    def hang(*_: object) -> bool:
        begun.set()
        return over.wait(60)

    monkeypatch.setattr("db.claims.beat", hang)
    monkeypatch.setattr("db.claims._LAST_BEAT_SECONDS", 0.05)
    before = time.monotonic()
    with held(store.engine, "w", "the work", silence=SHORT):
        assert begun.wait(10)
    assert time.monotonic() - before < 10
    assert claims(store.engine) == ()
    over.set()


def test_who_is_replaced_learns_it_and_takes_nothing_away(store: AntibodyStore) -> None:
    def lost() -> bool:
        try:
            mine.check()
        except ClaimLostError:
            return True
        return False

    with held(store.engine, "w", "the work", silence=SHORT) as mine:
        change(store, owner="b")
        wait_until(lost)
        with pytest.raises(ClaimLostError, match="the work was taken over by another process"):
            mine.check()
    assert [one.owner for one in claims(store.engine)] == ["b"]


def test_who_was_suspended_learns_at_once_that_it_was_replaced(store: AntibodyStore) -> None:
    """Its heart has not beaten since."""
    with held(store.engine, "w", "the work") as mine:
        mine.check()
        change(store, owner="b")
        with pytest.raises(ClaimLostError, match="the work was taken over by another process"):
            mine.check()


def test_a_request_to_stop_goes_when_the_work_is_taken_or_given_back_and_not_before(store: AntibodyStore) -> None:
    engine = store.engine
    ask_to_stop(engine, "w")
    with held(engine, "w", "the work") as mine:
        assert not mine.asked_to_stop()  # it was asked of an earlier owner
        ask_to_stop(engine, "w")
        ask_to_stop(engine, "w")
        with pytest.raises(SetupError, match="is running"), held(engine, "w", "the work"):
            pass
        assert not release(engine, "w", "somebody else")
        claim(engine, "w", mine_of(store))
        assert mine.asked_to_stop()
        claim(engine, "other", "x")
        assert release(engine, "other", "x")
        assert mine.asked_to_stop()
    assert not asked_to_stop(engine, "w")
    claim(engine, "w", "dead", silence=NONE)
    ask_to_stop(engine, "w")
    assert claim(engine, "w", "b", silence=NONE).owner == "b"
    assert not asked_to_stop(engine, "w")


def mine_of(store: AntibodyStore) -> str:
    """The owner of the work "w"."""
    return next(one.owner for one in claims(store.engine) if one.work == "w")


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_was_set_takes_no_work_from_who_lives_and_keeps_none_from_others(
    store: AntibodyStore, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """The last beat is an hour ahead, or an hour ago, by the clock of now."""

    def set_clock() -> None:
        beaten = claims(store.engine)[0].beat_at + timedelta(hours=hours)
        with writing(store.engine) as transaction:
            transaction.execute(update(Claim).values(beat_at=beaten, boot="another machine's"))

    waits = []

    class Lives(Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return beat(store.engine, "w", "a")

    claim(store.engine, "w", "a")
    set_clock()
    with monkeypatch.context() as patch:
        patch.setattr("db.claims.Event", Lives)
        with pytest.raises(SetupError, match=r"is running on .*, seen 0 s ago"), held(store.engine, "w", "the work"):
            pass
    assert waits == [20.0]  # two of its beats
    set_clock()
    monkeypatch.setattr("db.claims._BEATS", 2000)
    with held(store.engine, "w", "the work") as mine:
        mine.check()


def test_who_was_silent_for_just_so_long_is_replaced(store: AntibodyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    beaten = claim(store.engine, "w", "a").beat_at
    for silence, owner in ((SILENCE - timedelta(microseconds=1), "a"), (SILENCE, "b")):
        monkeypatch.setattr("db.claims._time", lambda _, silence=silence: beaten + silence)
        assert claim(store.engine, "w", "b").owner == owner


def test_nobody_waits_for_a_sign_of_life_of_a_process_that_is_gone(
    store: AntibodyStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    beaten = claim(store.engine, "w", "a").beat_at
    monkeypatch.setattr("db.claims._time", lambda _: beaten + SILENCE)
    monkeypatch.setattr("db.claims._is_gone", lambda _: True)
    with held(store.engine, "w", "the work"):
        assert caplog.messages == []


def test_a_session_that_is_not_there_cannot_be_claimed(store: AntibodyStore) -> None:
    with pytest.raises(SetupError, match="there is no session with the id 'x'"), store.claim_session("x"):
        pass


HOLDER = """
import pickle, sys, time

store = pickle.load(sys.stdin.buffer)
with store.claim_session(store.session("alpha").id):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_is_taken_over_from_at_once_on_its_machine_and_after_silence_elsewhere(
    store: AntibodyStore, session: SessionRecord
) -> None:
    process = start(HOLDER)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pickle.dumps(store))
        process.stdin.close()
        process.stdin = None
        assert process.stdout.readline() == b"held\n"
        running = rf"session 'alpha' is running on \S+ \(pid {process.pid}\), seen \d+ s ago; stop it there, or"
        with pytest.raises(SetupError, match=running), store.claim_session(session.id):
            pass
    finally:
        process.kill()
        process.communicate(timeout=60)
    (left,) = claims(store.engine)
    assert (left.work, left.pid) == (session_work(session.id), process.pid)
    # As a process of another machine would see it: it cannot know that this one is dead until it was silent.
    (boot,) = boots(store)
    change(store, boot="another machine's", host="node7")
    with (
        pytest.raises(SetupError, match=r"on node7 .* if it died, try again in \d+ s"),
        store.claim_session(session.id),
    ):
        pass
    with held(store.engine, session_work(session.id), "it", silence=NONE + timedelta(seconds=0.001)):
        assert claims(store.engine)[0].pid == os.getpid()
    # As this machine sees it.
    claim(store.engine, session_work(session.id), "dead")
    change(store, boot=boot, pid=process.pid)
    with store.claim_session(session.id) as mine:
        mine.check()
        assert claims(store.engine)[0].pid == os.getpid()


def boots(store: AntibodyStore) -> list[str]:
    with writing(store.engine) as transaction:
        return list(transaction.scalars(text("SELECT boot FROM claims")))


def test_two_in_one_process_compete_too(store: AntibodyStore, session: SessionRecord) -> None:
    with (
        store.claim_session(session.id),
        pytest.raises(SetupError, match=rf"is running on .* \(pid {os.getpid()}\)"),
        store.claim_session(session.id),
    ):
        pass

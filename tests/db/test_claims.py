"""Claims on work: one owner at a time, takeover after silence, and an owner that learns that it was replaced."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from db.claims import SILENCE, beat, claim, claims, release, session_work
from db.records import SessionRecord
from db.store import AntibodyStore

NONE = timedelta(0)
"""A silence after which everybody is taken for dead at once."""


def test_work_has_one_owner_until_it_is_given_back(store: AntibodyStore, session: SessionRecord) -> None:
    work = session_work(session.id)
    first = claim(store, work, "a")
    assert (first.work, first.owner) == (work, "a")
    assert claim(store, work, "b") == first
    assert claim(store, "other", "b").owner == "b"
    assert not release(store, work, "b")
    assert release(store, work, "a")
    assert claim(store, work, "b").owner == "b"
    assert [one.work for one in claims(store)] == ["other", work]


def test_claiming_again_is_a_heartbeat(store: AntibodyStore) -> None:
    first = claim(store, "w", "a")
    assert abs(first.claimed_at - datetime.now(UTC)) < timedelta(minutes=1)
    time.sleep(0.002)
    again = claim(store, "w", "a")
    assert again.claimed_at == first.claimed_at
    assert again.beat_at > first.beat_at
    time.sleep(0.002)
    assert beat(store, "w", "a")
    (stored,) = claims(store)
    assert stored.beat_at > again.beat_at


def test_who_was_silent_is_replaced_and_learns_it(store: AntibodyStore) -> None:
    first = claim(store, "w", "a")
    assert claim(store, "w", "b", silence=SILENCE).owner == "a"
    taken = claim(store, "w", "b", silence=NONE)
    assert taken.owner == "b"
    assert taken.claimed_at > first.claimed_at
    assert not beat(store, "w", "a")
    assert not release(store, "w", "a")
    assert beat(store, "w", "b")


def test_a_beat_keeps_the_work(store: AntibodyStore) -> None:
    claim(store, "w", "a")
    time.sleep(0.25)
    assert beat(store, "w", "a")
    assert claim(store, "w", "b", silence=timedelta(seconds=0.2)).owner == "a"


def test_nothing_beats_for_work_that_nobody_has(store: AntibodyStore) -> None:
    assert not beat(store, "w", "a")
    assert not release(store, "w", "a")
    assert claims(store) == ()

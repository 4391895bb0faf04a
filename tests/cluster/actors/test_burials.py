"""What follows when actors die, told by Ray's errors alone: no cluster runs."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from cluster.actors import pool as pools
from cluster.actors.actor import ActorPlace
from cluster.actors.pool import ActorPlan, EmbeddingPool, _Slot
from cluster.actors.schedule import Schedule, Work
from cluster.journal import Journal
from immuno_core.errors import ImmunoError

LOST = ray.exceptions.RayActorError(error_msg="The actor died because its node has died. Node Id: abc123")
DIED = ray.exceptions.RayActorError(error_msg="The actor died: worker exit 137")


class Clock:
    """Stands still."""

    def monotonic(self) -> float:
        return 100.0


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> EmbeddingPool:
    monkeypatch.setattr(Journal, "connected", lambda self: None)
    monkeypatch.setattr(pools, "time", Clock())
    monkeypatch.setattr(ray, "get", {"starting": ActorPlace("b", 2)}.get)
    return EmbeddingPool(ActorPlan(2, 1, 0), None)  # type: ignore[arg-type]  # what an actor would be given


def slot(pool: EmbeddingPool, schedule: Schedule | None = None, *, up: bool = True) -> _Slot:
    made = _Slot(handle=None, starting=None if up else "starting", place=ActorPlace("a", 1) if up else None)
    if schedule is not None:
        piece = schedule.take(0)
        assert piece is not None
        made.flight["ref"] = piece
    pool._slots.append(made)
    return made


def schedule() -> Schedule:
    return Schedule([Work("embed_shard", (), "some images", ("a", "b"))])


def test_a_lost_machine_kills_nothing_however_often(pool: EmbeddingPool) -> None:
    work = schedule()
    for _ in range(4):
        pool._bury(slot(pool, work), work, LOST)
    piece = work.take(1)
    assert piece is not None
    assert (piece.deaths, piece.alone, piece.rows) == (0, False, ())
    assert pool._journal.summary().nodes_lost == 1


def test_machines_that_go_down_while_actors_start_are_no_failed_starts(pool: EmbeddingPool) -> None:
    for _ in range(4):
        pool._bury(slot(pool, up=False), schedule(), LOST)
    for _ in range(2):
        pool._bury(slot(pool, up=False), schedule(), DIED)
    started = slot(pool, up=False)
    pool._receive(started, "starting", schedule())  # one that is up ends the row
    for _ in range(2):
        pool._bury(slot(pool, up=False), schedule(), DIED)
    with pytest.raises(ImmunoError, match=r"^3 embedding actors died, one after another, over loading the encoder"):
        pool._bury(slot(pool, up=False), schedule(), DIED)


def test_who_is_out_of_reach_so_often_in_a_row_is_given_up(pool: EmbeddingPool) -> None:
    silence = ray.exceptions.ActorUnavailableError("the network is gone", None)
    asks = SimpleNamespace(prepare=SimpleNamespace(remote=lambda: "starting"))
    gone = replace(slot(pool), handle=asks)
    pool._slots = [gone]
    for _ in range(2):
        for _ in range(pools._CALLS_UNHEARD):
            pool._look_for(gone, gone.starting, schedule(), silence)
        assert pool._slots == [gone]
        pool._receive(gone, "starting", schedule())  # an answer ends the row
    for _ in range(pools._CALLS_UNHEARD + 1):
        pool._look_for(gone, gone.starting, schedule(), silence)
    assert pool._slots == []


def test_no_more_actors_start_than_there_is_work(pool: EmbeddingPool) -> None:
    made = SimpleNamespace(prepare=SimpleNamespace(remote=object))
    pool._actor = SimpleNamespace(remote=lambda _: made)
    for work, actors in ((1, 1), (1, 1), (9, 2)):  # the plan has two
        pool._start_actors(work)
        assert len(pool._slots) == actors


def test_the_first_dead_is_replaced_at_once_and_the_next_ones_later(pool: EmbeddingPool) -> None:
    waits: list[Any] = []
    for _ in range(3):
        pool._bury(slot(pool), schedule(), DIED)
        waits.append(pool._start_after - 100)
    assert waits == [0.0, 0.5, 1.0]
    work = schedule()
    pool._receive(slot(pool, work), "ref", work)  # what is brought ends the row
    pool._bury(slot(pool), schedule(), DIED)
    assert pool._start_after - 100 == 0
    pool._bury(slot(pool), schedule(), DIED)
    assert pool._start_after > 100
    pool._start_actors(2)
    assert pool._slots == [found for found in pool._slots if found.place is not None]  # nobody new yet

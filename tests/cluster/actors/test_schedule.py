"""Which work goes where, and what becomes of the work of the dead: tried without Ray."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.actors.schedule import Piece, PoisonHunt, Schedule, Work
from immuno_core.errors import ImmunoError


def shard(index: int, size: int) -> Work:
    return Work("embed_shard", (), f"shard {index}", tuple(f"{index}/{row}" for row in range(size)))


def simulate(works: list[Work], poison: set[str], *, actors: int = 2, seed: int = 0) -> tuple[dict[int, set[str]], int]:
    """Play actors that hold two pieces each, and die of any poison in either; return what was left out, and deaths."""
    random = np.random.default_rng(seed)
    schedule = Schedule(works)
    flights: list[list[Piece]] = [[] for _ in range(actors)]
    left_out: dict[int, set[str]] = {}
    deaths = 0
    while schedule.unfinished:
        for load in range(2):
            for flight in flights:
                if len(flight) == load and not any(piece.alone for piece in flight):
                    piece = schedule.take(load)
                    if piece is not None:
                        flight.append(piece)
        busy = [flight for flight in flights if flight]
        flight = busy[random.integers(len(busy))]
        touched = {
            image
            for piece in flight
            for image in (
                [piece.work.images[row] for row in piece.rows]
                or [image for row, image in enumerate(piece.work.images) if row not in piece.lethal]
            )
        }
        if touched & poison:
            deaths += 1
            schedule.killed(tuple(flight), "bad luck")
            flight.clear()
        else:
            done = flight.pop(0)
            if schedule.done(done):
                assert done.index not in left_out
                left_out[done.index] = {done.work.images[row] for row in done.lethal}
    return left_out, deaths


@pytest.mark.parametrize("seed", range(20))
def test_poison_is_found_among_the_innocent_and_nothing_else_is_left_out(seed: int) -> None:
    works = [shard(index, 16) for index in range(6)]
    poison = {f"{n // 16}/{n % 16}" for n in np.random.default_rng(seed).choice(96, 1 + seed % 4, replace=False)}
    left_out, deaths = simulate(works, poison, seed=seed)
    assert sorted(left_out) == list(range(6))
    assert set().union(*left_out.values()) == poison
    assert deaths <= 12 * len(poison)


def test_a_single_image_needs_few_deaths() -> None:
    left_out, deaths = simulate([shard(0, 256)], {"0/77"}, actors=1)
    assert left_out == {0: {"0/77"}}
    assert deaths == 2 + 8 + 1  # the shard twice, the halvings down to it, and once more to be sure
    assert simulate([shard(0, 1)], {"0/0"})[0] == {0: {"0/0"}}


def test_a_suspect_gets_an_actor_for_itself() -> None:
    schedule = Schedule([shard(0, 4), shard(1, 4), shard(2, 4)])
    pair = [schedule.take(0), schedule.take(1)]
    assert all(piece is not None for piece in pair)
    schedule.killed([piece for piece in pair if piece], "gone")
    assert schedule.take(1) is None  # no second piece for anybody, until
    suspects = [schedule.take(0), schedule.take(0)]
    assert [piece.name for piece in suspects if piece and piece.alone] == ["shard 0", "shard 1"]
    third = schedule.take(1)
    assert third is not None
    assert not third.alone


def test_a_lost_machine_is_nobody_s_fault() -> None:
    schedule = Schedule([shard(0, 4), shard(1, 4)])
    for _ in range(20):
        pieces = [piece for piece in (schedule.take(0), schedule.take(1)) if piece]
        assert [piece.index for piece in pieces] == [0, 1]
        schedule.lost(pieces)
    assert not pieces[0].alone


def test_work_without_images_ends_the_run_after_three_deaths() -> None:
    schedule = Schedule([Work("embed_texts", (), "the texts")])
    for _ in range(2):
        piece = schedule.take(0)
        assert piece is not None
        schedule.killed([piece], "exit 1")
    piece = schedule.take(0)
    assert piece is not None
    with pytest.raises(ImmunoError, match=r"^3 embedding actors died, one after another, over the texts \(exit 1\)"):
        schedule.killed([piece], "exit 1")


def test_where_the_parts_survive_it_is_the_memory() -> None:
    schedule = Schedule([shard(0, 4)])
    for _ in range(2):
        piece = schedule.take(0)
        assert piece is not None
        schedule.killed([piece], "exit 137")
    halves = [schedule.take(0), schedule.take(0)]
    assert [half.rows for half in halves if half] == [(0, 1), (2, 3)]
    assert halves[0] is not None
    assert not schedule.done(halves[0])
    assert halves[1] is not None
    with pytest.raises(ImmunoError, match=r"though none over a part of it.*Lower \[encoder\] batch_size"):
        schedule.done(halves[1])


def test_too_much_poison_is_no_poison() -> None:
    works = [shard(index, 8) for index in range(4)]
    with pytest.raises(ImmunoError, match=r"more than 16 images killed the process .* look for the fault in the mach"):
        simulate(works, {image for work in works for image in work.images})


def test_what_fails_in_passing_waits_longer_each_time_and_is_given_up() -> None:
    schedule = Schedule([shard(0, 1), shard(1, 1)])
    now, waits = 0.0, []
    piece = schedule.take(0)
    assert piece is not None
    while (wait := schedule.failed(piece, now)) is not None:
        waits.append(wait)
        assert schedule.wake(now + wait / 2) == pytest.approx(wait / 2)
        now += wait
        assert schedule.wake(now) is None
        again = schedule.take(0)
        assert again is piece  # before what has not been tried
    assert waits == [0.5, 1.0, 2.0, 4.0]


def test_an_image_must_kill_twice_to_be_guilty() -> None:
    hunt = PoisonHunt([4, 7])
    first, second = hunt.begin()
    assert (first, second) == ((4,), (7,))
    (again,) = hunt.killed(first)
    hunt.survived(again)
    hunt.survived(second)
    assert hunt.over
    assert hunt.guilty == set()


def hunted(schedule: Schedule, guilty: set[int]) -> Piece:
    """Play a single actor that dies over groups with these rows; return the work itself when it is handed out."""
    while (piece := schedule.take(0)) is not None and piece.rows:
        assert piece.of is not None
        assert not piece.of.lethal & set(piece.rows)  # what was found guilty before would kill again
        if guilty & set(piece.rows):
            schedule.killed([piece], "exit 1")
        else:
            schedule.done(piece)
    assert piece is not None
    return piece


def killed_twice(schedule: Schedule) -> None:
    for _ in range(2):
        piece = schedule.take(0)
        assert piece is not None
        assert piece.rows == ()  # one death alone starts no hunt, a second one neither did long ago
        schedule.killed([piece], "exit 1")


def test_a_second_hunt_keeps_what_the_first_one_found() -> None:
    schedule = Schedule([shard(0, 4)])
    killed_twice(schedule)
    piece = hunted(schedule, {0})
    assert piece.lethal == {0}
    schedule.lost([piece])
    killed_twice(schedule)
    assert hunted(schedule, {0, 3}) is piece  # row 0 is under no suspicion any more: it is not tried again
    assert piece.lethal == {0, 3}


def test_as_much_poison_as_there_may_be_is_left_out() -> None:
    works = [shard(index, 8) for index in range(4)]
    poison = {image for work in works for image in work.images[:4]}
    left_out, _ = simulate(works, poison)
    assert set().union(*left_out.values()) == poison
    assert len(poison) == 16

"""Which generation is continued: the Pareto front over the feedback images."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from agents.memory import choose_origin
from agents.policies import (
    draw_parent,
    generator_of,
    handled_alone,
    handled_by,
    new_generator,
    state_of,
)
from immuno_core.errors import ImmunoError


def rows(*flags: str) -> dict[int, np.ndarray]:
    """Generation number -> which images it handles, as "1" and "0"."""
    return {number: np.array([flag == "1" for flag in one]) for number, one in enumerate(flags)}


def test_on_the_front_is_who_alone_handles_an_image() -> None:
    assert handled_alone(rows("1100", "1110", "0001")) == {1: 1, 2: 1}


def test_a_dominated_generation_is_never_drawn() -> None:
    handled = rows("1100", "1110", "0001")
    generator = new_generator(0)
    drawn = {draw_parent(handled, best=1, generator=generator) for _ in range(50)}
    assert drawn == {1, 2}


def test_who_handles_more_alone_is_continued_more_often() -> None:
    handled = rows("1" + "0" * 9, "0" + "1" * 9)
    generator = new_generator(0)
    drawn = Counter(draw_parent(handled, best=1, generator=generator) for _ in range(400))
    assert drawn[1] / 400 == pytest.approx(0.9, abs=0.05)


def test_where_nobody_stands_out_it_is_the_best() -> None:
    assert draw_parent(rows("11", "11"), best=1, generator=new_generator(0)) == 1
    assert draw_parent({}, best=0, generator=new_generator(0)) == 0


def test_one_number_is_drawn_whatever_comes_of_it() -> None:
    """So that a session's later draws do not depend on earlier coincidences."""
    first, second = new_generator(3), new_generator(3)
    draw_parent(rows("11", "11"), best=1, generator=first)
    draw_parent(rows("10", "01"), best=1, generator=second)
    assert state_of(first) == state_of(second)


def test_always_the_best_draws_nothing() -> None:
    generations = [SimpleNamespace(number=n, accepted=n < 2, random_state=state_of(new_generator(3))) for n in range(3)]
    origin = choose_origin(generations, None, seed=0)
    assert origin.parent.number == 1
    assert origin.random_state == state_of(new_generator(3))
    drawn = choose_origin(generations, rows("10", "01"), seed=0)
    assert drawn.random_state != origin.random_state


def test_an_outlier_is_handled_when_it_is_rejected() -> None:
    accepted = {"near": b"\x01\x00", "id": b"\x01", "far": b"\x00"}
    assert handled_by(accepted, known_set="id").tolist() == [True, False, True]


def test_a_generator_goes_on_from_its_stored_state() -> None:
    generator = new_generator(7)
    generator.random(3)
    generator.integers(0, 10, dtype=np.uint32)
    again = generator_of(state_of(generator))
    assert generator.random(5).tolist() == again.random(5).tolist()
    assert state_of(generator) == state_of(again)


def test_the_state_is_plain_json_that_every_database_keeps() -> None:
    assert all(isinstance(value, str) or value < 2**63 for value in state_of(new_generator(0)).values())


@pytest.mark.parametrize("stored", [{"kind": "MT19937"}, {}, {**state_of(new_generator(0)), "state": "x"}])
def test_a_state_that_is_none_is_refused(stored: dict[str, object]) -> None:
    with pytest.raises(ImmunoError, match="random state cannot be read"):
        generator_of(stored)

"""What is awaited ends at its deadline, or when the line is cut."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from agents.chat.failures import Stopped
from agents.chat.line import Line


async def coming(after: float, value: int = 7) -> int:
    await asyncio.sleep(after)
    return value


def test_what_comes_in_time_is_returned() -> None:
    assert Line().ask(lambda: coming(0.01), seconds=30) == 7


def test_a_deadline_of_the_wall_clock() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"timed out after 0.1 s without a whole reply"):
        Line().ask(lambda: coming(30), seconds=0.1)
    assert time.monotonic() - began < 5


def test_an_error_of_what_is_awaited_is_its_own() -> None:
    async def failing() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        Line().ask(failing, seconds=30)


def test_a_cut_ends_what_is_under_way_and_what_comes_later() -> None:
    line, ended = Line(), list[str]()

    def ask() -> None:
        with pytest.raises(Stopped):
            line.ask(lambda: coming(30), seconds=60)
        ended.append("")

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    line.cut()
    ask()
    for thread in threads:
        thread.join(10)
    assert len(ended) == 6

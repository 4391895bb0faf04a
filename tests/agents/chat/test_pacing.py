"""When a chat model is asked again, how long is waited for it, and how many requests are under way at once."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import openai
import pytest

from agents.chat import pacing
from agents.chat.failures import ModelUnavailable, failure_of
from agents.chat.pacing import Pacer, Stopped, side_by_side


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.time = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> bool:
        self.slept.append(seconds)
        self.time += seconds
        return False


def pacer(clock: Clock, **options: Any) -> Pacer:
    return Pacer(**{"retries": 3, "sleep": clock.sleep, "now": clock.now} | options)


def failing(*failures: ModelUnavailable) -> Any:
    """Something to ask that fails so often, and then answers how often it was asked."""
    left = list(failures)
    asked = [0]

    def once() -> int:
        asked[0] += 1
        if left:
            raise left.pop(0)
        return asked[0]

    return once


PASSING = {"try_again": True}


class TestTryingAgain:
    def test_what_may_pass_is_tried_again_with_growing_jittered_pauses(self) -> None:
        clock = Clock()
        assert pacer(clock).ask(failing(*(ModelUnavailable("500", **PASSING) for _ in range(3)))) == 4
        assert len(clock.slept) == 3
        assert all(0 <= pause <= most for pause, most in zip(clock.slept, (0.5, 1.0, 2.0), strict=True))

    def test_no_more_often_than_said(self) -> None:
        with pytest.raises(ModelUnavailable, match=r"no\. 4"):
            pacer(Clock()).ask(failing(*(ModelUnavailable(f"no. {i}", **PASSING) for i in range(1, 9))))

    def test_what_will_not_pass_is_not_tried_again(self) -> None:
        clock = Clock()
        with pytest.raises(ModelUnavailable, match="401"):
            pacer(clock).ask(failing(ModelUnavailable("401")))
        assert clock.slept == []

    def test_the_time_that_a_server_names_is_waited_and_costs_no_try(self) -> None:
        clock = Clock()
        limits = [ModelUnavailable("429", try_again=True, wait=7.0) for _ in range(6)]
        assert pacer(clock).ask(failing(*limits)) == 7
        assert clock.time >= 6 * 7

    def test_a_rate_limit_holds_for_everybody(self) -> None:
        clock = Clock()
        shared = pacer(clock)
        began: list[float] = []
        limited = failing(ModelUnavailable("429", try_again=True, wait=20.0))

        def first() -> None:
            began.append(clock.now())
            limited()

        shared.ask(first)
        other = Clock()
        other.time = 5.0  # another thread, meanwhile
        shared._now, shared._sleep = other.now, other.sleep
        shared.ask(lambda: began.append(other.now()))
        assert began[0] == 0.0
        assert min(began[1:]) >= 20.0

    def test_a_server_that_puts_off_for_ever_is_given_up(self) -> None:
        clock = Clock()
        forever = [ModelUnavailable("429", try_again=True, wait=0.0) for _ in range(10_000)]
        with pytest.raises(ModelUnavailable, match="waited for as long as 600 s allow") as caught:
            pacer(clock).ask(failing(*forever))
        assert caught.value.for_all
        assert clock.time <= 600 + 30

    def test_who_waits_can_be_stopped(self) -> None:
        stopping = Pacer(retries=5)
        stopping.stop()
        with pytest.raises(Stopped):
            stopping.ask(failing(ModelUnavailable("500", **PASSING)))


def status_error(status: int, **headers: str) -> openai.APIStatusError:
    request = httpx.Request("POST", "http://127.0.0.1/v1")
    response = httpx.Response(status, headers=headers, request=request)
    return openai.APIStatusError("no", response=response, body=None)


class TestWhatAFailureMeans:
    @pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
    def test_may_pass(self, status: int) -> None:
        assert failure_of(status_error(status)).try_again

    @pytest.mark.parametrize(("status", "for_all"), [(400, False), (401, True), (403, True), (404, True), (422, False)])
    def test_will_not_pass(self, status: int, for_all: bool) -> None:
        failure = failure_of(status_error(status))
        assert (failure.try_again, failure.for_all) == (False, for_all)

    @pytest.mark.parametrize(
        "error",
        [
            ConnectionRefusedError("refused"),
            TimeoutError(),
            httpx.ReadTimeout("slow"),
            httpx.RemoteProtocolError("dropped"),
            openai.APIConnectionError(request=httpx.Request("POST", "http://127.0.0.1")),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_connection_trouble_may_pass(self, error: Exception) -> None:
        error.__cause__ = httpx.ConnectError("nobody there")
        assert failure_of(error).try_again

    def test_nonsense_does_not_pass(self) -> None:
        assert not failure_of(KeyError("choices")).try_again

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"retry-after": "12"}, 12.0),
            ({"retry-after": " 1.5 "}, 1.5),
            ({"retry-after-ms": "250"}, 0.25),
            ({"retry-after": "soon"}, None),
            ({"retry-after": "-3"}, None),
            ({}, None),
        ],
    )
    def test_how_long_to_wait(self, headers: dict[str, str], seconds: float | None) -> None:
        assert failure_of(status_error(429, **headers)).wait == seconds

    def test_until_when_to_wait(self) -> None:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
        wait = failure_of(status_error(503, **{"retry-after": date})).wait
        assert wait is not None
        assert 80 < wait <= 90

    def test_until_when_to_wait_is_meant_by_the_clock_of_the_server(self) -> None:
        said, until = (
            format_datetime(datetime(2001, 1, 1, 12, 0, second, tzinfo=UTC), usegmt=True) for second in (5, 47)
        )
        assert failure_of(status_error(503, **{"retry-after": until, "date": said})).wait == 42

    def test_a_quota_that_is_used_up_will_not_come_back_soon(self) -> None:
        error = status_error(429)
        error.code = "insufficient_quota"
        failure = failure_of(error)
        assert (failure.try_again, failure.for_all) == (False, True)
        assert "quota is used up" in str(failure)

    @pytest.mark.parametrize(
        ("status", "body", "said"),
        [
            (
                422,
                {"detail": [{"loc": ["body", "seed"], "msg": "no number"}]},
                r"wrong, and names it \(body.seed: no nu",
            ),
            (400, {"message": "no schema"}, r"\(no schema\)"),
            (400, {"error": "no schema"}, r"\(no schema\)"),
            (502, {"message": "Provider failed", "metadata": {"raw": "no GPU"}}, r"\(Provider failed no GPU\)"),
            (418, {"message": "tea"}, "the server refused the request"),
            (500, {"message": "tea"}, "the server failed; its log says why"),
        ],
    )
    def test_what_the_server_said_is_named(self, status: int, body: Any, said: str) -> None:
        error = status_error(status)
        error.body = body
        assert re.search(said, str(failure_of(error)))

    @pytest.mark.parametrize(
        "said",
        [
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.",
            "the request exceeds the available context size, try increasing it",
            "context_length_exceeded",
            "prompt is too long: 210000 tokens > 200000 maximum",
        ],
    )
    def test_a_context_that_is_too_small_is_no_wrong_request(self, said: str) -> None:
        error = status_error(400)
        error.body = {"message": said}
        failure = failure_of(error)
        assert "do not fit into the model's context" in str(failure)
        assert said in str(failure)
        assert not failure.try_again

    def test_no_key_stands_in_what_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOMEBODYS_API_KEY", "very-secret-indeed")
        said = "Incorrect API key: sk-abcd****wxyz, sent very-secret-indeed as Bearer abc.def"
        failure = str(failure_of(ValueError(said)))
        assert not any(secret in failure for secret in ("sk-abcd", "wxyz", "very-secret", "abc.def"))


class TestSideBySide:
    def test_everything_is_done_once_with_its_index(self) -> None:
        found = {i: (item, value) for g in side_by_side(lambda x: x * x, range(50), workers=4) for i, item, value in g}
        assert found == {i: (i, i * i) for i in range(50)}

    def test_as_many_at_once_as_there_are_workers(self) -> None:
        meet = threading.Barrier(5, timeout=30)  # breaks unless five are there at the same time
        assert sum(len(group) for group in side_by_side(lambda _: meet.wait(), range(10), workers=5)) == 10

    def test_items_are_drawn_as_they_are_needed(self) -> None:
        drawn = 0
        done = 0

        def items() -> Any:
            nonlocal drawn
            for i in range(200):
                drawn += 1
                assert drawn - done <= 2 * 3
                yield i

        for group in side_by_side(lambda x: x, items(), workers=3):
            done += len(group)
        assert done == 200

    def test_what_is_done_comes_out_before_what_goes_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pacing, "_GATHER_SECONDS", 30)  # all four are one group
        meet = threading.Barrier(4)

        def work(item: int) -> int:
            meet.wait(30)
            if item == 1:
                raise ValueError(item)
            return item

        groups = side_by_side(work, range(4), workers=4)
        assert [value for *_, value in next(groups)] == [0, 2, 3]
        with pytest.raises(ValueError, match="1"):
            next(groups)

    def test_what_goes_wrong_comes_out_and_the_rest_never_begins(self) -> None:
        begun: list[int] = []

        def work(item: int) -> None:
            begun.append(item)
            raise ValueError(item)

        with pytest.raises(ValueError, match="0"):
            list(side_by_side(work, range(100), workers=1))
        assert len(begun) < 5

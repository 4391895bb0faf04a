"""Pace: how often a chat model is asked again, how long is waited, and how many requests are under way at once.

Tries again after connection trouble, time-outs, HTTP 408, 409, 425, 429 and 5xx, with exponential backoff and full
jitter (M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015). Where the server says how long to
wait (Retry-After), nobody asks before that: a rate limit holds for all threads, not for the one that hit it.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import NoReturn, TypeVar, cast

from tenacity import RetryCallState, Retrying, retry_if_exception

from agents.chat.failures import ModelUnavailable, Stopped
from immuno_core.retries import Backoff

_FIRST_PAUSE = 0.5
BACKOFF = Backoff(first=_FIRST_PAUSE, longest=30.0)
_GATHER_SECONDS = 0.02
"""After the first of a group, for others: a group costs its caller one transaction, however large it is."""
_JITTER = secrets.SystemRandom()
T = TypeVar("T")
Item = TypeVar("Item")


class Pacer:
    """Asks until an answer comes or patience ends; shared by the threads that ask one server.

    `retries`: tries after the first where the server names no time to wait. `patience`: seconds that one request may
    wait in all. `sleep` waits for so many seconds and says whether to give up (an Event's `wait`).
    """

    def __init__(
        self,
        *,
        retries: int,
        patience: float = 600.0,
        sleep: Callable[[float], bool] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._retries = retries
        self._patience = patience
        self._stopped = threading.Event()
        self._sleep = sleep or self._stopped.wait
        self._now = now
        self._closed_until = 0.0
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Let nobody wait any longer: requests that wait for another try raise Stopped."""
        self._stopped.set()

    def ask(self, once: Callable[[], T]) -> T:
        """Return what `once` returns, called again where that may help. Raises its last ModelUnavailable; Stopped."""
        retrying = Retrying(
            before=self._wait_until_open,
            retry=retry_if_exception(lambda error: isinstance(error, ModelUnavailable) and error.try_again),
            wait=self._pause_after,
            stop=self._is_enough,
            retry_error_callback=self._give_up,
            before_sleep=self._close_for_all,
            sleep=self._pause,
        )
        return retrying(once)

    def _pause_after(self, state: RetryCallState) -> float:
        wait, growing = _failure(state).wait, BACKOFF(state)
        # Never less than asked; growing all the same, for a server that always says "at once".
        return growing * _JITTER.random() if wait is None else max(wait, growing) + _FIRST_PAUSE * _JITTER.random()

    def _is_enough(self, state: RetryCallState) -> bool:
        out_of_tries = _failure(state).wait is None and state.attempt_number > self._retries
        return out_of_tries or state.idle_for + state.upcoming_sleep > self._patience

    def _give_up(self, state: RetryCallState) -> NoReturn:
        failure = _failure(state)
        if failure.wait is None and state.attempt_number > self._retries:
            raise failure
        raise ModelUnavailable(
            f"{failure}; waited for as long as {self._patience:.0f} s allow", for_all=failure.wait is not None
        ) from failure

    def _close_for_all(self, state: RetryCallState) -> None:
        if _failure(state).wait is not None:
            with self._lock:
                self._closed_until = max(self._closed_until, self._now() + state.upcoming_sleep)

    def _wait_until_open(self, _: RetryCallState) -> None:
        while (left := self._closed_until - self._now()) > 0:
            # Not all at the same moment.
            self._pause(left + _FIRST_PAUSE * _JITTER.random())

    def _pause(self, seconds: float) -> None:
        if self._sleep(seconds):
            raise Stopped("stopped while waiting for the chat model")


def _failure(state: RetryCallState) -> ModelUnavailable:
    return cast(ModelUnavailable, state.outcome and state.outcome.exception())


def side_by_side(
    work: Callable[[Item], T], items: Iterable[Item], *, workers: int
) -> Generator[list[tuple[int, Item, T]], None, None]:
    """Yield what `work` returns for each item, with its index: in groups, as they are done, at most `workers` at once.

    Items are drawn as they are needed: twice as many as there are workers are held, so that none is idle while the
    caller deals with a group. An exception of `work` is raised, after what else is done was yielded. When the caller
    stops early, what has not begun never does, and nobody waits for what has.
    """
    source = enumerate(items)
    executor = ThreadPoolExecutor(workers, thread_name_prefix="chat")
    running: dict[Future[T], tuple[int, Item]] = {}
    try:
        while True:
            for index, item in islice(source, 2 * workers - len(running)):
                running[executor.submit(work, item)] = (index, item)
            if not running:
                return
            wait(running, return_when=FIRST_COMPLETED)
            done = wait(running, timeout=_GATHER_SECONDS).done
            ended = [(one, *running.pop(one)) for one in list(running) if one in done]
            if group := [(index, item, one.result()) for one, index, item in ended if one.exception() is None]:
                yield group
            # In the order of the items, so that of two errors the same one is raised every time.
            for one, *_ in ended:
                one.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)

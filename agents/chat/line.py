"""The line to a chat server: what is awaited on it ends at its deadline, by the clock on the wall, or when it is cut.

A time-out of an HTTP client counts from one byte to the next: a server that sends a byte a second is never late. And a
thread that waits for a reply cannot be ended from outside. So requests are awaited in an event loop, in one thread for
the whole process, where they can be cancelled at any moment.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from agents.chat.failures import Stopped

_MOST_THREADS: Final = 1024
"""For models that cannot be awaited: as many as there may be requests at once (refine.concurrency)."""
_loops: Final[dict[int, asyncio.AbstractEventLoop]] = {}
_lock: Final = threading.Lock()
T = TypeVar("T")


class Line:
    """The requests that are under way together, from any number of threads."""

    def __init__(self) -> None:
        self._under_way: set[Future[Any]] = set()
        self._is_cut = False

    def ask(self, make: Callable[[], Awaitable[T]], *, seconds: float) -> T:
        """Return what comes of the awaitable that `make` returns.

        Raises TimeoutError when nothing has come of it after `seconds`, and Stopped when the line is or was cut.
        """
        asked = asyncio.run_coroutine_threadsafe(_within(make, seconds), _loop())
        self._under_way.add(asked)
        try:
            if self._is_cut:
                asked.cancel()
            return asked.result()
        except CancelledError:
            raise Stopped("stopped while the chat model was at work") from None
        finally:
            asked.cancel()  # after a Ctrl-C nobody waits for it any longer
            self._under_way.discard(asked)

    def cut(self) -> None:
        """End all that is under way, and whatever is asked from now on."""
        self._is_cut = True
        for asked in tuple(self._under_way):
            asked.cancel()


async def _within(make: Callable[[], Awaitable[T]], seconds: float) -> T:
    try:
        async with asyncio.timeout(seconds) as limit:
            return await make()
    except TimeoutError as error:
        raise (
            TimeoutError(f"timed out after {seconds:g} s without a whole reply") if limit.expired() else error
        ) from None


def _loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of this process: a fork has none of its parent's threads."""
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            loop.set_default_executor(ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="chat-line"))
            threading.Thread(target=loop.run_forever, name="chat-line", daemon=True).start()
        return loop

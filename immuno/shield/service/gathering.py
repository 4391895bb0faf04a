"""Images of many requests at once, judged batch by batch in one thread.

A batch is whatever waits when the one before is done, up to a most: nobody waits for others to come, and under load the
batches fill by themselves. The images of a request stay together.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class FullError(Exception):
    """So many images wait that these cannot; `seconds` is about how long the others take."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many images wait; try again in {seconds} s")
        self.seconds = seconds


class _Waiting(NamedTuple):
    images: Sequence[bytes]
    names: Sequence[str]
    answer: Future[Sequence[object]]


class Gatherer(Generic[T]):
    """Gathers images for `judge`, which is called in one thread with images and their names, each batch at a time."""

    def __init__(
        self,
        judge: Callable[[Sequence[bytes], Sequence[str]], Sequence[T]],
        *,
        most: int,
        room: int,
        done: Callable[[int, float], None],
    ) -> None:
        """`most` images a batch (more only of one request), `room` for as many to wait.

        `done` is told of each batch: its images, and the seconds that it took.
        """
        self._judge, self._most, self._room, self._done = judge, most, room, done
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._seconds = 1.0
        self._thread = threading.Thread(target=self._work, name="judge", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Images that wait."""
        with self._changed:
            return self._count()

    async def judged(self, images: Sequence[bytes], names: Sequence[str]) -> Sequence[T]:
        """Return what is said of the images (n >= 1). Raises FullError, and what `judge` raises over their batch.

        Where the caller is cancelled, images that still wait are not judged.
        """
        answer: Future[Sequence[object]] = Future()
        with self._changed:
            before = self._count()
            if self._closing or (before and before + len(images) > self._room):
                raise FullError(max(1, math.ceil(self._seconds * before / self._most)))
            self._waiting.append(_Waiting(images, names, answer))
            self._changed.notify()
        said: Sequence[T] = await asyncio.wrap_future(answer)  # type: ignore[arg-type]
        return said

    def close(self) -> None:
        """Judge what waits, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _count(self) -> int:
        return sum(len(one.images) for one in self._waiting)

    def _work(self) -> None:
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Judge a batch, which is gone when this returns; False at the end."""
        batch = self._next()
        images = [image for one in batch for image in one.images]
        names = [name for one in batch for name in one.names]
        if not batch:
            return False
        started = time.perf_counter()
        try:
            said = self._judge(images, names)
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            for one in batch:
                one.answer.set_exception(error)
            return True
        self._seconds = time.perf_counter() - started
        self._done(len(images), self._seconds)
        start = 0
        for one in batch:
            one.answer.set_result(said[start : start + len(one.images)])
            start += len(one.images)
        return True

    def _next(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        with self._changed:
            while not batch:
                while not self._waiting:
                    if self._closing:
                        return []
                    self._changed.wait()
                while self._waiting and (not batch or size + len(self._waiting[0].images) <= self._most):
                    one = self._waiting.popleft()
                    if one.answer.set_running_or_notify_cancel():
                        batch.append(one)
                        size += len(one.images)
        return batch

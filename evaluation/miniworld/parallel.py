"""Runs drawing tasks on several processes and stops cleanly when interrupted.

Workers are spawned, not forked: the caller may hold threads (torch, Ray) that do not survive a fork.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


def default_workers() -> int:
    """Processes to use unless told otherwise: the cores of the machine, at most 4."""
    return min(os.cpu_count() or 1, 4)


def run_tasks(
    function: Callable[[TaskT], ResultT],
    tasks: Sequence[TaskT],
    workers: int,
    on_result: Callable[[ResultT], None],
) -> None:
    """Applies a top-level function to every task and hands on the results, in the order in which they finish.

    With one worker everything runs in this process. Tasks must be repeatable: where worker processes cannot start or
    die (a script without `if __name__ == "__main__"`, a memory limit), the tasks that are left run in this process.
    When the caller is interrupted, the workers finish the tasks they are at and end, and the interruption goes on.
    """
    if workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            on_result(function(task))
        return
    left = dict(enumerate(tasks))
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=_start_worker)
    try:
        with _interrupts_held_back():
            futures = {executor.submit(function, task): number for number, task in left.items()}
        for future in as_completed(futures):
            result = future.result()
            del left[futures[future]]
            on_result(result)
    except BrokenProcessPool:
        pass
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
    for task in left.values():
        on_result(function(task))


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Blocks SIGINT in this thread, and so in the processes that it starts.

    Ctrl-C reaches every process of a terminal. The parent decides what to do; workers just finish their task, and one
    that is still importing should not print a traceback either.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this worker when its parent is killed: it would wait for tasks for ever otherwise."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

"""How a run is stopped: Ctrl-C, SIGTERM or SIGHUP (its terminal is gone) raise `Stopped`; once more ends it at once.

A KeyboardInterrupt is lost where Python cannot pass it on (in an import's weakref callbacks, in `__del__`), and it
leaves a lock taken where it comes between a lock's taking and its `with` block: the program goes on, and hangs at its
end. There, and while Ray starts, a signal waits until that is over.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_SECONDS: Final = 0.05
_LOCKING: Final = frozenset(
    {"acquire", "release", "_acquireLock", "_releaseLock", "__enter__", "__exit__", "notify", "remove", "_remove"}
)
"""Functions of logging, threading and weakref that take or give back a lock, or are called by the interpreter."""


class Stopped(KeyboardInterrupt):
    """A signal asks this program to end."""


_listens = False
_held = False
_came: int | None = None
"""The signal that came first: it waits, or has been raised."""


def stopped_status() -> int:
    """Return what a stopped program ends with, as a shell has it. (Ray raises a KeyboardInterrupt of its own.)"""
    return 128 + (_came or signal.SIGINT)


def listen() -> None:
    """Have the signals raise `Stopped` in the main thread: for a program, at its start.

    The second one is left to the system, which ends the program whatever it is at. What whoever started it ignores
    (nohup, a shell's background) stays ignored.
    """
    global _listens
    _listens = True
    for signum in _SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _first)
    signal.signal(signal.SIGALRM, _act)


@contextmanager
def held_back() -> Iterator[None]:
    """Let a first signal wait until the block is left; handlers that the block sets for them do not stay.

    In a program that does not `listen`, this is for Ctrl-C alone, and a second one acts as ever.
    """
    global _held, _came
    before = {signum: signal.getsignal(signum) for signum in (_SIGNALS if _listens else _SIGNALS[:1])}
    if (
        _held
        or threading.current_thread() is not threading.main_thread()
        or (not _listens and before[signal.SIGINT] is not signal.default_int_handler)
    ):
        yield
        return
    if not _listens:
        signal.signal(signal.SIGINT, _first)
    _held = True
    try:
        yield
    finally:
        _held = False
        came = _came
        for signum, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(signum, handler if came is None or not _listens else signal.SIG_DFL)
        if not _listens:
            _came = None
        if came is not None:
            raise Stopped


def _first(signum: int, frame: FrameType | None) -> None:
    global _came
    _came = signum
    for one in _SIGNALS:
        if signal.getsignal(one) is _first:
            signal.signal(one, signal.SIG_DFL if _listens else signal.default_int_handler)
    if _listens and signum == signal.SIGINT and os.isatty(2):
        os.write(2, b"\nstopping; Ctrl-C once more ends it at once\n")
    _act(signum, frame)


def _act(_: int, frame: FrameType | None) -> None:
    if _came is None or _held:  # at the end of `held_back` it is raised
        return
    if _is_lost_in(frame):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
    else:
        raise Stopped


def _is_lost_in(frame: FrameType | None) -> bool:
    """Whether what is raised in a frame may be swallowed, or leave a lock taken."""
    if frame is not None and frame.f_code.co_name in _LOCKING:
        return True
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False

"""Which errors pass by themselves, and how long to wait before the next try."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

Result = TypeVar("Result")
_PASSING: Final = frozenset(
    {
        *(errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ESTALE),
        *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),
        *(errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH),
        *(errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.EREMOTEIO),
    }
)
"""What a busy machine or a network says in passing. A full disk and a missing file do not pass."""


def is_passing(error: BaseException) -> bool:
    """Whether the same attempt may succeed in a moment."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return isinstance(error, OSError) and error.errno in _PASSING


class Backoff(wait_exponential):
    """Waits that double: `first` seconds after the first failure, at most `longest`. For tenacity, or to be asked."""

    def __init__(self, first: float, longest: float) -> None:
        super().__init__(multiplier=first, max=longest)

    def seconds(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row; 0 after none."""
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = failures
        return self(state) if failures > 0 else 0.0


# Short waits: the images behind a file wait too.
_reading_again = Retrying(
    retry=retry_if_exception(lambda error: isinstance(error, OSError) and is_passing(error)),
    stop=stop_after_attempt(3),
    wait=Backoff(first=0.1, longest=1.0),
    reraise=True,
)


def reading_again(read: Callable[[], Result]) -> Result:
    """Return what `read` returns; try again where the file system refuses it in passing. Raises its last error."""
    return _reading_again(read)

"""Which errors pass by themselves, and how long to wait before the next try."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

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


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double: `first` seconds after the first failure, at most `longest`."""

    first: float
    longest: float

    def seconds(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row; 0 after none."""
        # The exponent is bounded, so that no count of failures overflows.
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 30)) if failures > 0 else 0.0


FILE_READS: Final = Backoff(first=0.1, longest=1.0)
"""Between two tries at one file. Short: the images behind it wait."""
FILE_TRIES: Final = 3


def reading_again(read: Callable[[], Result]) -> Result:
    """Return what `read` returns; try again where the file system refuses it in passing. Raises its last error."""
    failures = 0
    while True:
        try:
            return read()
        except OSError as error:
            failures += 1
            if failures == FILE_TRIES or not is_passing(error):
                raise
        time.sleep(FILE_READS.seconds(failures))

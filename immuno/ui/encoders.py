"""Encoders of sessions, to search the record by meaning: loaded in a thread, while pages go on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Final

from db import SessionRecord
from immuno.meaning import Meaning, config_of
from immuno_core.errors import ImmunoError

_WAIT: Final = 0.4
"""Seconds for which a page waits for an encoder before it says that it is being loaded."""
_MOST_ENCODERS: Final = 4


class Encoders:
    """The encoders of sessions, each loaded once, in one thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._lock = Lock()
        self._loading: dict[str, Future[Meaning]] = {}

    def of(self, session: SessionRecord, wait: float = _WAIT) -> Meaning | None:
        """Return the encoder of a session; None while it is being loaded. Raises SetupError where it cannot be."""
        with self._lock:
            if session.encoder.digest not in self._loading:
                while len(self._loading) >= _MOST_ENCODERS:
                    del self._loading[next(iter(self._loading))]
                self._loading[session.encoder.digest] = self._thread.submit(_loaded, session)
            loading = self._loading[session.encoder.digest]
        try:
            return loading.result(timeout=wait)
        except TimeoutError:
            return None
        except ImmunoError:
            with self._lock:  # what is mended meanwhile is tried again
                self._loading.pop(session.encoder.digest, None)
            raise


def _loaded(session: SessionRecord) -> Meaning:
    meaning = Meaning(config_of(session))
    meaning.vector("a photo")
    return meaning

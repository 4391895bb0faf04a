"""The service on uvicorn: where it listens, who is dropped, and how it stops.

Loopback by default; elsewhere only with a token. SIGHUP loads the shield's folder anew. SIGTERM and Ctrl-C end it: no
new request is taken, those in flight are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import threading

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from immuno.serving.listening import BACKLOG
from immuno.shield.service.app import Service, make_app
from immuno_core.errors import ImmunoError

_OPEN_FILES = 65_536


def serve(service: Service, listening: socket.socket) -> None:
    """Serve until a signal comes, which is then raised again; outside of the main thread until the process ends.

    Raises SetupError where the shield's encoder cannot be loaded.
    """
    asyncio.run(Server(service, listening).run())


class Server:
    """The service on a socket; `stop` ends it from any thread."""

    def __init__(self, service: Service, listening: socket.socket) -> None:
        self._service, self._listening = service, listening
        self._failure: BaseException | None = None
        config = uvicorn.Config(
            make_app(service, self._failed),
            http=_protocol(service.limits.seconds),
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=round(2 * service.limits.seconds) + 1,
        )
        self._server = uvicorn.Server(config)

    def stop(self) -> None:
        """Have it stop: no new request is taken, those in flight are answered."""
        self._server.should_exit = True

    async def run(self) -> None:
        """Serve until it is stopped. Raises SetupError where it cannot be started."""
        _raise_open_files()
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        await self._server.serve(sockets=[self._listening])
        if self._failure is not None:
            raise self._failure

    def _reload(self) -> None:
        def reload() -> None:
            with contextlib.suppress(ImmunoError):  # said, and counted
                self._service.reload()

        threading.Thread(target=reload, name="reload", daemon=True).start()

    def _failed(self, error: BaseException) -> None:
        self._failure = error
        self.stop()


def _protocol(seconds: float) -> type[H11Protocol]:
    """uvicorn's protocol, which also drops whoever does not get the head of a request across in `seconds`."""

    class Protocol(H11Protocol):
        _late: asyncio.TimerHandle | None = None
        _began = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._began = True
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._late is not None:
                self._late.cancel()

        def _watch(self) -> None:
            between = self.cycle is None or self.cycle.response_complete
            if between and self._late is None:
                self._late = self.loop.call_later(seconds, self._drop)
            elif not between and self._late is not None:
                self._late.cancel()
                self._late = None

        def _drop(self) -> None:
            if self._began and not self.transport.is_closing():
                self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()

    return Protocol


def _raise_open_files() -> None:
    """Take as many as the system gives: each connection is one, and 1,024 are soon reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))

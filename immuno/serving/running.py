"""An application on uvicorn, until a signal ends it."""

from __future__ import annotations

import contextlib
import socket

import uvicorn
from starlette.types import ASGIApp

from immuno_core.system.signals import stopped_status

_SECONDS = 30


def serve(app: ASGIApp, listening: socket.socket) -> int:
    """Serve until SIGTERM or Ctrl-C; what has been asked is answered. Return the exit status."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_SECONDS,
        limit_concurrency=200,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
        return 0
    return stopped_status()

"""A service that really listens, in a thread of the tests' process, and what is sent to it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from immuno.serving.access import LOOPBACK_NAMES
from immuno.serving.listening import listen
from immuno.shield.log import RejectedLog
from immuno.shield.service.app import Service
from immuno.shield.service.intake import Limits
from immuno.shield.service.server import Server
from immuno.shield.shield import Shield

TOKEN = "open sesame".replace(" ", "-")


class Running:
    """A service, and a client of it."""

    def __init__(self, service: Service, port: int, said: list[str], stop: Callable[[], None]) -> None:
        self.service, self.port, self.said, self.stop = service, port, said, stop
        self.url = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {service.token}"} if service.token else {}
        self.client = httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def judge(self, *images: bytes | tuple[str, bytes]) -> httpx.Response:
        """Send images, named or not, as a form."""
        named = [image if isinstance(image, tuple) else ("image.png", image) for image in images]
        return self.client.post("/judge", files=[("image", one) for one in named])

    def alive(self) -> bool:
        return self.client.get("/health").status_code == 200

    def number(self, name: str) -> float:
        """What a line of the metrics says."""
        lines = [line.rpartition(" ") for line in self.client.get("/metrics").text.splitlines()]
        return next(float(value) for key, _, value in lines if key == name)


@contextlib.contextmanager
def running(
    load: Callable[[], Shield], limits: Limits | None = None, token: str = "", log: RejectedLog | None = None
) -> Iterator[Running]:
    """A service on a free port of loopback, stopped at the end."""
    said: list[str] = []
    service = Service(load, limits=limits, token=token, hosts=LOOPBACK_NAMES, log=log, say=said.append)
    listening = listen("127.0.0.1", 0, token=token)
    server = Server(service, listening)
    port = listening.getsockname()[1]
    thread = threading.Thread(target=lambda: asyncio.run(server.run()), daemon=True)
    thread.start()
    found = Running(service, port, said, server.stop)
    try:
        wait_for(lambda: not service.problem)
        yield found
    finally:
        found.client.close()
        server.stop()
        thread.join(60)
        assert not thread.is_alive()


def wait_for(what: Callable[[], Any], seconds: float = 60) -> None:
    """Wait until something is the case."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def pictures(folder: Path) -> Sequence[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob("*.png"))]

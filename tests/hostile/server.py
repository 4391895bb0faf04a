"""A chat server that may send anything, byte by byte, and says what it was asked."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.agents.chat.chat_server import serving

MOST_SENT = 64 * 2**20
"""Bytes that a reply without end sends, if it is let."""


@dataclass
class Talk:
    """One request, and the connection it came by."""

    connection: socket.socket
    asked: dict[str, Any]
    path: str
    server: HostileServer
    sent: int = 0

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)
        self.sent += len(data)
        with self.server.lock:
            self.server.most_sent = max(self.server.most_sent, self.sent)

    def drip(self, data: bytes, *, pause: float = 0.1) -> None:
        """Send a byte at a time, and the last one again and again, until the client hangs up."""
        for i in range(10_000):
            if self.server.closing.wait(pause):
                return
            self.send(data[i : i + 1] or data[-1:])

    def pour(self, piece: bytes) -> None:
        """Send a piece again and again."""
        while self.sent < MOST_SENT and not self.server.closing.is_set():
            self.send(piece)

    def reset(self) -> None:
        """Drop the connection as a crashed server does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()


Send = Callable[[Talk], None]


@dataclass
class HostileServer:
    """What it says and what it was asked."""

    address: str = ""
    say: Send = lambda talk: None
    most_sent: int = 0
    """Bytes that the longest reply came to."""
    requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)


@contextmanager
def hostile_server() -> Iterator[HostileServer]:
    """Run a server for the length of a block."""
    state = HostileServer()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(10)
            with suppress(OSError):
                head, body = b"", b""
                while b"\r\n\r\n" not in head:
                    if not (piece := self.request.recv(65536)):
                        return
                    head += piece
                head, _, body = head.partition(b"\r\n\r\n")
                lengths = (
                    line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-le")
                )
                length = int(next(lengths, b"0"))
                while len(body) < length:
                    body += self.request.recv(65536)
                with state.lock:
                    state.requests += 1
                asked = json.loads(body) if body else {}
                state.say(Talk(self.request, asked, head.split(b" ")[1].decode(), state))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    with serving(server, state.closing):
        yield state

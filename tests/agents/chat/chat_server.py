"""A stand-in for an OpenAI-compatible server: real HTTP on 127.0.0.1, replies set by the test."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer
from typing import Any, NamedTuple


class Response(NamedTuple):
    """What the server sends back: after `delay` seconds, or nothing at all where it drops the connection half-way."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    dropped: bool = False


def completion(content: str | None, *, finish: str = "stop", **message: Any) -> Response:
    """A chat completion with this content, and a usage of 11 and 7 tokens."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "tiny", "choices": [choice], "usage": usage}
    return Response(200, json.dumps(body).encode())


@dataclass
class ChatServer:
    """The server's address, what it answers, and what it was asked."""

    address: str = ""
    reply: Response | Callable[[], Response] = field(default_factory=lambda: completion("{}"))
    answer: Callable[[dict[str, Any]], Response] | None = None
    """Called with the request where the reply depends on it; else `reply` is sent."""
    most_at_once: int = 0
    """The most requests that were under way at the same moment."""
    under_way: int = 0
    connections: int = 0
    """Opened in all."""
    open_connections: int = 0
    keeps: bool = True
    """Whether a connection stays open after a reply; else it is closed without a word about it."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def never(self) -> Response:
        """Wait until the test is over."""
        self.closing.wait(30)
        return Response(503, b"{}")


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """Run a server for the length of a test."""
    state = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # keep-alive, as real servers do
        timeout = 30

        def setup(self) -> None:
            with state.lock:
                state.connections += 1
                state.open_connections += 1
            super().setup()

        def finish(self) -> None:
            with suppress(OSError):
                super().finish()
            with state.lock:
                state.open_connections -= 1

        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with state.lock:
                state.headers.append({name.lower(): value for name, value in self.headers.items()})
                state.requests.append(asked)
                state.under_way += 1
                state.most_at_once = max(state.most_at_once, state.under_way)
            if state.answer is not None:
                reply = state.answer(asked)
            else:
                reply = state.reply() if callable(state.reply) else state.reply
            if reply.delay:
                state.closing.wait(reply.delay)
            with state.lock:
                state.under_way -= 1
            with suppress(ConnectionError):  # the client may have given up waiting
                self.send_response(reply.status)
                self.send_header("content-type", reply.content_type)
                self.send_header("content-length", str(len(reply.body)))
                for name, value in reply.headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body[: len(reply.body) // 2] if reply.dropped else reply.body)
            self.close_connection = self.close_connection or reply.dropped or not state.keeps

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}/v1"
    with serving(server, state.closing):
        yield state


@contextmanager
def serving(server: BaseServer, closing: threading.Event) -> Iterator[None]:
    """Run a server in a thread; at the end `closing` is set first, so that whatever waits in it stops."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join()

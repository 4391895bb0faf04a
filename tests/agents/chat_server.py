"""A stand-in for an OpenAI-compatible server: real HTTP on 127.0.0.1, replies set by the test."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """What the server sends back."""

    status: int
    body: bytes
    content_type: str = "application/json"


def completion(content: str | None, *, finish: str = "stop", **message: Any) -> Reply:
    """A chat completion with this content, and a usage of 11 and 7 tokens."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "tiny", "choices": [choice], "usage": usage}
    return Reply(200, json.dumps(body).encode())


@dataclass
class ChatServer:
    """The server's address, what it answers, and what it was asked."""

    address: str = ""
    reply: Reply | Callable[[], Reply] = field(default_factory=lambda: completion("{}"))
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def never(self) -> Reply:
        """Wait until the test is over."""
        self.closing.wait(30)
        return Reply(503, b"{}")


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """Run a server for the length of a test."""
    state = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            state.requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            reply = state.reply() if callable(state.reply) else state.reply
            with suppress(ConnectionError):  # the client may have given up waiting
                self.send_response(reply.status)
                self.send_header("content-type", reply.content_type)
                self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()

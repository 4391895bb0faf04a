"""What OpenAI-compatible servers are spoken to with: a reply is read as a stream, up to a bound, and handed on clean.

Imports the OpenAI client, which takes a while: agents.chat.models imports this when such a model is made.
"""

from __future__ import annotations

import json
import re
import zlib
from typing import Any, Final

from openai import DefaultAsyncHttpxClient

from agents.answers import said_with_calls
from agents.chat.failures import QUOTA, ModelUnavailable, one_line, refusal, server_says
from agents.replies import token_count
from immuno_core.config.proxies import is_this_machine, through_proxy
from immuno_core.text import read_json

MOST_BYTES: Final = 8 * 2**20
"""Of a reply, unpacked: a million tokens."""
_MOST_OF_AN_ERROR: Final = 64 * 1024
_MOST_MOVES: Final = 3
_ABOUT_US: Final = re.compile("x-stainless-(?!raw-response)")
"""What the OpenAI client tells a server of this machine and of itself, in half of a request's head; the one header that
it reads itself stays."""


class BoundedClient(DefaultAsyncHttpxClient):
    """An HTTP client that reads at most MOST_BYTES of a reply, and sends a prompt to no other server than it was given.

    No proxy is asked for `host` where that is this machine. Connections are kept from one request to the next, until
    `hang_up`.
    """

    def __init__(self, host: str) -> None:
        # httpx2 prefers these to the proxies of the environment; None is the way without one.
        super().__init__(mounts={f"all://{host}": None} if is_this_machine(host) else None)

    async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:  # noqa: ARG002 - always whole
        """Return the whole response. Raises ModelUnavailable where it is too long, leads elsewhere or is no reply."""
        for name in [name for name in request.headers if _ABOUT_US.match(name)]:
            del request.headers[name]
        for _ in range(_MOST_MOVES):
            request.headers["accept-encoding"] = "identity"
            response = await super().send(request, stream=True, **options | {"follow_redirects": False})
            try:
                if not response.is_redirect:
                    return await _whole(response)
            finally:
                await response.aclose()
            request = _moved(request, response)
        raise ModelUnavailable(
            f"the chat model's address leads on and on (HTTP {response.status_code}): {_CORRECT}", for_all=True
        )

    async def hang_up(self) -> None:
        """Close the connections that wait for another request; one that comes opens its own."""
        for transport in (self._transport, *self._mounts.values()):
            if transport is not None:
                await transport.aclose()


_CORRECT: Final = "correct base_url"


def _moved(request: Any, response: Any) -> Any:
    """Return the request to where a server sends it on. Raises ModelUnavailable unless that is the same server."""
    status, moved = response.status_code, response.next_request
    said = f"the chat model's server answered HTTP {status}"
    if moved is None or moved.method != request.method:
        raise ModelUnavailable(f"{said}, which leads nowhere: {_CORRECT}", for_all=True)
    old, new = request.url, moved.url
    if new.host != old.host or (new.scheme != "https" and (new.scheme, new.port) != (old.scheme, old.port)):
        where = one_line(f"{new.scheme}://{new.netloc.decode()}")
        raise ModelUnavailable(
            f"{said} and sends the request to {where}, another server, which does not get the prompt; if that is the "
            "right one, write its address into base_url",
            for_all=True,
        )
    return moved


async def _whole(response: Any) -> Any:
    """Return a response with all of its body, and what is asked for in it checked."""
    body, well = await _body(response), response.is_success
    if well and response.request.url.path.endswith("/chat/completions"):
        body = _clean(body, response)
    left_out = ("content-encoding", "content-length", "content-type" if well else "", "transfer-encoding")
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in left_out]
    if well:
        headers.append(("content-type", "application/json"))
    return type(response)(response.status_code, headers=headers, content=body, request=response.request)


async def _body(response: Any) -> bytes:
    """Read a body, unpacked; of an error no more than its beginning. Raises ModelUnavailable."""
    most = MOST_BYTES if response.is_success else _MOST_OF_AN_ERROR
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if packing in ("gzip", "x-gzip", "deflate") else None
    if unpack is None and packing not in ("identity", ""):
        raise _no_reply(response, f"a body packed as '{one_line(packing)}', which was not asked for")
    body = bytearray()
    async for piece in response.aiter_raw():
        try:
            body += unpack.decompress(piece, most + 1 - len(body)) if unpack else piece
        except zlib.error:
            raise _no_reply(response, f"a body that is no {packing}") from None
        if len(body) > most:
            if response.is_success:
                raise _no_reply(response, f"more than {most // 2**20} MiB")
            break
    return bytes(body[:most])


def _clean(body: bytes, response: Any) -> bytes:
    """Return a chat completion as the OpenAI client reads it without fail: what we need of it, each of its own type.

    Raises ModelUnavailable, to be tried again, where it holds no message.
    """
    try:
        answer = read_json(body)
    except ValueError:
        start = body[:200].lstrip().lower()
        what = "HTML" if start.startswith((b"<!doctype", b"<html", b"<h")) else "what is no JSON"
        raise _no_reply(response, what if start else "an empty body") from None
    said = answer if isinstance(answer, dict) else {}
    choices = said.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    error = choice.get("error") or said.get("error")
    if not isinstance(message, dict):
        raise _error_of(error, response) if error else _no_reply(response, "JSON without a message")
    content, finish, arguments = message.get("content"), choice.get("finish_reason"), _arguments(message)
    if error and not content and not arguments:
        raise _error_of(error, response)
    parts = isinstance(content, list) and all(isinstance(part, str | dict) for part in content)
    cleaned = {
        "role": "assistant",
        "content": content if content is None or isinstance(content, str) or parts else json.dumps(content),
        "refusal": refusal if isinstance(refusal := message.get("refusal"), str) else None,
    }
    if arguments:
        # LangChain takes arguments for objects only, and what is said beside them for the answer.
        cleaned["content"] = said_with_calls(content if isinstance(content, str) else "", arguments)
    only = {"index": 0, "finish_reason": finish if isinstance(finish, str) else None, "message": cleaned}
    completion = {"id": "", "object": "chat.completion", "created": 0, "model": "", "choices": [only]}
    used: dict[str, Any] = usage if isinstance(usage := said.get("usage"), dict) else {}
    counts = [token_count(used.get(name)) for name in _COUNTED]
    if None not in counts:
        completion["usage"] = dict(zip(_COUNTED, counts, strict=True))
    return json.dumps(completion).encode()


def _arguments(message: dict[str, Any]) -> list[Any]:
    """What the calls of a message say, those of functions, as they were, too."""
    calls = message.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    functions.append(message.get("function_call"))
    said = (function.get("arguments") for function in functions if isinstance(function, dict))
    return [one for one in said if one]


_COUNTED: Final = ("prompt_tokens", "completion_tokens")


def _no_reply(response: Any, what: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"no usable reply from the chat model: it answered HTTP {response.status_code} with {what}; check that "
        f"base_url is right (it often ends in /v1), and see the server's log{through_proxy(str(response.request.url))}",
        try_again=True,
    )


def _error_of(error: Any, response: Any) -> ModelUnavailable:
    """What an error means that came as if all were well."""
    fields = error if isinstance(error, dict) else {}
    code = fields.get("code")
    return refusal(
        f"HTTP {response.status_code} with an error",
        code if type(code) is int and 400 <= code < 600 else None,
        server_says(error) or "without a word about it",
        quota=QUOTA in (code, fields.get("type")),
        through=through_proxy(str(response.request.url)),
    )

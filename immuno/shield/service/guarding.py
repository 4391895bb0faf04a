"""What every request passes, whatever it asks for: who may ask, from which page, and what a browser may do with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from immuno.serving.access import foreign, has_token
from immuno.shield.service.intake import RefusedError

_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def authorise(request: Request, token: str) -> None:
    """Raise RefusedError where a request lacks the token; "" asks for none."""
    if not has_token(request.headers, token):
        raise RefusedError(401, "the token is missing or wrong (Authorization: Bearer ...)", WWW_Authenticate="Bearer")


class Guard:
    """ASGI middleware: refuses foreign names and pages where no token does, and closes what was not read to its end.

    Without a token, whoever can have a browser on this machine send a request could use the service: a page whose name
    is made to point here (DNS rebinding), told by Host, and any other page, told by Origin.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str] | None,
        seconds: float,
        answered: Callable[[Scope, int], None],
        refuse: Callable[[RefusedError], ASGIApp],
    ) -> None:
        """`hosts` may be in Host; None: all. `seconds` is how long a refused request is read on."""
        self._app, self._hosts, self._seconds = app, hosts, seconds
        self._answered, self._refuse = answered, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        # A client that waits to be told to send its body does not send it now.
        unread, status = "expect" not in headers and _has_body(headers), 500

        async def heard() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and bool(message.get("more_body"))
            return message

        async def said(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = MutableHeaders(raw=message.setdefault("headers", []))
                own.update({name: value for name, value in _HEADERS.items() if name not in own})
                if unread:
                    own["connection"] = "close"
            elif unread and status != 408 and not message.get("more_body"):
                # Closed before the client has sent all, the connection would be reset, and the answer lost.
                await send({**message, "more_body": True})
                await _drain(receive, self._seconds)
                message = {"type": "http.response.body"}
            await send(message)

        try:
            app = self._app
            if (error := self._foreign(headers)) is not None:
                app = self._refuse(error)
            await app(scope, heard, said)
        finally:
            self._answered(scope, status)

    def _foreign(self, headers: Headers) -> RefusedError | None:
        refused = foreign(headers, self._hosts)
        return None if refused is None else RefusedError(*refused)


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


async def _drain(receive: Receive, seconds: float) -> None:
    message: dict[str, Any] = {"more_body": True}
    try:
        async with asyncio.timeout(seconds):
            while message.get("more_body"):
                message = dict(await receive())
    except TimeoutError:
        return

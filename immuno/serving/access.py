"""Who may ask a server of ours: whoever has its token; without one, this machine under its own name.

Without a token, whoever can have a browser on this machine send a request could use the server: a page whose name is
made to point here (DNS rebinding) is told by Host, and any other page by Origin and Sec-Fetch-Site.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")


def has_token(headers: Headers, token: str) -> bool:
    """Whether a request has the token (as a bearer, or as the password that a browser asks for); "" asks for none."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    given = given.strip()
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode("utf-8", "replace").partition(":")[2]
        except binascii.Error:
            given = ""
    known = hmac.compare_digest(given.encode(), token.encode())
    return not token or (known and scheme.lower() in ("bearer", "basic"))


def foreign(headers: Headers, hosts: Collection[str] | None) -> tuple[int, str] | None:
    """Return status and reason where a request is for another name, or another page's; `hosts` None takes any name."""
    if hosts is None:
        return None
    host = headers.get("host", "")
    if _name(f"//{host}") not in hosts:
        return 400, f"'{host[:100]}' is no name of this server; with a token any name serves"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return 403, "a page from elsewhere may not use this server"
    return None


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


class Access:
    """ASGI middleware: refuses who may not ask, and gives every answer the headers that a browser is to obey."""

    def __init__(self, app: ASGIApp, *, token: str, hosts: Collection[str] | None, policy: str) -> None:
        """`hosts` may be in Host, where there is no `token`; `policy` is the Content-Security-Policy."""
        self._app, self._token, self._hosts = app, token, None if token else hosts
        self._headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def said(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = MutableHeaders(raw=message.setdefault("headers", []))
                own.update({name: value for name, value in self._headers.items() if name not in own})
            await send(message)

        headers, app = Headers(scope=scope), self._app
        if (refused := foreign(headers, self._hosts)) is not None:
            app = PlainTextResponse(refused[1], refused[0])
        elif not has_token(headers, self._token):
            asks = {"www-authenticate": 'Basic realm="the token is the password", charset="UTF-8"'}
            app = PlainTextResponse("the token is missing or wrong", 401, asks)
        elif self._hosts is not None and _brought(headers):
            app = PlainTextResponse("a page from elsewhere may not use this server", 403)
        await app(scope, receive, said)


def _brought(headers: Headers) -> bool:
    """Whether a page from elsewhere had the browser ask for this: a link that somebody followed is let through."""
    elsewhere = headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")
    return elsewhere and headers.get("sec-fetch-dest") != "document"

"""Where a server listens: on loopback, elsewhere only with a token."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

from immuno_core.errors import SetupError
from immuno_core.files import read_text

BACKLOG = 2048
"""Connections that may wait to be taken."""


def read_token(file: Path | None) -> str:
    """Return the token of a file, else that of $IMMUNO_TOKEN, else "". Raises SetupError for one that none can send."""
    given = os.environ.get("IMMUNO_TOKEN", "") if file is None else read_text(file, "token")
    token = given.strip()
    if (file is not None or given) and not (token.isascii() and token.isprintable() and token and " " not in token):
        where = "$IMMUNO_TOKEN" if file is None else str(file)
        raise SetupError(f"{where} holds no token: write one word of letters and digits, such as openssl rand -hex 32")
    return token


def listen(host: str, port: int, *, token: str) -> socket.socket:
    """Return a socket that listens. Raises SetupError where it cannot, and off loopback without a token."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        if not token and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
            raise SetupError(
                f"whoever reaches {host} could use this: give --token-file or $IMMUNO_TOKEN, or leave --host out"
            )
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SetupError(f"cannot listen on {host} port {port}: {why}; choose others with --host and --port") from None


def address_of(host: str, listening: socket.socket) -> str:
    """Return the address that a browser takes."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}"

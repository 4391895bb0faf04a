"""What may be shown or stored of an address, or of any other text: no password, no key. Only this module decides it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

SECRET_NAME = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL)(?!.*(?:PATH|FILE|MODE))", re.IGNORECASE)
"""In names of environment variables whose values are secrets, not files that hold them."""
_SHORTEST_SECRET = 8
_HIDDEN = "***"
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>`]+", re.IGNORECASE)
_LIKE_A_KEY = re.compile(
    r"\b(?:sk|pk|gsk|hf|xai|key|ghp|glpat|xox[a-z])[-_][\w*.-]{6,}|\bBearer\s+\S+|\b(?:AIza|AKIA|eyJ)[\w-]{12,}"
    r"|\b(?=\w*[a-z])(?=\w*[A-Z])(?=\w*\d)[A-Za-z0-9]{24,}\b",
    re.ASCII,
)
"""What the usual providers call keys (errors quote a wrong one, half of it starred out: a secret too), and long words
of small letters, capitals and digits."""
_PLAIN_PARAMETERS = ("host", "port", "dbname", "sslmode", "mode", "uri", "immutable")
"""Of a query: what tells one database from another."""


def shown_address(address: str) -> str:
    """Return what may be shown of a URL: a password, values of its query, what is behind # and keys become ***.

    Of a database the user's name stays. Where it cannot be told what is a password, only the scheme stays.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return _LIKE_A_KEY.sub(_HIDDEN, address)
    place, mark, more = _cut(rest)
    if "@" in more:  # of a password with ? or # in it, or of the query
        return f"{scheme}://{_HIDDEN}"
    credentials, at, place = place.rpartition("@")
    user, colon, password = credentials.partition(":")
    if scheme.startswith("postgresql"):
        safe = not {"/", "@"} & set(password) or not colon
        credentials = f"{user if safe else _HIDDEN}{colon}{_HIDDEN if colon else ''}"
    elif at:
        credentials = _HIDDEN
    return f"{scheme}://{credentials}{at}{_LIKE_A_KEY.sub(_HIDDEN, place)}{mark}{_shown_query(mark, more)}"


def _cut(rest: str) -> tuple[str, str, str]:
    end = next((i for i, character in enumerate(rest) if character in "?#"), len(rest))
    return rest[:end], rest[end : end + 1], rest[end + 1 :]


def _shown_query(mark: str, more: str) -> str:
    if mark != "?":
        return _HIDDEN if more else ""
    query, sharp, _ = more.partition("#")
    pairs = (pair.partition("=") for pair in query.split("&"))
    kept = [f"{name}{equals}{value if name in _PLAIN_PARAMETERS else _HIDDEN}" for name, equals, value in pairs if name]
    return "&".join(kept) + (sharp and f"{sharp}{_HIDDEN}")


def without_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return a text without values of environment variables that are named like secrets, passwords and keys."""
    for name, value in environment.items():
        if SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "[secret]")
    return _LIKE_A_KEY.sub("[secret]", _ADDRESS.sub(lambda found: shown_address(found[0]), text))


def server_address(address: str) -> str:
    """Return the http(s) address of a server. Raises ValueError for what is none, and for one that holds a secret."""
    if not address.startswith(("http://", "https://")) or not urlsplit(address).hostname:
        raise ValueError("that is not the address of a server; write it as in http://10.0.0.7:8000/v1")
    if "?" in address or shown_address(address) != address:
        raise ValueError(
            "it holds a user, a password, a key, a query or a #; it is stored and shown, so leave them out: keys come "
            "from the environment (OPENAI_API_KEY)"
        )
    return address

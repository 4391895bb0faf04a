"""Which proxy a request would go through: that of the environment (HTTP_PROXY), but none to reach this machine."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from immuno_core.config.secrecy import shown_address


def is_this_machine(host: str) -> bool:
    """Whether a host's name or address, as in an URL, is that of this machine: localhost, 127.0.0.1, ::1, 0.0.0.0."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for an URL, as in "http://10.0.0.1:3128 (HTTP_PROXY)".

    None where a request goes straight: no proxy is named, NO_PROXY has the host, or it is this machine.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        proxies = getproxies()
        scheme = parts.scheme if proxies.get(parts.scheme) else "all"
        if scheme not in proxies or is_this_machine(host) or proxy_bypass(host):
            return None
    except ValueError:
        return None
    return f"{shown_address(proxies[scheme])} ({scheme.upper()}_PROXY)"


def through_proxy(url: str) -> str:
    """Return what is to be added to a failure where a proxy stood between us and the server; else ""."""
    proxy = proxy_for(url)
    return f"; it was asked through the proxy {proxy}: NO_PROXY names hosts to ask straight" if proxy else ""

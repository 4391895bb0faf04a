"""Which proxy a request goes through: none to this machine, and its password is never shown."""

from __future__ import annotations

import pytest

from immuno_core.config.proxies import is_this_machine, proxy_for, through_proxy

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]"])
def test_this_machine(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize("host", ["", "example.org", "10.0.0.7", "127.0.0.1.example.org", "localhost.example.org"])
def test_other_machines(host: str) -> None:
    assert not is_this_machine(host)


def test_the_proxy_of_the_scheme_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_for("http://10.0.0.7:8000/v1") is None
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@proxy.lan:3128")
    assert proxy_for("http://10.0.0.7:8000/v1") == "http://***@proxy.lan:3128 (HTTP_PROXY)"
    assert proxy_for("https://10.0.0.7/v1") is None
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.lan:1080")
    assert proxy_for("https://10.0.0.7/v1") == "socks5://proxy.lan:1080 (ALL_PROXY)"
    assert "the proxy http://***@proxy.lan:3128 (HTTP_PROXY)" in through_proxy("http://10.0.0.7/v1")


def test_none_to_this_machine_nor_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.lan:3128")
    monkeypatch.setenv("NO_PROXY", "lab.lan")
    for url in (
        "http://127.0.0.1:8000/v1",
        "http://localhost/v1",
        "http://[::1]:80/v1",
        "http://gpu.lab.lan/v1",
        "http://[",
    ):
        assert proxy_for(url) is None
        assert through_proxy(url) == ""

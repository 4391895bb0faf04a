"""One start of a chat server: the process, whether it answers, and the end of its log."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final, cast

import click

from immuno_core.errors import SetupError

_GUARD: Final = Path(__file__).with_name("guard.py")
_TAIL_BYTES: Final = 64 * 1024
_TAIL_LINES: Final = 25
_LONGEST_LINE: Final = 300


class ServerProcess:
    """A server that runs until `stop`, until it ends by itself, or until this process is gone."""

    def __init__(
        self, command: Sequence[str], *, log: Path, environment: Mapping[str, str], grace: float = 30.0
    ) -> None:
        """Start it, in the folder of its log. `grace`: seconds between SIGTERM and SIGKILL.

        Raises SetupError where the program cannot be started.
        """
        guard = subprocess.Popen(
            [sys.executable, "-I", str(_GUARD), str(log), str(grace), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(environment),
            cwd=log.parent,
            start_new_session=True,
        )
        guard.wait()  # it has forked
        self._hold = cast(IO[str], guard.stdin)
        """The guard ends the server when this closes."""
        self._told = cast(IO[str], guard.stdout)
        said, _, rest = self._read().partition(" ")
        if said != "pid":
            self._close()
            raise SetupError(f"the LLM server cannot be started: {rest or 'its guard ended'}")
        self.pid: Final = int(rest)
        self.exit_status: int | None = None
        """What it ended with: a signal's number is negative, as subprocess has it; None while it runs."""
        self._ended = threading.Event()
        threading.Thread(target=self._follow, daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait at most so long for its end; return whether it has ended."""
        return self._ended.wait(seconds)

    def stop(self) -> None:
        """End it with SIGTERM, and after the time of grace with SIGKILL; returns when it and its children are gone."""
        self._hold.close()
        self._ended.wait()

    def _follow(self) -> None:
        said, _, status = self._read().partition(" ")
        self.exit_status = int(status) if said == "exit" else -9
        self._close()
        self._ended.set()

    def _read(self) -> str:
        return self._told.readline().strip()

    def _close(self) -> None:
        self._hold.close()
        self._told.close()


def answers(url: str, *, timeout: float = 5.0) -> bool:
    """Whether a GET of an address of this machine brings status 200; no proxy is asked."""
    return _fetch(url, timeout, {}, urllib.request.ProxyHandler({})) is not None


def served_models(base_url: str, *, timeout: float = 5.0) -> list[str] | None:
    """Return the names that an OpenAI-compatible server lists at BASE_URL/models; None where nothing does."""
    key = os.environ.get("OPENAI_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = _fetch(f"{base_url.rstrip('/')}/models", timeout, headers, urllib.request.ProxyHandler())
    try:
        return [str(one["id"]) for one in json.loads(body or b"")["data"]]
    except (ValueError, KeyError, TypeError):
        return None


def _fetch(url: str, timeout: float, headers: Mapping[str, str], proxies: urllib.request.ProxyHandler) -> bytes | None:
    """The body behind an http(s) address; None unless it comes with status 200."""
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - LLMServerConfig lets http(s) through
    try:
        with urllib.request.build_opener(proxies).open(request, timeout=timeout) as answer:
            body: bytes = answer.read()
            return body if answer.status == 200 else None
    except (OSError, ValueError, http.client.HTTPException):
        return None


def log_tail(log: Path) -> str:
    """Return the last lines of a log, fit for a terminal and without our own questions; "" where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = ["".join(filter(str.isprintable, line)) for line in click.unstyle(text).splitlines()]
    told = [line[:_LONGEST_LINE] for line in lines if line.strip() and "GET /health" not in line]
    return "\n".join(told[-_TAIL_LINES:])

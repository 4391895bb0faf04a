"""One start of a chat server: the process, whether it answers, and the end of its log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final, cast

import click

from immuno_core.config.proxies import proxy_for
from immuno_core.errors import SetupError
from immuno_core.text import read_json

_GUARD: Final = Path(__file__).with_name("guard.py")
_TAIL_BYTES: Final = 64 * 1024
_TAIL_LINES: Final = 25
_LONGEST_LINE: Final = 300
_MOST_BYTES: Final = 2**20


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

    def listens_on(self, port: int) -> bool:
        """Whether it, or a process that it started, listens on a port: somebody else may have taken that meanwhile."""
        import psutil

        with contextlib.suppress(psutil.Error):
            server = psutil.Process(self.pid)
            for one in (server, *server.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    heard = {it.laddr.port for it in one.net_connections("tcp") if it.status == psutil.CONN_LISTEN}
                    if port in heard:
                        return True
        return False

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
    return _fetch(url, timeout, {}, by_proxy=False) is not None


def served_models(base_url: str, *, timeout: float = 5.0) -> list[str] | None:
    """Return the names that an OpenAI-compatible server lists at BASE_URL/models; None where nothing does."""
    key = os.environ.get("OPENAI_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = f"{base_url.rstrip('/')}/models"
    body = _fetch(url, timeout, headers, by_proxy=proxy_for(url) is not None)
    try:
        return [str(one["id"]) for one in read_json(body or b"")["data"]]
    except (ValueError, KeyError, TypeError):
        return None


def _fetch(url: str, timeout: float, headers: Mapping[str, str], *, by_proxy: bool) -> bytes | None:
    """The body behind an http(s) address; None unless it comes with status 200, whole, not too long, and in time.

    Redirects are not followed: a key is meant for one server.
    """
    import aiohttp  # ray[default] brings it; its `total` is a time-out that a server cannot stretch byte by byte

    async def get() -> bytes | None:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=timeout), trust_env=by_proxy, auto_decompress=False
            ) as session,
            session.get(url, headers={**headers, "Accept-Encoding": "identity"}, allow_redirects=False) as answer,
        ):
            body = bytearray()
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > _MOST_BYTES:
                    return None
            return bytes(body) if answer.status == 200 else None

    try:
        # In a thread of its own: the caller's may have an event loop, as that of a notebook has.
        with ThreadPoolExecutor(1) as one:
            return one.submit(lambda: asyncio.run(get())).result()
    except (OSError, ValueError, aiohttp.ClientError):
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

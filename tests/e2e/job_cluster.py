"""A Ray cluster of its own that takes jobs, as `ray start --head` makes it: own ports, folder and token."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class JobCluster:
    address: str
    """Of the dashboard."""
    gcs: str
    """What a program joins."""
    token: Path
    home: Path
    """The home folder of its jobs."""

    def environment(self) -> dict[str, str]:
        """That of somebody who has the token."""
        return plain_environment() | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}


def plain_environment() -> dict[str, str]:
    """One that knows of no cluster; `python` and `ray` are those of the tests, as in an activated environment."""
    left_out = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    kept = {name: value for name, value in os.environ.items() if name not in left_out and not name.startswith("PYTEST")}
    return kept | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


@contextlib.contextmanager
def job_cluster() -> Iterator[JobCluster]:
    """Start the cluster, and end it by its own process: `ray stop` would end every other one on this machine too."""
    # Ray's sockets lie there, and their paths may be no longer than 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="jobs-", dir="/tmp"))
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    (folder / "home").mkdir()
    port, dashboard, *others = free_ports(5)
    cluster = JobCluster(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", token, folder / "home")
    options = {
        "port": port,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": others[0],
        "ray-client-server-port": others[1],
        "metrics-export-port": others[2],
        "node-ip-address": "127.0.0.1",
        "temp-dir": folder / "ray",
        "num-cpus": 2,
        "object-store-memory": 100 * 2**20,
    }
    command = [BIN / "ray", "start", "--head", "--block", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "ray.log").open("wb") as log:
        head = subprocess.Popen(
            command, env=cluster.environment() | {"HOME": str(cluster.home)}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_until_up(cluster, head, folder / "ray.log")
        yield cluster
    finally:
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(60)
        finally:
            head.kill()
            shutil.rmtree(folder, ignore_errors=True)


def wait_until_up(cluster: JobCluster, head: subprocess.Popen[bytes], log: Path) -> None:
    headers = {"Authorization": f"Bearer {cluster.token.read_text()}"}
    request = urllib.request.Request(f"{cluster.address}/api/jobs/", headers=headers)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 120
    while head.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, OSError), opener.open(request, timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]

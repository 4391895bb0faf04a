"""Ray is joined where it runs and started where it does not; only what was started here is shut down."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import ray

from cluster.runtime import CONNECT_TIMEOUT, connect, node_resources
from immuno.errors import SetupError

from .scripts import run_script


@contextmanager
def deaf_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.ray
def test_a_program_already_connected_stays_connected(ray_cluster: str) -> None:
    with connect("203.0.113.1:6379") as address:
        assert address == ray_cluster
    assert ray.is_initialized()
    assert node_resources()[0]["CPU"] == 2


def test_an_address_where_nothing_answers_is_refused_in_one_line() -> None:
    out = run_script(
        """
        import time
        from cluster.runtime import connect
        from immuno.errors import SetupError
        import socket

        def refusal(address):
            started = time.monotonic()
            try:
                with connect(address):
                    print("connected")
            except SetupError as error:
                print(time.monotonic() - started < 12, str(error).count("\\n"), error)

        refusal("127.0.0.1:1")
        refusal("no-such-host.invalid:6379")
        refusal("http://127.0.0.1:8265")
        refusal("auto")
        refusal("nonsense")
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            refusal(f"127.0.0.1:{deaf.getsockname()[1]}")
        """
    ).splitlines()
    assert all(line.startswith("True 0 ") for line in out)
    refused, unknown, dashboard, auto, nonsense, deaf = (line.removeprefix("True 0 ") for line in out)
    for message in (refused, unknown, nonsense, deaf):
        assert message.startswith("no Ray cluster answers at ")
        assert f"{CONNECT_TIMEOUT:.0f} s" in message
    assert "ray job submit" in dashboard
    assert "Could not find any running Ray instance" in auto

"""Ray is joined where it runs and started where it does not; only what was started here is shut down."""

from __future__ import annotations

import pytest
import ray

from cluster.actors.runtime import CONNECT_TIMEOUT, connect, node_resources

from .scripts import run_script


@pytest.mark.ray
def test_a_program_already_connected_stays_connected(ray_cluster: str) -> None:
    with connect("203.0.113.1:6379") as address:
        assert address == ray_cluster
    assert ray.is_initialized()
    assert node_resources()[0]["CPU"] == 2


def test_an_address_where_nothing_answers_is_refused_in_one_line_and_in_time() -> None:
    assert CONNECT_TIMEOUT == 10
    out = run_script(
        """
        import socket, time
        from cluster.actors import runtime
        from immuno_core.errors import SetupError

        def refusal(address):
            started = time.monotonic()
            try:
                with runtime.connect(address):
                    print("connected")
            except SetupError as error:
                print(time.monotonic() - started < 5, str(error).count("\\n"), error)

        refusal("127.0.0.1:1")
        refusal("no-such-host.invalid:6379")
        refusal("nonsense")
        runtime.CONNECT_TIMEOUT = 1.0
        with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections and never says a word
            refusal(f"127.0.0.1:{deaf.getsockname()[1]}")
        refusal("http://127.0.0.1:8265")
        """
    ).splitlines()
    assert [line[:7] for line in out] == ["True 0 "] * 5
    assert all("no Ray cluster answers at '" in line for line in out[:4])
    assert "ray job submit" in out[4]


@pytest.mark.ray
def test_a_cluster_that_wants_a_token_says_which(ray_cluster: str) -> None:
    out = run_script(
        """
        import os, sys
        from cluster.actors.runtime import connect
        from immuno_core.errors import SetupError

        os.environ["RAY_AUTH_MODE"] = "disabled"  # as in a shell that knows nothing of the cluster
        try:
            with connect(sys.argv[1]):
                print("connected")
        except SetupError as error:
            print(error)
        """,
        ray_cluster,
    )
    assert out.startswith(
        f"the Ray cluster at '{ray_cluster}' asks for its token: set RAY_AUTH_MODE=token, and RAY_AUTH"
    )
    assert out.count("\n") == 1

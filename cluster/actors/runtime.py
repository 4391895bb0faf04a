"""Joins a Ray cluster, or starts a private one on this machine and shuts it down again.

with connect("10.0.0.1:6379"): ...      # joined, and left running
with connect(None): ...                 # $RAY_ADDRESS if set, else a private cluster
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from immuno_core.errors import SetupError, first_line
from immuno_core.system.signals import held_back
from immuno_core.system.temporary import OwnedFolder

CONNECT_TIMEOUT: Final = 10.0
"""Seconds within which a cluster must answer; Ray itself would try for minutes, and then end the program."""
# Work goes out as paths and comes back as small arrays, so the object store needs little of the machine's memory.
_OBJECT_STORE_BYTES: Final = 128 * 2**20
_ARE_YOU_THERE: Final = "/ray.rpc.NodeInfoGcsService/CheckAlive"


@contextlib.contextmanager
def connect(address: str | None = None, *, num_cpus: int | None = None) -> Iterator[str]:
    """Be connected to Ray within the block; yields the cluster's address.

    `address` is that of a cluster ("host:6379", "ray://host:10001", "auto"), or "local" for a private one; None takes
    $RAY_ADDRESS, else "local". `num_cpus` is for a private cluster; default: the machine's. A program that is connected
    already keeps its connection. Only what was started here is shut down.

    Raises SetupError where no cluster answers within CONNECT_TIMEOUT seconds (30 for ray://).
    """
    import ray

    if ray.is_initialized():
        yield ray.get_runtime_context().gcs_address
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    with contextlib.ExitStack() as stack:
        with held_back():
            if address == "local":
                _start_private(stack, num_cpus)
                stack.enter_context(_being_private())
            else:
                _join(address)
            stack.callback(ray.shutdown)
        yield ray.get_runtime_context().gcs_address


_private = False


def is_private() -> bool:
    """Whether the cluster that is joined was started by this program, on this machine and for itself alone."""
    return _private


@contextlib.contextmanager
def _being_private() -> Iterator[None]:
    global _private
    _private = True
    try:
        yield
    finally:
        _private = False


def node_resources() -> list[dict[str, float]]:
    """Return the resources (CPU, GPU, ...) of each machine of the cluster that is joined, less what is `set_aside`."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        {name: amount - _aside(node["NodeID"], name) for name, amount in node["Resources"].items()}
        for node in nodes
        if node["Alive"]
    ]


_set_aside: list[tuple[str, dict[str, float]]] = []


@contextlib.contextmanager
def set_aside(node_id: str, resources: dict[str, float]) -> Iterator[None]:
    """Leave resources of a machine out of `node_resources` within the block: this program has given them away."""
    entry = (node_id, resources)
    _set_aside.append(entry)
    try:
        yield
    finally:
        _set_aside.remove(entry)


def _aside(node_id: str, name: str) -> float:
    return sum(resources.get(name, 0.0) for node, resources in _set_aside if node == node_id)


def _start_private(stack: contextlib.ExitStack, num_cpus: int | None) -> None:
    import ray

    # Ray puts unix sockets there, whose paths may have at most 107 characters: a long TMPDIR would break it.
    short = Path("/tmp")  # noqa: S108 - the folder is made anew, private to this user
    folder = OwnedFolder(within=short if os.access(short, os.W_OK) else None)
    # On exit, and also if the program ends without leaving the block.
    stack.callback(weakref.finalize(stack, folder.cleanup))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=str(folder.path / "r"),  # which Ray lets everybody write to
        )
    except (RuntimeError, OSError, ValueError, TimeoutError) as error:
        stack.close()
        raise SetupError(f"could not start Ray on this machine: {first_line(error).rstrip('.')}") from error
    _keep_stdout_clean()


def _join(address: str) -> None:
    import ray

    if address.startswith(("http://", "https://")):
        raise SetupError(
            f"the Ray address {address} is a dashboard's, which takes jobs (ray job submit); to join the cluster give "
            'host:6379, or "auto" on one of its machines'
        )
    if address != "auto" and "://" not in address:
        _check_answers(address)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error says it again
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (RuntimeError, OSError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        if _is_about_tokens(error):
            raise SetupError(_token_wanted(address)) from error
        raise SetupError(
            f"could not join the Ray cluster at '{address}': {first_line(error).rstrip('.')}; correct --ray or "
            "RAY_ADDRESS, or leave both out for a private cluster"
        ) from error
    _keep_stdout_clean()


def _check_answers(address: str) -> None:
    """Ask the cluster's head whether it is there, as `ray health-check` does."""
    import grpc  # type: ignore[import-untyped]  # comes with Ray, without types

    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return  # a plain channel cannot ask; ray.init will find out
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(_ARE_YOU_THERE)(b"", timeout=CONNECT_TIMEOUT)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise SetupError(
                    f"no Ray cluster answers at '{address}' (tried for up to {CONNECT_TIMEOUT:.0f} s); correct --ray "
                    "or RAY_ADDRESS, or leave both out for a private cluster"
                ) from None
            without_token = os.environ.get("RAY_AUTH_MODE", "").lower() != "token"
            if error.code() == grpc.StatusCode.UNAUTHENTICATED and without_token:
                raise SetupError(_token_wanted(address)) from None
            # Any other status is an answer too.


def _token_wanted(address: str) -> str:
    return (
        f"the Ray cluster at '{address}' asks for its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a "
        "copy of its head's ~/.ray/auth_token"
    )


def _keep_stdout_clean() -> None:
    """Keep Ray from printing "(raylet) A worker died ..." on standard output, which belongs to a command's result.

    Ray has no setting for it; its own debugger uses this same switch. `cluster.actors.pool` reports deaths through
    logging.
    """
    import ray._private.worker

    ray._private.worker._worker_logs_enabled = False


def _is_about_tokens(error: BaseException | None) -> bool:
    """Whether Ray's authentication is behind an error; it is told in the text of a cause of a cause."""
    while error is not None:
        if "AuthenticationError" in f"{type(error).__name__}: {error}":
            return True
        error = error.__cause__ or error.__context__
    return False

"""A chat server beside the embedding actors: started on GPUs that Ray sets aside for it, watched, and stopped.

    with serve_llm(config.llm_server, config.refine.llm) as base_url:
        ...                                       # http://10.0.0.7:41837/v1, for any OpenAI client

The server is a process of its own, with an interpreter of its own if need be (vLLM wants other versions of many
packages). An actor owns it, on the machine where Ray found the GPUs: it starts it again when it ends by itself, at the
same address, and takes it along when the run is over or dies.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from cluster.actors.runtime import connect, node_resources, set_aside
from cluster.llm.actor import LLMServerActor, LLMStatus
from cluster.llm.process import served_models
from immuno_core.config.llm_server import LLMServerConfig, served_name
from immuno_core.config.proxies import through_proxy
from immuno_core.errors import SetupError, did_you_mean, first_line

_LOOK_SECONDS: Final = 0.5
_TELL_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 90.0
_log = logging.getLogger(__name__)
Tell = Callable[[str], None]


@contextlib.contextmanager
def serve_llm(
    config: LLMServerConfig, llm: str, *, ray_address: str | None = None, tell: Tell = _log.info
) -> Iterator[str]:
    """Have the server of a configuration up within the block; yields its base_url, that of a running one included.

    `llm` is refine.llm: "openai:NAME"; `tell` is given a line now and then while it starts. Raises SetupError where the
    server cannot be reached or started, with the end of its log, and where Ray has not the GPUs.
    """
    name = served_name(llm)
    if name is None:
        raise SetupError(f"[llm_server] serves what refine.llm asks for, and that is '{llm}'; write it as openai:NAME")
    if config.base_url is not None:
        _wait_for_running(config.base_url, name, config.start_timeout, tell)
        yield config.base_url
        return
    with LLMServer.started(config, name, ray_address=ray_address, tell=tell) as server:
        yield server.base_url


class LLMServer:
    """A server that was started, and is up. `serve_llm` is the way in where its address is enough."""

    def __init__(self, actor: Any, status: LLMStatus) -> None:
        self._actor = actor
        self.base_url: Final = status.base_url
        self.log: Final = f"{status.host}:{status.log}"
        """Where its log is."""

    @classmethod
    @contextlib.contextmanager
    def started(
        cls, config: LLMServerConfig, name: str, *, ray_address: str | None = None, tell: Tell = _log.info
    ) -> Iterator[LLMServer]:
        """Start a server of `name`; it is stopped at the end of the block. Raises SetupError as `serve_llm` does."""
        import ray

        with contextlib.ExitStack() as stack:
            stack.enter_context(connect(ray_address))
            _check_gpus(config)
            remote: Any = ray.remote(LLMServerActor)
            options = remote.options(num_cpus=config.cpus, num_gpus=config.gpus, max_concurrency=2)
            actor = options.remote(config, name, local=len(node_resources()) == 1)
            stack.callback(ray.kill, actor)
            stack.callback(_stop, actor)
            status = _wait_until_up(actor, config, tell)
            stack.enter_context(set_aside(status.node_id, {"GPU": float(config.gpus), "CPU": config.cpus}))
            stack.enter_context(_without_proxy(status.host))
            tell(f"the LLM server is up: {name} at {status.base_url}, log {status.host}:{status.log}")
            server = cls(actor, status)
            try:
                yield server
            finally:
                if (last := server.status()).state == "failed":
                    _log.error("%s", _explain(last))

    def status(self) -> LLMStatus:
        """Return how it is now."""
        return _status(self._actor)


def _status(actor: Any) -> LLMStatus:
    import ray

    try:
        status: LLMStatus = ray.get(actor.status.remote())
    except ray.exceptions.RayActorError as error:
        return LLMStatus(state="failed", reason=f"the actor that owned the LLM server died ({first_line(error)})")
    return status


def _stop(actor: Any) -> None:
    import ray

    with contextlib.suppress(ray.exceptions.RayError):
        ray.get(actor.stop.remote(), timeout=_STOP_SECONDS)


def _check_gpus(config: LLMServerConfig) -> None:
    nodes = node_resources()
    if not any(node.get("GPU", 0.0) >= config.gpus and node.get("CPU", 0.0) >= config.cpus for node in nodes):
        most = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
        raise SetupError(
            f"no machine of the Ray cluster has the {config.gpus} GPU(s) and {config.cpus:g} CPU(s) that [llm_server] "
            f"asks for (the most GPUs on one machine: {most:g}); lower gpus or cpus, set gpus = 0 for a server on CPU "
            "cores, or name a running server with base_url"
        )


def _wait_until_up(actor: Any, config: LLMServerConfig, tell: Tell) -> LLMStatus:
    """Return the status of the server once it answers. Raises SetupError if it fails or takes too long."""
    import ray

    started = told = time.monotonic()
    pending = actor.status.remote()
    while True:
        ready, _ = ray.wait([pending], timeout=_LOOK_SECONDS)
        status = _status(actor) if ready else LLMStatus(state="waiting")
        if status.state == "up":
            return status
        if status.state == "failed":
            raise SetupError(_explain(status))
        waited = time.monotonic() - started
        place = f"for {config.gpus} free GPU(s)" if config.gpus else "for free CPU cores"
        what = place if status.state == "waiting" else "for the LLM server"
        if waited > config.start_timeout:
            late = f"waited {waited:.0f} s {what}, in vain"
            raise SetupError(_with_tail(f"{late}; raise [llm_server] start_timeout, or see what holds it up", status))
        if time.monotonic() - told > _TELL_SECONDS:
            told = time.monotonic()
            last = status.tail.splitlines()[-1:] or [""]
            tell(f"waiting {what}: {waited:.0f} s. {last[0][:150]}".rstrip())
        if ready:
            time.sleep(_LOOK_SECONDS)


def _explain(status: LLMStatus) -> str:
    return _with_tail(status.reason or "the LLM server failed", status)


def _with_tail(message: str, status: LLMStatus) -> str:
    if not status.tail:
        return message
    lines = "\n".join(f"  | {line}" for line in status.tail.splitlines())
    return f"{message}. The end of its log, {status.host}:{status.log}:\n{lines}"


def _wait_for_running(base_url: str, name: str, timeout: float, tell: Tell) -> None:
    """Wait until a server that somebody else runs answers. Raises SetupError if it does not, or has not this model."""
    started = told = time.monotonic()
    while (names := served_models(base_url)) is None:
        waited = time.monotonic() - started
        if waited > timeout:
            raise SetupError(
                f"no OpenAI-compatible server answers at {base_url}/models (tried for {waited:.0f} s); correct "
                "[llm_server] base_url, which often ends in /v1; a server with a key wants it in OPENAI_API_KEY"
                + through_proxy(base_url)
            )
        if time.monotonic() - told > _TELL_SECONDS:
            told = time.monotonic()
            tell(f"waiting for the LLM server at {base_url}: {waited:.0f} s")
        time.sleep(_LOOK_SECONDS)
    if name not in names:
        raise SetupError(f"the LLM server at {base_url} does not serve '{name}'{did_you_mean(name, names)}")


@contextlib.contextmanager
def _without_proxy(host: str) -> Iterator[None]:
    """Keep this program's HTTP clients from asking a proxy for a machine of the cluster."""
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    for name, value in before.items():
        os.environ[name] = f"{value},{host}" if value else host
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

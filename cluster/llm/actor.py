"""The Ray actor that owns a chat server: starts it, watches it, starts it again, stops it.

A plain class, so that it can be tried without Ray. Its constructor returns at once; a thread does the rest.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from cluster.llm.process import ServerProcess, answers, log_tail
from immuno_core.config.llm_server import LLMServerConfig
from immuno_core.errors import SetupError
from immuno_core.paths import cache_root
from immuno_core.retries import Backoff

State = Literal["waiting", "starting", "up", "failed", "stopped"]
_LOOK_SECONDS: Final = 0.25
"""Between two looks at a server that is starting."""
_LOOK_UP_SECONDS: Final = 5.0
"""Between two looks at one that is up; its end is noticed at once."""
_HUNG_SECONDS: Final = 120.0
"""A server that was up, and does not answer for so long, is taken for dead."""
_BACKOFF: Final = Backoff(first=1.0, longest=3600.0)
_MANY_GPUS: Final = ("--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp", "--data-parallel-size", "-dp")


@dataclass(frozen=True, slots=True)
class LLMStatus:
    """How a server is."""

    state: State
    """waiting (for its machine), starting (for the first time or again), up, failed, stopped."""
    base_url: str = ""
    host: str = ""
    node_id: str = ""
    """Ray's."""
    log: str = ""
    pid: int | None = None
    restarts: int = 0
    reason: str = ""
    """Why it failed."""
    tail: str = ""
    """The end of its log, unless it is up."""


class LLMServerActor:
    """Owns one server. `status` and `stop` may be called at any time."""

    def __init__(self, config: LLMServerConfig, name: str, *, local: bool, hung_seconds: float = _HUNG_SECONDS) -> None:
        """`local`: nobody outside this machine needs the server, so it listens on 127.0.0.1 only."""
        self._config = config
        self._name = name
        self._hung_seconds = hung_seconds
        self._process: ServerProcess | None = None
        self._stopping = threading.Event()
        self._status = LLMStatus(state="starting", host="127.0.0.1" if local else _own_address(), node_id=_node_id())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def status(self) -> LLMStatus:
        """Return how the server is now."""
        status = self._status
        return status if status.state == "up" else replace(status, tail=log_tail(Path(status.log)))

    def stop(self) -> LLMStatus:
        """Stop the server; returns when it is gone."""
        self._stopping.set()
        if (process := self._process) is not None:
            process.stop()
        self._thread.join()
        return self._status

    def _run(self) -> None:
        try:
            host = self._status.host
            port = _free_port(host, self._config.port or 0)
            log = self._config.log or cache_root() / "logs" / f"llm-server-{port}.log"
            base_url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
            self._set(log=str(log), base_url=base_url)
            _prepare(self._config, log)
            self._keep_up(server_command(self._config, self._name, host, port), log)
        except SetupError as error:
            self._set(state="failed", reason=str(error))
        except Exception as error:  # noqa: BLE001 - nobody else would hear of what ends this thread
            self._set(state="failed", reason=f"the LLM server's watch failed: {type(error).__name__}: {error}")

    def _keep_up(self, command: list[str], log: Path) -> None:
        """Start the server, and again when it ends by itself, until it is to stop or ends once too often."""
        restarts, was_up = 0, False
        while True:
            process = ServerProcess(command, log=log, environment=server_environment(self._config))
            self._process = process
            self._set(pid=process.pid)
            try:
                how = self._watch(process)
            finally:
                process.stop()
            self._set(pid=None)
            if self._stopping.is_set():
                self._set(state="stopped")
                return
            was_up = was_up or self._status.state == "up"
            if not was_up:
                raise SetupError(f"the LLM server {how} while it was starting{_hint(log_tail(log))}")
            if restarts == self._config.restarts:
                raise SetupError(
                    f"the LLM server {how} and was started again {restarts} time(s) before; that is the limit "
                    "([llm_server] restarts)"
                )
            restarts += 1
            self._set(state="starting", restarts=restarts)
            self._stopping.wait(_BACKOFF.seconds(restarts))

    def _watch(self, process: ServerProcess) -> str:
        """Follow a server until it ends, hangs or is to stop; return which, in words."""
        health = f"{self._status.base_url.removesuffix('/v1')}/health"
        port = urlsplit(health).port or 0
        answered = time.monotonic()
        while not self._stopping.is_set():
            up = self._status.state == "up"
            if process.wait(_LOOK_UP_SECONDS if up else _LOOK_SECONDS):
                status = process.exit_status or 0
                return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            if answers(health, timeout=min(5.0, self._hung_seconds)) and (up or process.listens_on(port)):
                answered = time.monotonic()
                self._set(state="up")
            elif up and time.monotonic() - answered > self._hung_seconds:
                os.kill(process.pid, signal.SIGKILL)  # it would not hear SIGTERM
                return f"did not answer for {self._hung_seconds:.0f} s"
        return "was stopped"

    def _set(self, **changes: object) -> None:
        self._status = replace(self._status, **changes)  # type: ignore[arg-type]  # fields of LLMStatus


def server_command(config: LLMServerConfig, name: str, host: str, port: int) -> list[str]:
    """Return the command line of a server that serves `name` at an address."""
    model = str(Path(config.model).expanduser()) if config.model else name
    many = config.gpus > 1 and not any(argument.split("=")[0] in _MANY_GPUS for argument in config.args)
    return [
        str(_interpreter(config)),
        *(part.replace("{model}", model) for part in config.command),
        *("--served-model-name", name, "--host", host, "--port", str(port)),
        *(("--tensor-parallel-size", str(config.gpus)) if many else ()),
        *config.args,
    ]


def server_environment(config: LLMServerConfig) -> dict[str, str]:
    """Return the environment of a server: this one's, without what is meant for our own interpreter."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment.setdefault("VLLM_NO_USAGE_STATS", "1")
    if config.gpus == 0:
        # Ray leaves the GPUs in sight of an actor that asked for none.
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment | config.env


def _interpreter(config: LLMServerConfig) -> Path:
    return config.python.expanduser() if config.python else Path(sys.executable)


def _prepare(config: LLMServerConfig, log: Path) -> None:
    """Raise SetupError for whatever can be seen to be wrong before a server is started."""
    where = socket.gethostname()
    python = _interpreter(config)
    if shutil.which(python) is None:
        raise SetupError(
            f"there is no program at {python} on {where}; correct [llm_server] python, or install vLLM there"
        )
    if config.model and config.model.startswith(("/", "~")) and not Path(config.model).expanduser().is_dir():
        raise SetupError(
            f"there is no folder {config.model} on {where}, named by [llm_server] model; put the model there, into a "
            "folder that all machines share, or name one of the Hugging Face hub"
        )
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
    except OSError as error:
        raise SetupError(f"cannot write the LLM server's log {log} on {where}: {error.strerror}") from None


def _hint(tail: str) -> str:
    """What to do about the usual causes."""
    if "No module named 'vllm'" in tail or "No package metadata was found for vllm" in tail:
        return (
            "; that interpreter has no vLLM, or one under another name: set [llm_server] python to that of an "
            "environment with vLLM (docs/cluster.md)"
        )
    if "address already in use" in tail.lower():
        return "; another program took its port meanwhile: start again, or name another [llm_server] port"
    if "out of memory" in tail.lower() or "No available memory for the cache blocks" in tail:
        return "; it has not the memory: lower --max-model-len in [llm_server] args, or give it more GPUs"
    return ""


def _free_port(host: str, port: int) -> int:
    """Return a port of an address that nobody listens on: this one, or any where it is 0. Raises SetupError."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
            return int(listener.getsockname()[1])
    except OSError as error:
        raise SetupError(
            f"the LLM server cannot listen on port {port} of {socket.gethostname()} "
            f"({os.strerror(error.errno or 0)}); choose another [llm_server] port, or leave it out for a free one"
        ) from None


def _own_address() -> str:
    import ray

    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return address


def _node_id() -> str:
    """Ray's name of this machine; "" without Ray."""
    import ray

    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""

"""The section [llm_server] of a configuration: a chat server that a run starts for itself, or waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from immuno_core.config.numbers import real, seconds, whole
from immuno_core.config.secrecy import server_address

VLLM_SERVE = ("-m", "vllm.entrypoints.cli.main", "serve", "{model}")
"""What an interpreter is given to be `vllm serve MODEL`, in whichever environment it is."""

ServerAddress = Annotated[str, AfterValidator(server_address)]


class LLMServerConfig(BaseModel):
    """A vLLM server beside the embedding actors (cluster.llm.server), or, with `base_url`, one that runs already.

    The server serves its model under the name that refine.llm gives ("openai:NAME").
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), hide_input_in_errors=True)

    base_url: ServerAddress | None = None
    """A server that runs already, as in http://10.0.0.7:8000/v1; every other key but start_timeout is then left out."""
    model: str | None = None
    """A name of the Hugging Face hub, or a folder (starting with / or ./); default: the NAME of refine.llm."""
    python: Path | None = None
    """The interpreter of an environment that has vLLM, on the machine of the server; default: the worker's own."""
    command: Annotated[tuple[str, ...], Field(min_length=1)] = VLLM_SERVE
    """What the interpreter is given, before --served-model-name, --host, --port and `args`; {model} is filled in."""
    args: tuple[str, ...] = ()
    """More arguments of the server, such as ["--max-model-len", "8192"]."""
    env: dict[str, str] = {}
    """More environment variables of the server. Put no secret here: the configuration is stored with the results."""
    gpus: Annotated[int, whole(0)] = 1
    """Whole GPUs of one machine, reserved through Ray; 0 for a server on CPU cores."""
    cpus: Annotated[float, real(ge=0)] = 1.0
    """CPU cores reserved through Ray."""
    port: Annotated[int, whole(1, 65535)] | None = None
    """Default: one that is free."""
    log: Path | None = None
    """Its log, on the machine of the server; default: logs/llm-server-PORT.log in the cache folder."""
    start_timeout: Annotated[float, seconds()] = 900.0
    """Seconds within which it must answer: loading a large model takes minutes."""
    restarts: Annotated[int, whole(0)] = 3
    """How many times it is started again if it ends by itself after it was up."""

    @model_validator(mode="after")
    def _attached_or_started(self) -> LLMServerConfig:
        if self.base_url is not None and (more := sorted(self.model_fields_set - {"base_url", "start_timeout"})):
            raise ValueError(f"base_url is for a server that runs already; leave out {', '.join(more)}")
        return self


def served_name(llm: str) -> str | None:
    """Return NAME of "openai:NAME"; None for a chat model that needs no server of this kind."""
    provider, _, name = llm.partition(":")
    return name if provider == "openai" and name else None


def require_chat_model(server: Any, llm: str, base_url: str | None) -> None:
    """Raise ValueError where [llm_server] and [refine] do not fit together."""
    if server is None:
        return
    if served_name(llm) is None:
        raise ValueError(f"[llm_server] serves what refine.llm asks for, and that is '{llm}'; write it as openai:NAME")
    if base_url is not None:
        raise ValueError("give refine.base_url or [llm_server], not both: the server's address is filled in")

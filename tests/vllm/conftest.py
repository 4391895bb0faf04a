"""A real vLLM server for the tests of this folder: `make test-vllm` builds its environment and runs them.

    def test_something(vllm: LLMServer) -> None:
        make_chat_model(RefineConfig(llm="openai:tiny", base_url=vllm.base_url), ...)
        os.kill(vllm.status().pid, signal.SIGKILL)      # it comes back at the same address

For a configuration file there is `vllm_section`, the text of [llm_server] that starts a server of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.llm.server import LLMServer

from .server import ARGUMENTS, COMMAND, NAME, PYTHON, family, make_tiny_chat_model, vllm_config


@pytest.fixture(scope="session")
def tiny_chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a chat model with random weights: it answers nonsense, in whatever form it is held to."""
    return make_tiny_chat_model(tmp_path_factory.mktemp("llm") / "tiny")


@pytest.fixture(scope="session")
def vllm(ray_cluster: str, tiny_chat_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLMServer]:
    """A vLLM server that is up, started by our own launcher; its model is called "tiny"."""
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    config = vllm_config(tiny_chat_model, log, restarts=20)
    with LLMServer.started(config, NAME, ray_address=ray_cluster, tell=print) as server:
        yield server
        processes = family(server.status().pid)
    _, left = psutil.wait_procs(processes, timeout=5)
    assert not left
    assert "shutdown triggered" in log.read_text()  # it was asked to stop, not killed


@pytest.fixture
def vllm_section(tiny_chat_model: Path, tmp_path: Path) -> str:
    """The section [llm_server] of a configuration file whose run starts vLLM for itself; refine.llm = "openai:tiny"."""
    lines = {
        "model": str(tiny_chat_model),
        "python": str(PYTHON),
        "command": list(COMMAND),
        "args": list(ARGUMENTS),
        "gpus": 0,
        "cpus": 0.5,
        "log": str(tmp_path / "vllm.log"),
    }
    # JSON's strings, numbers and lists of strings are TOML's too.
    return "[llm_server]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())

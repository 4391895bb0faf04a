"""What the tests over the real vLLM start it with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil

from immuno_core.config.llm_server import LLMServerConfig

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
"""The environment that `make test-vllm` builds."""
NAME = "tiny"
LLM = f"openai:{NAME}"

# vLLM for CPUs is a package of its own, whose console script looks for one named vllm and fails: its module is run.
COMMAND = ("-m", "vllm.entrypoints.launchers.api_server.entry", "--model", "{model}")
ARGUMENTS = (
    *("--dtype", "float32", "--enforce-eager", "--max-model-len", "8192", "--max-num-seqs", "8"),
    # vLLM 0.32 on CPU cores dies of a request with a seed whose prompt it reads in pieces ("CPU Generator does not use
    # offset"); so prompts are read whole.
    *("--no-enable-chunked-prefill", "--max-num-batched-tokens", "8192"),
    *("--kv-cache-memory-bytes", "64M"),
    *("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--tool-strict-level", "parameter"),
    *("--structured-outputs-config", '{"backend":"xgrammar","disable_any_whitespace":true}'),
)


def make_tiny_chat_model(folder: Path) -> Path:
    """Write the model with the environment of vLLM, which has transformers; return the folder."""
    assert PYTHON.exists(), "these tests need the environment of vLLM: run make test-vllm"
    script = Path(__file__).with_name("tiny_chat_model.py")
    done = subprocess.run([PYTHON, script, folder], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def vllm_config(model: Path, log: Path, **changes: object) -> LLMServerConfig:
    """Return the section [llm_server] for vLLM on CPU cores."""
    keys: dict[str, object] = {
        "model": str(model),
        "python": PYTHON,
        "command": COMMAND,
        "args": ARGUMENTS,
        "env": {"HF_HUB_OFFLINE": "1"},
        "gpus": 0,
        "cpus": 0.5,
        "log": log,
        "start_timeout": 600.0,
    }
    return LLMServerConfig.model_validate(keys | changes)


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all its children."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]

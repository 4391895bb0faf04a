"""The real vLLM through our own launcher: it chats, keeps to a schema, calls tools, and comes back when killed.

That it stops cleanly is checked where it is stopped, at the end of the fixture `vllm`.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import jsonschema
import psutil
import pytest
from openai import OpenAI

from agents.replies import Wanted, parse_reply, proposals_of, wire_schema
from cluster.llm.server import LLMServer, serve_llm
from immuno_core.config.llm_server import LLMServerConfig
from immuno_core.errors import SetupError

from .server import LLM, NAME, family, vllm_config

pytestmark = [pytest.mark.vllm, pytest.mark.ray, pytest.mark.timeout(900)]

QUESTION = [{"role": "user", "content": "Write antibodies for the class dog."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string", "pattern": "^[a-z]{1,12}$"}},
            "required": ["word"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


def client(server: LLMServer) -> OpenAI:
    return OpenAI(base_url=server.base_url, api_key="none-needed", timeout=120, max_retries=0)


def test_it_chats(vllm: LLMServer) -> None:
    reply = client(vllm).chat.completions.create(model=NAME, messages=QUESTION, max_tokens=12)
    assert reply.choices[0].message.content
    assert reply.usage.completion_tokens == 12


def test_it_keeps_to_our_schema(vllm: LLMServer) -> None:
    schema = wire_schema(proposals_of(Wanted(look_alikes=2, places=1)))
    for seed in range(4):
        reply = client(vllm).chat.completions.create(
            model=NAME,
            messages=QUESTION,
            seed=seed,
            max_tokens=2000,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}},
        )
        assert reply.choices[0].finish_reason == "stop"
        text = reply.choices[0].message.content
        jsonschema.validate(json.loads(text), schema)
        assert parse_reply(text, proposals_of(Wanted(look_alikes=2, places=1))).parsed is not None


def test_it_calls_a_tool(vllm: LLMServer) -> None:
    choice = {"type": "function", "function": {"name": "look_up"}}
    reply = client(vllm).chat.completions.create(
        model=NAME, messages=QUESTION, tools=[TOOL], tool_choice=choice, max_tokens=200
    )
    call = reply.choices[0].message.tool_calls[0].function
    assert call.name == "look_up"
    jsonschema.validate(json.loads(call.arguments), TOOL["function"]["parameters"])


def test_a_running_server_can_be_attached_to(vllm: LLMServer) -> None:
    with serve_llm(LLMServerConfig(base_url=vllm.base_url), LLM) as base_url:
        assert base_url == vllm.base_url
    with (
        pytest.raises(SetupError, match="does not serve 'tinny'; did you mean 'tiny'"),
        serve_llm(LLMServerConfig(base_url=vllm.base_url), "openai:tinny"),
    ):
        pass


def test_killed_it_comes_back_at_its_address_and_no_worker_is_left(vllm: LLMServer) -> None:
    before = vllm.status()
    processes = family(before.pid)
    assert len(processes) > 1  # vLLM's engine is a child
    os.kill(before.pid, signal.SIGKILL)
    # That they are gone comes first: what holds the memory must not be beside the server that takes its place.
    _, left = psutil.wait_procs(processes, timeout=60)
    assert not left
    while (now := vllm.status()).state != "up":
        assert now.state != "failed", now
        time.sleep(0.5)
    assert now.base_url == before.base_url
    assert now.pid != before.pid
    assert now.restarts == before.restarts + 1
    test_it_chats(vllm)


def test_bad_arguments_are_told_with_the_end_of_the_log(
    ray_cluster: str, tiny_chat_model: Path, tmp_path: Path
) -> None:
    config = vllm_config(tiny_chat_model, tmp_path / "bad.log", args=("--max-modle-len", "4"))
    with pytest.raises(SetupError, match="ended with status 2 while it was starting") as told, serve_llm(config, LLM):
        pass
    assert "unrecognized arguments: --max-modle-len" in str(told.value)
    assert str(tmp_path / "bad.log") in str(told.value)

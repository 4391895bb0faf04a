"""A whole refinement session against the real vLLM, over LangChain: with json_schema, with tools, and through a crash.

The model has random weights, and says nothing that helps. That is the point: whatever it says keeps to the schema, is
read, screened, measured and stored, and the session ends well.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from agents.chat.failures import ModelUnavailable
from agents.chat.models import Structured
from agents.replies import Reflection, Wanted, proposals_of, wire_schema
from agents.session import RefinementSession
from cluster.llm.server import LLMServer
from db.records import GenerationRecord
from db.store import AntibodyStore, open_store
from evaluation.space import Space
from immuno_core.config.methods import MethodConfig
from immuno_core.config.refine import RefineConfig
from tests.agents import word_world as world

from .server import LLM

pytestmark = [pytest.mark.vllm, pytest.mark.ray, pytest.mark.timeout(1200)]

PROPOSALS = 2


@pytest.fixture(scope="module")
def space() -> Space:
    return world.space()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AntibodyStore]:
    with open_store(str(tmp_path / "immuno.db")) as opened:
        yield opened


def session(
    store: AntibodyStore, space: Space, server: LLMServer, structured: Structured, *, retries: int = 5
) -> RefinementSession:
    config = RefineConfig(
        llm=LLM,
        base_url=server.base_url,
        structured=structured,
        temperature=1.0,
        max_tokens=1200,
        generations=2,
        classes_per_generation=4,
        proposals_per_class=PROPOSALS,
        concurrency=4,
        timeout=300.0,
        retries=retries,
        score=MethodConfig.model_validate({"name": "calibrated", "base": "max_cosine", "eps": 0.02}),
    )
    embedder = world.WordEmbedder()
    record = store.create_session(structured, config={}, seed=0, git_sha=None, versions={}, encoder=embedder.encoder)
    return RefinementSession(record, config, store, space, embedder)


def check_replies(store: AntibodyStore, running: RefinementSession) -> None:
    """Every reply that was recorded keeps to the schema that was asked for, and its tokens were counted."""
    schemas = {
        "propose": wire_schema(proposals_of(Wanted.shared(PROPOSALS, "both"))),
        "reflect": wire_schema(Reflection),
    }
    calls = store.llm_calls(running.record.id)
    assert len(calls) == 2 * (len(world.CLASSES) + 1)
    for call in calls:
        assert call.reply_text is not None
        jsonschema.validate(json.loads(call.reply_text), schemas[call.step])
        assert call.prompt_tokens
        assert call.completion_tokens


@pytest.mark.parametrize("structured", ["json_schema", "tool"])
def test_a_whole_session(store: AntibodyStore, space: Space, vllm: LLMServer, structured: Structured) -> None:
    running = session(store, space, vllm, structured)
    generations = running.run()
    assert [one.number for one in generations] == [0, 1, 2]
    assert store.session(structured).status == "finished"
    check_replies(store, running)
    # Every reply is read; but what a model of random weights advises is no advice, and told so.
    problems = [problem for one in generations[1:] for problem in one.metrics["problems"]]
    assert all("was refused: " in problem for problem in problems), problems
    assert all(one.reason for one in store.antibodies(running.record.id, status="rejected"))


def test_a_server_that_is_killed_and_comes_back(store: AntibodyStore, space: Space, vllm: LLMServer) -> None:
    running = session(store, space, vllm, "json_schema", retries=0)

    killed: list[int] = []

    def kill(one: GenerationRecord) -> None:
        if one.number == 1:
            killed.append(vllm.status().pid)
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(ModelUnavailable, match="chat model"):
        running.run(kill)
    assert store.session("json_schema").status == "paused"
    recorded = {call.id for call in store.llm_calls(running.record.id)}
    _wait_until_up_again(vllm, killed[0])
    assert [one.number for one in running.run()] == [0, 1, 2]
    check_replies(store, running)
    assert recorded < {call.id for call in store.llm_calls(running.record.id)}


def _wait_until_up_again(server: LLMServer, killed: int) -> None:
    """The launcher notices, and starts it again at the same address."""
    until = time.monotonic() + 900
    while (status := server.status()).state != "up" or status.pid == killed:
        assert time.monotonic() < until, status
        time.sleep(0.5)

"""A session with a real, small language model, recorded by `make record-llm`: replayed, it gives the bank that it gave.

What the model says is hardly sense, but it is language as a server sends it. A change of the prompts, of what is read
from a reply or of the screen changes what the session asks or keeps; then the recording is to be made again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.chat.recordings import NotRecorded
from agents.session import RefinementSession
from db.store import AntibodyStore
from evaluation.space import Space

from .test_session import CONFIG, new_session

RECORDED = Path(__file__).with_name("recorded")
CALLS, OUTCOME = RECORDED / "gemma.jsonl", RECORDED / "gemma.json"
AGAIN = "make the recording again: make record-llm (CONTRIBUTING.md)"
OF_RECORDING = CONFIG.model_copy(update={"generations": 2, "classes_per_generation": 16, "proposals_per_class": 6})
"""Sixteen requests: all four classes, one for a group, one for all."""


def outcome(session: RefinementSession) -> dict[str, Any]:
    """What a session came to: what was kept, by generation, and what became of each text."""
    store, key = session.store, session.record.id
    return {
        "generations": [[one.number, one.accepted, one.proposed, one.bank] for one in store.generations(key)],
        "antibodies": [
            [one.generation, one.kind, one.guards, one.text, one.status, one.reason.partition(":")[0]]
            for one in store.antibodies(key)
            if one.is_worded and one.origin
        ],
    }


def test_a_replayed_session_gives_the_recorded_bank(store: AntibodyStore, space: Space) -> None:
    replaying = OF_RECORDING.model_copy(update={"llm": f"replay:{CALLS}"})
    session = new_session(store, space, config=replaying)
    try:
        session.run()
    except NotRecorded as error:
        pytest.fail(f"{error}; {AGAIN}")
    found = json.loads(json.dumps(outcome(session)).replace(str(CALLS), CALLS.name))
    assert found == json.loads(OUTCOME.read_text()), AGAIN
    assert CALLS.stat().st_size + OUTCOME.stat().st_size < 200_000
    assert {one[1] for one in found["antibodies"] if one[4] == "accepted"} == {"look_alike", "contextual"}

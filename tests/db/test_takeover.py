"""A process that refines a session is killed; another one takes over, and ends where an undisturbed one ends."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from db.records import SessionRecord
from db.store import AntibodyStore
from immuno_core.errors import SetupError

from .workers import start

KILLED = """
import pickle, sys, time
from tests.db.test_takeover import refinement

store = pickle.load(sys.stdin.buffer)

def stored(generation):
    print(generation.number, flush=True)
    if generation.number == 1:
        time.sleep(600)

refinement(store, store.session("one")).run(stored)
"""


def refinement(store: AntibodyStore, record: SessionRecord) -> Any:
    from agents.session import RefinementSession
    from tests.agents import word_world as world
    from tests.agents.test_session import CONFIG

    config = CONFIG.model_copy(update={"generations": 2})
    return RefinementSession(record, config, store, world.space(), world.WordEmbedder())


def new_session(store: AntibodyStore, name: str) -> SessionRecord:
    from tests.agents import word_world as world

    encoder = world.WordEmbedder().encoder
    return store.create_session(name, config={}, seed=0, git_sha=None, versions={}, encoder=encoder)


def content(store: AntibodyStore, session: SessionRecord) -> list[Any]:
    generations = [
        (one.number, one.accepted, one.reason, one.metrics, one.bank) for one in store.generations(session.id)
    ]
    return [generations, [(one.text, one.status, one.cosine) for one in store.antibodies(session.id)]]


def test_a_killed_refinement_is_taken_over(store: AntibodyStore) -> None:
    interrupted, whole = new_session(store, "one"), new_session(store, "two")
    process = start(KILLED)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pickle.dumps(store))
        process.stdin.close()
        process.stdin = None
        assert [process.stdout.readline() for _ in range(2)] == [b"0\n", b"1\n"]
        with pytest.raises(SetupError, match=rf"session 'one' is running on .* \(pid {process.pid}\)"):
            refinement(store, interrupted).run()
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert store.session("one").status == "running"  # nobody was left to say otherwise
    assert [one.number for one in refinement(store, interrupted).run()] == [0, 1, 2]
    assert store.session("one").status == "finished"
    refinement(store, whole).run()
    assert content(store, interrupted) == content(store, whole)

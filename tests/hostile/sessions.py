"""A short session against a bad reply, and what is wrong with how it went."""

from __future__ import annotations

import re
import resource
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from agents.chat import calls, pacing
from agents.chat.failures import ModelUnavailable
from db import open_store
from immuno_core.retries import Backoff
from tests.agents import word_world as world
from tests.agents.chat.stand_in import lexicon_says, subject_of
from tests.agents.test_session import CONFIG, new_session

from .kinds import ELSEWHERE, TAKEN, TIMED_OUT, Kind, completion, http, pack_bombs
from .server import HostileServer, Talk, hostile_server

VICTIM = "fish"
TIMEOUT = 1.0
"""Seconds for a try, of which there are two, against a server that never ends its reply."""
_PATIENT = 60.0
"""The same against others: how fast this machine is decides nothing."""
_MOST_SECONDS = 8.0
"""Of this process's own, whatever else runs on the machine."""
_MOST_MEMORY = 200 * 2**20
_MOST_SENT = 24 * 2**20
"""Bytes that a server gets rid of by one reply: what is read, and what the sockets hold."""


@contextmanager
def in_a_hurry() -> Iterator[None]:
    """Have requests wait for moments only, and the environment name a key and no proxy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pacing, "BACKOFF", Backoff(first=0.01, longest=0.1))
        patch.setattr(calls, "Pacer", partial(pacing.Pacer, patience=1.0))
        patch.setenv("OPENAI_API_KEY", "sk-live-0123456789abcdef")
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


class Outcome(NamedTuple):
    """How a session went. `wrong`: what should not have been."""

    name: str
    how: str
    said: str
    seconds: float
    wrong: tuple[str, ...]


def run_all(kinds: Iterable[Kind], template: Path, folder: Path) -> Iterator[Outcome]:
    """Run each kind for one class, and those without an answer for all classes too; `template` is a new database."""
    pack_bombs()
    with in_a_hurry(), hostile_server() as elsewhere:
        ELSEWHERE[:] = [elsewhere.address]
        for kind in kinds:
            for everyone in (False, True)[: 1 if kind.answered or kind.for_all else 2]:
                database = folder / "immuno.db"
                database.write_bytes(template.read_bytes())
                yield _run(kind, database, elsewhere, everyone=everyone)
                for file in folder.glob("immuno.db*"):
                    file.unlink()


def _run(kind: Kind, database: Path, elsewhere: HostileServer, *, everyone: bool) -> Outcome:
    began, busy, memory = time.monotonic(), time.process_time(), _peak()
    wrong, paused, problems = list[str](), "", list[str]()
    asked_badly = 0

    def good(talk: Talk) -> None:
        talk.send(http(completion({"content": lexicon_says(talk.asked)})))

    def bad(talk: Talk) -> None:
        nonlocal asked_badly
        subject = subject_of(talk.asked)
        if not (everyone or subject == VICTIM):
            return good(talk)
        asked_badly += subject == VICTIM
        return kind.send(talk)

    with hostile_server() as server, open_store(str(database)) as store:
        server.say = bad
        config = CONFIG.model_copy(
            update={"llm": "openai:tiny", "base_url": server.address, "generations": 1}
            | {"timeout": TIMEOUT if TIMED_OUT in kind.problem else _PATIENT}
            | {"retries": 1, "maturation": False, "pruning": False, "concurrency": 4}
        )
        session = new_session(store, world.space(), config=config)
        try:
            session.run()
        except ModelUnavailable as error:
            paused = str(error)
        except BaseException:  # noqa: BLE001 - whatever else it is, is the fault that is looked for
            return Outcome(kind.name, "failed", "", time.monotonic() - began, (traceback.format_exc(limit=-4),))
        seconds, busy = time.monotonic() - began, time.process_time() - busy
        recorded = {call.subject: call for call in store.llm_calls(session.record.id)}
        if paused:
            wrong += ["it is not paused"] * (store.session("one").status != "paused")
            server.say = good
            replace(session, config=config.model_copy(update={"timeout": _PATIENT})).run()
        if store.session("one").status != "finished":
            wrong.append("it did not finish")
        generation = store.generations(session.record.id)[-1]
        problems = [] if paused else generation.metrics["problems"]
        antibodies = {one.guards for one in store.antibodies(session.record.id)}
    lines = [paused] if paused else [one for one in problems if one.startswith(f"{VICTIM}: ")]
    wrong += [f"no line of its own: {line!r}" for line in lines if not line.isprintable() or len(line) > 900]
    wrong += [f"a secret: {line}" for line in lines if "0123456789" in line]
    if bool(paused) is not (everyone or kind.for_all):
        wrong.append("it paused" if paused else "it did not pause")
    if kind.problem != TAKEN and not any(re.search(kind.problem, line) for line in lines):
        wrong.append(f"nothing says /{kind.problem}/: {lines}")
    if kind.answered and VICTIM not in recorded:
        wrong.append("the reply is not recorded")
    if kind.problem == TAKEN and kind.answered and VICTIM not in antibodies:
        wrong.append(f"nothing was taken: {lines}")
    if not paused and len(recorded.keys() - {VICTIM}) != len(world.CLASSES):
        wrong.append(f"its neighbours lost their replies: {sorted(recorded)}")
    counts = [count for call in recorded.values() for count in (call.prompt_tokens, call.completion_tokens)]
    wrong += [f"{count} tokens" for count in counts if count is not None and not 0 <= count < 10**6]
    if not everyone and kind.tries and asked_badly != kind.tries:
        wrong.append(f"asked {asked_badly} times, not {kind.tries}")
    wrong += ["another server was asked"] * elsewhere.requests
    elsewhere.requests = 0
    wrong += [f"{busy:.1f} s of computing"] * (busy > _MOST_SECONDS)
    wrong += [f"{server.most_sent / 2**20:.0f} MiB were read"] * (server.most_sent > _MOST_SENT)
    wrong += [f"{(_peak() - memory) / 2**20:.0f} MiB of memory"] * (_peak() - memory > _MOST_MEMORY)
    name = f"{kind.name} (to all)" if everyone else kind.name
    return Outcome(name, "paused" if paused else "ended", next(iter(lines), ""), seconds, tuple(wrong))


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

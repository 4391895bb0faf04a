"""Kills sessions of the word world with SIGKILL at random moments, and goes on with them each time.

    python -m tests.agents.kill_world FOLDER --kills 200 --seed 1

Each session is run by a child process, forked from one that has everything imported. A call of the model takes a
moment, so that kills fall into calls, between them, and into the writing of generations. A session that ends makes room
for the next. In the end each has to be, ids and times aside, what one was that nothing interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from agents import session as sessions
from agents.lexicon.model import LexiconChatModel
from agents.session import RefinementSession
from db.store import open_store
from evaluation.antibodies.vocabulary import Vocabulary
from immuno_core.config.methods import MethodConfig
from immuno_core.config.refine import RefineConfig

from . import word_world as world
from .test_session import content

CONFIG = RefineConfig(
    generations=4,
    classes_per_generation=4,
    proposals_per_class=6,
    concurrency=2,
    score=MethodConfig.model_validate({"name": "calibrated", "base": "max_cosine", "eps": 0.02}),
)
CALL_SECONDS = 0.02
LONGEST_LIFE = 0.5
"""From the fork to the kill, at most, as a share of what a whole session takes."""
WORDS = Vocabulary(
    nouns=("shark", "truck", "barn", "cactus", "whale", "kite", "spoon", "lamp", "ship", "wolf", "chair", "drum"),
    places=("in the desert", "in the kitchen", "in the snow", "on the moon", "in the sea"),
    attributes=("wooden", "striped"),
)


class SlowLexicon(LexiconChatModel):
    """The lexicon, as slow as a fast server."""

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        time.sleep(CALL_SECONDS)
        return super()._generate(*args, **kwargs)


def run(database: Path, name: str) -> None:
    """Begin the session, or go on with it."""
    embedder = world.WordEmbedder()
    with open_store(str(database)) as store:
        record = store.find_session(name) or store.create_session(
            name, config={}, seed=0, git_sha=None, versions={}, encoder=embedder.encoder
        )
        RefinementSession(record, CONFIG, store, world.space(), embedder).run()


def in_child(database: Path, name: str, life: float | None) -> int | None:
    """Run the session in a child, killed after `life` seconds; return its exit status, None where it was killed."""
    child = os.fork()
    if child == 0:
        _run_and_leave(database, name)
    until = None if life is None else time.monotonic() + life
    while until is None or time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return None if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL else 0


def _run_and_leave(database: Path, name: str) -> NoReturn:
    try:
        run(database, name)
    except BaseException:  # noqa: BLE001 - a child of a fork must not go on as its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def soak(folder: Path, *, kills: int, seed: int) -> dict[str, Any]:
    """Kill so often; return how often, how many sessions it took, and how many generations were stored at each kill."""
    sessions.load_vocabulary = lambda: WORDS  # type: ignore[assignment]
    sessions.make_chat_model = lambda *_, seed, vocabulary, **__: SlowLexicon(seed=seed, vocabulary=vocabulary)  # type: ignore[assignment]
    database = folder / "immuno.db"
    moments = random.Random(seed)  # noqa: S311
    began = time.monotonic()
    if in_child(database, "undisturbed", None) != 0:
        raise AssertionError("the session that nothing interrupts failed")
    whole = time.monotonic() - began
    done, number, found_at = 0, 1, Counter[int]()
    while done < kills:
        name = f"killed {number}"
        status = in_child(database, name, moments.uniform(0, LONGEST_LIFE * whole))
        if status not in (None, 0):
            raise AssertionError(f"{name} failed with status {status} after {done} kills")
        number += status == 0
        if status is None:
            done += 1
            found_at[_generations(database, name)] += 1
    if in_child(database, f"killed {number}", None) != 0:
        raise AssertionError(f"killed {number} failed when it went on for the last time")
    with open_store(str(database)) as store:
        wanted = content(store, store.session("undisturbed").id)
        for k in range(1, number + 1):
            record = store.session(f"killed {k}")
            if content(store, record.id) != wanted or record.status != "finished":
                raise AssertionError(f"{record.name} differs from the session that nothing interrupted")
    return {"kills": done, "sessions": number, "generations_at_kill": dict(sorted(found_at.items()))}


def _generations(database: Path, name: str) -> int:
    with open_store(str(database)) as store:
        record = store.find_session(name)
        return -1 if record is None else record.generations


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps(soak(options.folder, kills=options.kills, seed=options.seed)))

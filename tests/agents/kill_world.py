"""Kills sessions of the word world with SIGKILL at random moments, stops others, and goes on with them each time.

    python -m tests.agents.kill_world FOLDER --kills 200 --seed 1

Each session is run by a child process, forked from one that has everything imported. A call of the model takes a
moment, so that kills fall into calls, between them, into reviews and into the writing of generations. Sessions are of
four kinds in turn: plain, with a review of every proposal, a branch, and one regenerated. Now and then a process beside
it asks a session to stop, or merges another database into this one: an earlier copy of it, in which a session was run
since. Half of those merges are killed, too. A session that ends makes room for the next. In the end each, those merged
as well, has to be, ids and times aside, what one of its kind was that nothing interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

from agents import Proposal, Ruling, draft_branch
from agents import session as sessions
from agents.lexicon.model import LexiconChatModel
from agents.session import RefinementSession
from db.claims import ask_to_stop, session_work
from db.exchange.joining import merge
from db.records import SessionRecord
from db.store import AntibodyStore, open_store
from evaluation.antibodies.vocabulary import Vocabulary
from immuno_core.config.methods import MethodConfig
from immuno_core.config.refine import RefineConfig
from immuno_core.records import text_digest

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
KINDS = ("plain", "reviewed", "branch", "regenerated")
UNDISTURBED = {kind: f"undisturbed: {kind}" for kind in KINDS}
STOPPED = 0.25
"""The share of lives that end because a process beside asks, and not by a kill."""
MERGED = 0.25
"""The share of lives beside which a database is merged."""
BROKEN = 0.5
"""The share of merges that are killed when the life beside them ends."""
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


def run(database: Path, name: str, kind: str) -> None:
    """Begin the session, or go on with it."""
    config = CONFIG if kind == "plain" else CONFIG.model_copy(update={"generations": 2})
    with open_store(str(database)) as store:
        record = store.find_session(name) or begin(store, name, kind)
        review = reviewed if kind == "reviewed" else None
        RefinementSession(record, config, store, world.space(), world.WordEmbedder(), review).run()


def begin(store: AntibodyStore, name: str, kind: str) -> SessionRecord:
    """Make the session; a branch goes on from the plain one's second generation, a regenerated one from its first."""
    origin = first = None
    if kind in ("branch", "regenerated"):
        generations = store.generations(store.session(UNDISTURBED["plain"]).id)
        origin = generations[2 if kind == "branch" else 0]
        first = draft_branch(store, origin, guideline=None if kind == "branch" else generations[-1].guideline)
    return store.create_session(
        name,
        config={},
        seed=0,
        git_sha=None,
        versions={},
        encoder=world.WordEmbedder().encoder,
        parent_generation_id=None if origin is None else origin.id,
        first=first,
    )


def reviewed(subject: str, proposals: Sequence[Proposal]) -> list[Ruling]:
    """What the person says, who takes a moment: drops some, edits some, lets two change places."""
    time.sleep(CALL_SECONDS)
    first, second, *others = (proposal.text for proposal in proposals)
    rulings = [Ruling(action="edit", text=second), Ruling(action="edit", text=first)]
    for text in others:
        drawn = int(text_digest(subject, text)[:4], 16) % 4
        edit = Ruling(action="edit", text=f"{text.removesuffix('.')} at night.")
        rulings.append((Ruling(action="drop"), edit)[drawn] if drawn < 2 else Ruling(action="keep"))
    return rulings


def ask(database: Path, name: str) -> None:
    """Ask the session to stop, if it is there yet."""
    with open_store(str(database)) as store:
        if (record := store.find_session(name)) is not None:
            ask_to_stop(store.engine, session_work(record.id))


def copy_and_run(database: Path, copy: Path, name: str) -> None:
    """Copy the database as it is now, and run a branch of this name in the copy."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    run(copy, name, "branch")


def merge_from(copy: Path, database: Path) -> None:
    """Add what the copy has."""
    with open_store(str(database)) as here, open_store(str(copy), read_only=True) as other:
        merge(here, other)


def started(work: Callable[..., None], *arguments: Any) -> int:
    """Do the work in a child; return its process id."""
    child = os.fork()
    if child == 0:
        _do_and_leave(work, *arguments)
    return child


def ended(child: int, until: float | None = None) -> int | None:
    """Wait for a child, until then at most; return its exit status, None where it still runs."""
    while until is None or time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def _do_and_leave(work: Callable[..., None], *arguments: Any) -> NoReturn:
    try:
        work(*arguments)
    except BaseException:  # noqa: BLE001 - a child of a fork must not go on as its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def soak(folder: Path, *, kills: int, seed: int) -> dict[str, Any]:
    """Kill so often, until a stop and a merge were met, too, and end a session of each kind.

    Return the counts, and how many generations each kill found.
    """
    sessions.load_vocabulary = lambda: WORDS  # type: ignore[assignment]
    sessions.make_chat_model = lambda *_, seed, vocabulary, **__: SlowLexicon(seed=seed, vocabulary=vocabulary)  # type: ignore[assignment]
    database = folder / "immuno.db"
    moments = random.Random(seed)  # noqa: S311
    took: dict[str, float] = {}
    for kind, name in UNDISTURBED.items():
        began = time.monotonic()
        if ended(started(run, database, name, kind)) != 0:
            raise AssertionError(f"the session that nothing interrupts failed: {name}")
        took[kind] = time.monotonic() - began
    done, stopped, number, found_at, merged, broken = 0, 0, 0, Counter[int](), 0, 0
    while (
        not (met := done >= kills and stopped > 0 and merged > 0)
        or number < len(KINDS)
        or _status(database, _name(number)) is not None
    ):
        name, kind = _name(number), KINDS[number % len(KINDS)]
        copy = folder / f"copy {merged}.db" if moments.random() < MERGED else None
        if copy is not None and ended(started(copy_and_run, database, copy, _merged(merged))) != 0:
            raise AssertionError(f"the session to merge failed: {_merged(merged)}")
        child = started(run, database, name, kind)
        merging = None if copy is None else started(merge_from, copy, database)
        life = None if met else time.monotonic() + moments.uniform(0, LONGEST_LIFE * took[kind])
        status = ended(child, life)
        if status is None and moments.random() < STOPPED:
            if ended(started(ask, database, name)) != 0:
                raise AssertionError(f"{name} could not be asked to stop")
            status = ended(child)
            stopped += _status(database, name) == "paused"
        elif status is None:
            os.kill(child, signal.SIGKILL)
            status = None if ended(child) == -signal.SIGKILL else 0
        if merging is not None and copy is not None:
            if (came := ended(merging, 0.0 if moments.random() < BROKEN else None)) is None:
                os.kill(merging, signal.SIGKILL)
                broken += ended(merging) == -signal.SIGKILL
                came = ended(started(merge_from, copy, database))
            if came != 0:
                raise AssertionError(f"{copy} could not be merged")
            copy.unlink()
            merged += 1
        if status not in (None, 0):
            raise AssertionError(f"{name} failed with status {status} after {done} kills")
        if status is None:
            done += 1
            found_at[_generations(database, name)] += 1
        number += _status(database, name) == "finished"
    with open_store(str(database)) as store:
        wanted = {kind: content(store, store.session(name).id) for kind, name in UNDISTURBED.items()}
        for k in range(number):
            record = store.session(_name(k))
            if content(store, record.id) != wanted[KINDS[k % len(KINDS)]] or record.status != "finished":
                raise AssertionError(f"{record.name} differs from the session that nothing interrupted")
        for k in range(merged):
            if content(store, store.session(_merged(k)).id) != wanted["branch"]:
                raise AssertionError(f"{_merged(k)} is not what was merged")
    return {
        "kills": done,
        "stops": stopped,
        "merges": merged,
        "merges_killed": broken,
        "sessions": number,
        "generations_at_kill": dict(sorted(found_at.items())),
    }


def _name(number: int) -> str:
    return f"killed {number}: {KINDS[number % len(KINDS)]}"


def _merged(number: int) -> str:
    return f"merged {number}"


def _status(database: Path, name: str) -> str | None:
    with open_store(str(database)) as store:
        record = store.find_session(name)
        return None if record is None else record.status


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

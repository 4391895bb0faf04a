"""Many processes write to one database of either engine; processes are killed while they write."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import time
from itertools import chain
from pathlib import Path

import numpy as np

from db.maintenance import check_database
from db.records import SessionRecord
from db.store import AntibodyStore, open_store

from .build import make_session
from .workers import finish, start

PROCESSES = int(os.environ.get("IMMUNO_TEST_PROCESSES", "4"))
TRANSACTIONS = int(os.environ.get("IMMUNO_TEST_TRANSACTIONS", "15"))
"""Of each process. `benchmarks/database.py --soak` runs 8 x 200, and 50 kills; these show the same in less time."""
KILLS = int(os.environ.get("IMMUNO_TEST_KILLS", "6"))
WORKS = 40

WRITER = """
import json, pickle, sys
from db import claims
from db.schema.engine import writing
from db.writing import write_generation
from tests.db.build import draft

store, transactions, works = pickle.load(sys.stdin.buffer)
me = sys.argv[1]
session = store.session("alpha")
bare = {"antibodies": (), "effects": (), "verdicts": (), "bank": (), "parent": None}
numbers = []
for i in range(transactions):
    with writing(store.engine) as transaction:
        numbers.append(write_generation(transaction, draft(session.id, reason=f"{me}.{i}", **bare), renumber=True))
claims._boot = lambda: me  # as if on a machine of its own: who is done with all of this is not taken for dead
mine = [work for work in works if claims.claim(store.engine, work, me).owner == me]
print(json.dumps({"numbers": numbers, "works": mine}))
"""


def test_no_number_is_lost_or_given_twice_and_no_lock_is_seen(store: AntibodyStore, session: SessionRecord) -> None:
    """Each transaction reads the last number, and writes the next. A lock error would end its process."""
    works = [f"work {i}" for i in range(WORKS)]
    given = pickle.dumps((store, TRANSACTIONS, works))
    found = [json.loads(text) for text in finish([start(WRITER, str(i)) for i in range(PROCESSES)], given)]
    numbers = [one["numbers"] for one in found]
    assert sorted(chain(*numbers)) == list(range(PROCESSES * TRANSACTIONS))
    stored = {generation.number: generation.reason for generation in store.generations(session.id)}
    assert stored == {n: f"{me}.{i}" for me, own in enumerate(numbers) for i, n in enumerate(own)}
    assert sorted(chain(*(one["works"] for one in found))) == sorted(works)


SAVER = """
import pickle, sys
from db.store import new_id
from tests.db.build import draft, result

store, run_id = pickle.load(sys.stdin.buffer)
session = store.session("alpha")
for number in range(10):
    saved = store.save_generation(draft(session.id, number, reason=sys.argv[1]))
    assert saved.number == number
    rows = [result(method=f"m{number}", ood=f"set {i}", antibodies=int(sys.argv[1])) for i in range(20)]
    store.save_results(run_id, rows if int(sys.argv[1]) % 2 else rows[::-1])
"""


def test_the_same_written_by_all_is_written_once(store: AntibodyStore, session: SessionRecord) -> None:
    """Also where they write it in opposite orders, by which they could wait for one another for ever."""
    run = store.start_run(config={}, config_digest="c", seed=0, git_sha=None, versions={})
    finish([start(SAVER, str(i)) for i in range(4)], pickle.dumps((store, run.id)))
    assert store.session("alpha").generations == 10
    assert len(store.antibodies()) == len(store.effects()) == 2 * 10
    assert len(store.results(run.id)) == 10 * 20


def _sessions_of(store: AntibodyStore) -> list[str]:
    with store:
        return [session.name for session in store.sessions()]


def test_a_store_is_an_argument_of_another_process(store: AntibodyStore, session: SessionRecord) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_sessions_of, (store,)) == ["alpha"]
    assert store.sessions() == (session,)


KILLED = """
import sys
from db.store import open_store
from tests.db.build import draft

with open_store(sys.argv[1]) as store:
    session = store.session("alpha")
    number = session.generations
    print("ready", flush=True)
    while True:
        print(store.save_generation(draft(session.id, number)).number, flush=True)
        number += 1
"""


def test_killed_writers_leave_every_acknowledged_write_and_a_sound_file(path: Path) -> None:
    """SIGKILL at some moment of writing. (The process is killed, not the machine: for that there is fsync.)"""
    moments = np.random.default_rng(6)
    with open_store(str(path)) as store:
        make_session(store)
    expected = 0
    for kill in range(KILLS):
        process = start(KILLED, str(path))
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        first = process.stdout.readline() if kill % 2 else b""  # each second time once it has written
        time.sleep(moments.uniform(0.0, 0.1))
        process.kill()
        output = process.stdout.read()  # not communicate, which knows nothing of lines that are read already
        _, errors = process.communicate(timeout=60)
        assert errors == b""
        lines = (first + output).decode().splitlines(keepends=True)
        acknowledged = [int(line) for line in lines if line.endswith("\n")]
        assert acknowledged == list(range(expected, expected + len(acknowledged)))
        with open_store(str(path)) as store:
            numbers = [generation.number for generation in store.generations()]
            bank = store.bank(store.generations()[-1].id) if numbers else ()
        # One more may have been committed before its number was printed.
        assert numbers == list(range(len(numbers)))
        assert len(numbers) - expected - len(acknowledged) in (0, 1)
        assert not numbers or len(bank) == 1
        assert [check for check in check_database(str(path), path) if not check.ok] == []
        expected = len(numbers)
    assert expected > 0


def test_a_killed_writer_holds_up_nobody(store: AntibodyStore, session: SessionRecord) -> None:
    process = start(HOLDER)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(pickle.dumps(store))
    process.stdin.close()
    process.stdin = None
    assert process.stdout.readline() == b"holding\n"
    process.kill()
    process.communicate(timeout=60)
    begun = time.monotonic()
    store.set_session_status(session.id, "paused")
    assert time.monotonic() - begun < 10


HOLDER = """
import pickle, sys, time
from sqlalchemy import text
from db.schema.engine import writing

store = pickle.load(sys.stdin.buffer)
with writing(store.engine) as transaction:
    transaction.execute(text("UPDATE sessions SET seed = 0"))
    print("holding", flush=True)
    time.sleep(60)
"""

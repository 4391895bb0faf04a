"""Several processes and threads on one database; processes that are killed."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from db.calls import find_calls, record_calls
from db.maintenance import check_database
from db.records import SessionRecord
from db.store import AntibodyStore, open_store

from .build import call, draft
from .workers import finish, start

WRITER = """
import pickle, sys
from sqlalchemy import text
from db.schema.engine import writing
from db.store import open_store
from tests.db.build import draft

store = pickle.load(sys.stdin.buffer)
session = store.session("alpha")
open_store(sys.argv[1]).close()
for _ in range(60):
    with writing(store.engine) as transaction:
        seed = transaction.scalar(text("SELECT seed FROM sessions"))
        transaction.execute(text("UPDATE sessions SET seed = :seed"), {"seed": seed + 1})
for number in range(8):
    saved = store.save_generation(draft(session.id, number))
    assert saved.number == number
"""


def test_two_processes_lose_nothing_and_repeat_nothing(
    store: AntibodyStore, session: SessionRecord, path: Path, tmp_path: Path
) -> None:
    """Each makes the same new database, counts to 60 in the same row, and saves the same generations."""
    new = tmp_path / "new" / "immuno.db"
    finish([start(WRITER, str(new)) for _ in range(2)], pickle.dumps(store))
    after = store.session("alpha")
    assert after.seed == session.seed + 2 * 60
    assert after.generations == 8
    assert len(store.antibodies()) == 2 * 8
    assert len(store.effects()) == 2 * 8
    assert all(check.ok for check in check_database(str(path), path))
    assert all(check.ok for check in check_database(str(new), new))


KILLED = """
import os, sys
from sqlalchemy import event
from db.store import open_store
from db.calls import record_calls
from tests.db.build import call, draft

store = open_store(sys.argv[1])
record_calls(store, store.session("alpha").id, [call(reply="paid")])

@event.listens_for(store.engine, "after_cursor_execute")
def die(connection, cursor, statement, parameters, context, executemany):
    if statement.startswith("INSERT INTO bank_members"):
        os._exit(0)

store.save_generation(draft(store.session("alpha").id, 0))
os._exit(1)
"""


def test_a_process_killed_while_it_saves_leaves_nothing_but_its_calls(
    store: AntibodyStore, session: SessionRecord, path: Path
) -> None:
    finish([start(KILLED, str(path))])
    assert store.generations() == ()
    assert store.antibodies() == ()
    assert [one.reply_text for one in store.llm_calls(session.id)] == ["paid"]
    assert store.save_generation(draft(session.id)).number == 0
    assert all(check.ok for check in check_database(str(path), path))


def test_threads_share_a_store(store: AntibodyStore, session: SessionRecord) -> None:
    def record(number: int) -> str:
        generation, own = number % 10, call(number % 10, reply=str(number))
        record_calls(store, session.id, [own])
        found = find_calls(store, session.id, generation, own.step)
        return found[own.subject, own.request_digest].reply_text

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(record, range(40)))
    stored = {one.generation: one.reply_text for one in store.llm_calls(session.id)}
    assert len(stored) == 10
    assert replies == [stored[number % 10] for number in range(40)]


def test_a_pickled_store_opens_the_same_database(store: AntibodyStore, session: SessionRecord) -> None:
    with pickle.loads(pickle.dumps(store)) as other:  # noqa: S301 (our own bytes)
        assert other.url == store.url
        assert other.sessions() == (session,)


def test_a_pickled_store_keeps_to_reading(path: Path) -> None:
    with open_store(str(path), read_only=True) as store, pickle.loads(pickle.dumps(store)) as other:  # noqa: S301
        assert other._read_only


def test_a_closed_store_leaves_one_file(store: AntibodyStore, session: SessionRecord, path: Path) -> None:
    store.save_generation(draft(session.id))
    store.close()
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    assert len(store.generations()) == 1

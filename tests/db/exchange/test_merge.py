"""Databases of several machines become one."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from db.calls import record_calls
from db.exchange import joining
from db.exchange.joining import merge
from db.maintenance import check_database
from db.records import SessionRecord
from db.schema import engine as engines
from db.store import AntibodyStore, open_store
from immuno_core.errors import SetupError
from tests.db.build import call, draft, make_session

from .test_exchange import contents, fill


@pytest.fixture
def other_file(new_database: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(new_database, tmp_path / "other.db"))


@pytest.fixture
def other(other_file: Path) -> Iterator[AntibodyStore]:
    """The database of another machine, with the session beta."""
    with open_store(str(other_file)) as opened:
        fill(opened, make_session(opened, "beta"))
        yield opened


def test_everything_of_the_other_is_added_once(
    store: AntibodyStore, session: SessionRecord, other: AntibodyStore
) -> None:
    store.save_generation(draft(session.id))
    before, theirs = contents(store), contents(other)
    merge(store, other)
    after = contents(store)
    for table in set(after) - {"encoders"}:  # the same encoder, which stays as it was recorded here
        assert set(map(repr, after[table])) == set(map(repr, before[table] + theirs[table])), table
        assert len(after[table]) == len(before[table]) + len(theirs[table])
    assert after["encoders"] == before["encoders"]
    assert sum(one.added for one in merge(store, other)) == 0
    assert repr(contents(store)) == repr(after)
    assert repr(contents(other)) == repr(theirs)


def test_into_an_empty_database_it_is_a_copy(
    store: AntibodyStore, session: SessionRecord, other_file: Path, tmp_path: Path
) -> None:
    fill(store, session)
    with open_store(str(other_file)) as empty:
        merge(empty, store)
        assert repr(contents(empty)) == repr(contents(store))
    assert all(check.ok for check in check_database(str(other_file), other_file))


def test_both_know_a_part_of_one_session(store: AntibodyStore, session: SessionRecord, other: AntibodyStore) -> None:
    store.save_generation(draft(session.id))
    merge(other, store)
    other.save_generation(draft(session.id, 1))
    assert {one.table: one.added for one in merge(store, other)}["generations"] == 4 + 1
    assert [one.number for one in store.generations(session.id)] == [0, 1]


def test_a_session_of_the_same_name_needs_another(
    store: AntibodyStore, session: SessionRecord, other: AntibodyStore
) -> None:
    make_session(other, "alpha")
    before = contents(store)
    with pytest.raises(
        SetupError, match=r"row .* of 'sessions': name 'alpha' is taken by .* merge --rename OLD NEW; nothing"
    ):
        merge(store, other)
    assert contents(store) == before
    merge(store, other, rename={"alpha": "alpha of gpu2"})
    assert {one.name for one in store.sessions()} == {"alpha", "beta", "alpha of gpu2"}
    with pytest.raises(SetupError, match="no session 'gamma' in "):
        merge(store, other, rename={"gamma": "delta"})


def test_a_row_that_differs_is_named(store: AntibodyStore, other: AntibodyStore, other_file: Path) -> None:
    merge(store, other)
    before = contents(store)
    (one,) = [found for found in other.antibodies(generation=1) if found.status == "accepted"]
    make_session(other, "new")
    other.close()
    with closing(sqlite3.connect(other_file)) as connection:
        connection.execute("UPDATE antibodies SET text = 'wolf' WHERE id = ?", (one.id,))
        connection.commit()
    with pytest.raises(SetupError, match=rf"row {one.id} of 'antibodies': the database has this row .* another 'text'"):
        merge(store, other)
    assert repr(contents(store)) == repr(before)


def test_another_vector_of_one_antibody_is_not_taken(
    store: AntibodyStore, other: AntibodyStore, other_file: Path
) -> None:
    merge(store, other)
    before = contents(store)
    make_session(other, "new")
    other.close()
    with closing(sqlite3.connect(other_file)) as connection:
        key, size = connection.execute("SELECT id, length(vector) FROM embeddings LIMIT 1").fetchone()
        connection.execute("UPDATE embeddings SET vector = ? WHERE id = ?", (b"\x00\x00\x00?" * (size // 4), key))
        connection.commit()
    with pytest.raises(SetupError, match=rf"row {key} of 'embeddings': the database has this row .* another 'vector'"):
        merge(store, other)
    assert repr(contents(store)) == repr(before)


def test_a_damaged_vector_is_not_taken(store: AntibodyStore, other: AntibodyStore, other_file: Path) -> None:
    other.close()
    with closing(sqlite3.connect(other_file)) as connection:
        connection.execute("UPDATE embeddings SET vector = x'00000000' WHERE rowid > 9")
        connection.commit()
    with pytest.raises(SetupError, match=r"of 'embeddings': its vector has 4 bytes \(4 numbers .* nothing was added"):
        merge(store, other)
    assert store.sessions() == ()


def test_a_database_is_not_merged_into_itself(store: AntibodyStore) -> None:
    with pytest.raises(SetupError, match="would be merged into itself"):
        merge(store, store)


def test_a_session_beside_it_records_its_replies(
    store: AntibodyStore, path: Path, session: SessionRecord, other: AntibodyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While rows are read and checked nobody waits, be it for milliseconds."""
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0)
    recorded = []
    with open_store(str(path)) as beside:

        def checked(table: Any, row: Any, place: str, check: Any = joining._check_types) -> None:
            check(table, row, place)
            with engines.writing(beside.engine) as transaction:
                transaction.connection()  # raises at once where the database is locked
            recorded.append(place)

        monkeypatch.setattr(joining, "_check_types", checked)
        added = sum(one.added for one in merge(store, other))
    assert len(recorded) > added > 20


def test_a_row_that_came_meanwhile_is_no_contradiction(
    store: AntibodyStore, other: AntibodyStore, path: Path, other_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines take in the same database at the same time: what the first one added is there for the second."""
    with open_store(str(path)) as first, open_store(str(other_file), read_only=True) as again:
        move = joining.writing

        def after_the_first(bind: Any) -> Any:
            monkeypatch.setattr(joining, "writing", move)
            assert sum(one.added for one in merge(first, again)) > 20
            return move(bind)

        monkeypatch.setattr(joining, "writing", after_the_first)
        assert sum(one.added for one in merge(store, other)) == 0
    assert repr(contents(store)) == repr(contents(other))


def test_a_state_that_changed_meanwhile_stays(
    store: AntibodyStore, other: AntibodyStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge(store, other)
    (session,) = other.sessions()
    other.set_session_status(session.id, "paused")
    move = joining.writing

    def after_another(bind: Any) -> Any:
        store.set_session_status(session.id, "finished")
        return move(bind)

    monkeypatch.setattr(joining, "writing", after_another)
    merge(store, other)
    assert store.session("beta").status == "finished"
    monkeypatch.setattr(joining, "writing", move)
    other.set_session_status(session.id, "running")
    merge(store, other)
    assert store.session("beta").status == "running"


def test_a_reply_is_recorded_however_long_others_write(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.02)
    with (
        open_store(str(path)) as store,
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
    ):
        session = make_session(store)
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.2, other.execute, ["ROLLBACK"])
        release.start()
        record_calls(store, session.id, [call()])
        release.join()
        assert [one.reply_text for one in store.llm_calls()] == ["reply"]
    assert "another process has been writing" in caplog.text
    assert "1 reply to record, waiting on" in caplog.text

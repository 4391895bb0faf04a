"""A copy of a database that others are writing to."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from db.maintenance import backup_database, check_database
from db.records import SessionRecord
from db.store import AntibodyStore, open_store
from immuno_core.errors import ImmunoError, SetupError
from tests.db.exchange.test_exchange import contents, fill

from .build import draft

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from db.store import open_store
from tests.db.build import draft

with open_store(sys.argv[1]) as store:
    session = store.session("alpha")
    print("begun", flush=True)
    for number in range(100_000):
        store.save_generation(draft(session.id, number))
"""


def test_a_backup_is_the_whole_database_in_one_file(
    store: AntibodyStore, session: SessionRecord, path: Path, tmp_path: Path
) -> None:
    fill(store, session)
    copy = backup_database(str(path), path, tmp_path / "deep" / "copy.db")
    assert [one.name for one in copy.parent.iterdir()] == ["copy.db"]
    with open_store(str(copy)) as opened:
        assert repr(contents(opened)) == repr(contents(store))
    assert all(check.ok for check in check_database(str(copy), copy))


def test_others_write_while_it_is_made(session: SessionRecord, path: Path, tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"begun\n"
        copies = [backup_database(str(path), path, tmp_path / f"{i}.db") for i in range(3)]
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()
    for copy in copies:
        assert all(check.ok for check in check_database(str(copy), copy))
        with open_store(str(copy), read_only=True) as opened:
            assert len(opened.antibodies()) == 2 * len(opened.generations())


def test_an_older_database_is_copied_as_it_is(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE immuno_schema SET version_num = '0001'")
        connection.commit()
    copy = backup_database(str(path), path, tmp_path / "copy.db")
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT version_num FROM immuno_schema").fetchall() == [("0001",)]


def test_nothing_is_overwritten(path: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken.db"
    taken.write_text("precious")
    with pytest.raises(SetupError, match=r"taken.db exists, and is not overwritten"):
        backup_database(str(path), path, taken)
    assert taken.read_text() == "precious"


def test_what_cannot_be_written_is_told(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"copy.db cannot be written: (Not a directory|File exists)"):
        backup_database(str(path), path, tmp_path / "file" / "copy.db")


def test_a_damaged_database_has_no_backup(store: AntibodyStore, session: SessionRecord, path: Path) -> None:
    store.save_generation(draft(session.id))
    store.close()
    raw = bytearray(path.read_bytes())
    raw[4096 * 3 :] = os.urandom(len(raw) - 4096 * 3)
    path.write_bytes(raw)
    with pytest.raises(ImmunoError, match="damaged"):
        backup_database(str(path), path, path.with_name("copy.db"))
    assert not [one for one in path.parent.iterdir() if "copy" in one.name]


def test_what_is_no_database_of_ours_has_no_backup(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("Dear diary, this is no database at all. " * 50)
    with pytest.raises(SetupError, match=r"notes.txt is not a SQLite database"):
        backup_database(str(notes), notes, tmp_path / "copy.db")
    with pytest.raises(SetupError, match="there is no database at"):
        backup_database(str(tmp_path / "none.db"), notes, tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == [notes]


def test_postgresql_has_its_own(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"back it up with PostgreSQL's own: pg_dump --format=custom .* lab$"):
        backup_database("postgresql://me:secret@host/lab", tmp_path, tmp_path / "copy.dump")


def test_a_backup_can_be_merged_back(store: AntibodyStore, session: SessionRecord, path: Path, tmp_path: Path) -> None:
    from db.exchange.joining import merge

    fill(store, session)
    copy = backup_database(str(path), path, tmp_path / "copy.db")
    with open_store(str(copy), read_only=True) as opened:
        assert sum(one.added for one in merge(store, opened)) == 0

"""Which database is meant, how SQLite is set up, and what is said when one cannot be used."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from sqlalchemy import text

from db.questions.sql import run_sql
from db.schema import engine as engines
from db.schema.engine import BusyError, make_engine, reading, resolve_url, writing
from db.schema.migrations import HEAD
from db.store import AntibodyStore, open_store
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.records import Verdict
from tests.db.build import draft, make_session


def test_the_argument_comes_before_the_environment_and_that_before_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_url(None, Path("a:b.db")).database == str(tmp_path / "a:b.db")
    monkeypatch.setenv("IMMUNO_DB", "sqlite:///from-environment.db")
    assert resolve_url(None, Path("default.db")).database == str(tmp_path / "from-environment.db")
    assert resolve_url("runs/x.db", Path("default.db")).database == str(tmp_path / "runs" / "x.db")
    assert resolve_url("sqlite:////abs/x.db").database == "/abs/x.db"
    monkeypatch.setenv("IMMUNO_DB", "")
    with pytest.raises(SetupError, match="no database was named; give --db URL, or set IMMUNO_DB"):
        resolve_url(None)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "name a file for SQLite"),
        ("sqlite:///:memory:", "name a file for SQLite"),
        ("sqlite:///file:x?mode=memory&uri=true", "name a file for SQLite"),
        ("file::memory:", "name a file for SQLite"),
        ("postgres://u:secret@h/d", "unknown database 'postgres'; did you mean 'postgresql'"),
        ("mysql://u:secret@h/d", "unknown database 'mysql'"),
        ("sqlite+aiosqlite:///x.db", "unknown database 'sqlite.aiosqlite'; did you mean"),
        ("not a url: secret", "not a database URL; write sqlite:///FILE or postgresql://"),
        ("postgresql://u:secret@h:port/d", "not a database URL"),
        ("postgresql://me:p@secret@h/d", "more than one @; write those of the user and the password as %40"),
        ("sqlite:///a\x00b", "no file can be named"),
    ],
)
def test_what_is_no_database_url_is_said_without_its_password(url: str, message: str) -> None:
    with pytest.raises(SetupError, match=message) as caught:
        resolve_url(url)
    assert "secret" not in str(caught.value)


def test_sqlites_own_addresses_name_a_file_to_read(path: Path, tmp_path: Path) -> None:
    odd = shutil.copyfile(path, tmp_path / "an odd#name.db")
    for url in (
        f"file:{quote(str(odd))}?mode=ro",
        f"file://{quote(str(odd))}?mode=ro",
        f"sqlite:///file:{quote(str(odd))}?uri=true&immutable=1&mode=ro",
    ):
        with open_store(url, read_only=True) as opened:
            assert opened.sessions() == ()
            with open_store(opened.url, read_only=True) as again:  # what is shown can be given back
                assert again.sessions() == ()
        with pytest.raises(SetupError, match=r"name.db is named for reading only \(mode=ro\)"):
            open_store(url)
    with open_store(f"file:{quote(str(odd))}") as opened:
        assert resolve_url(f"file:{quote(str(odd))}").database == str(odd)


def test_who_may_not_write_beside_a_database_is_told_that_others_do(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite was told that nobody does: it would read two states at once, and take the file for damaged."""

    def fill(name: str) -> None:
        with open_store(str(path)) as other:
            judged = [Verdict("near", f"{i}.png", 0.5, True, "dog", None) for i in range(2000)]
            other.save_generation(draft(make_session(other, name).id, verdicts=tuple(judged)))

    fill("one")
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda *_: False)
        reader = open_store(str(path), read_only=True)
        assert run_sql(reader, "SELECT count(*) FROM sessions").rows == ((1,),)

    def read() -> None:
        with reading(reader.engine) as transaction:
            assert transaction.scalar(text("SELECT count(*) FROM sessions")) == 1
            fill("two")
            transaction.scalar(text("SELECT count(*) FROM verdicts"))

    with pytest.raises(BusyError, match=f"{path} is being written by another process, and was read by one that may"):
        read()
    assert len(reader.sessions()) == 2  # it has read the file anew
    monkeypatch.setattr("db.questions.sql._asked", lambda *_: fill("three"))
    monkeypatch.setattr("db.questions.sql.os", SimpleNamespace(access=lambda *_: False, W_OK=os.W_OK))
    with reader, pytest.raises(BusyError, match="is being written by another process"):
        run_sql(reader, "SELECT count(*) FROM verdicts")


def test_a_pipe_is_no_database(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.db")
    for read_only in (True, False):
        with pytest.raises(SetupError, match=r"pipe.db is no regular file"):
            open_store(str(tmp_path / "pipe.db"), read_only=read_only)


def test_the_postgres_driver_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SetupError, match=r"run: pip install 'immuno-vlm\[postgres\]'") as caught:
        open_store("postgresql://someone:secret@localhost/db")
    assert "secret" not in str(caught.value)


def test_an_unreachable_server_is_named_without_the_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(SetupError, match=r"postgresql://someone:\*\*\*@127.0.0.1:1/db cannot be reached") as caught:
        open_store("postgresql://someone:secret@127.0.0.1:1/db")
    assert "secret" not in str(caught.value)


def test_a_password_in_the_query_is_not_shown() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(
        SetupError, match=r"postgresql:///db\?host=127.0.0.1&password=\*\*\*&port=1 cannot be"
    ) as caught:
        open_store("postgresql:///db?host=127.0.0.1&port=1&password=secret")
    assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("own_engine")
def test_sqlite_is_set_up_for_many_processes_and_power_cuts(store: AntibodyStore, path: Path) -> None:
    with reading(store.engine) as transaction:
        settings = {
            name: transaction.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout", "trusted_schema")
        }
    assert settings == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "synchronous": 2,
        "busy_timeout": 30_000,
        "trusted_schema": 0,
    }


def test_a_transaction_is_undone_by_an_exception(store: AntibodyStore) -> None:
    session = make_session(store)

    def change_and_fail() -> None:
        with writing(store.engine) as transaction:
            transaction.execute(text("UPDATE sessions SET seed = 99"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        change_and_fail()
    assert store.session("alpha") == session


def test_a_reader_sees_one_moment(store: AntibodyStore) -> None:
    with reading(store.engine) as transaction:
        before = transaction.scalar(text("SELECT count(*) FROM sessions"))
        make_session(store)
        assert transaction.scalar(text("SELECT count(*) FROM sessions")) == before == 0
    assert len(store.sessions()) == 1


def test_a_writer_that_waits_too_long_is_told_why(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.05)
    with open_store(str(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ImmunoError, match="another process has been writing for"):
            make_session(store)
        assert store.sessions() == ()
        other.execute("ROLLBACK")
        make_session(store)


# Files


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "new" / "immuno.db"
    with open_store(default=target) as store:
        assert store.url == f"sqlite:///{target}"
    assert target.exists()
    assert [found.name for found in target.parent.iterdir()] == ["immuno.db"]


def test_reading_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"no database at .*/runs/immuno.db; name one with --db URL or IMMUNO_DB"):
        open_store(default=tmp_path / "runs" / "immuno.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_a_database(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("Dear diary, this is no database at all. " * 50)
    for read_only in (True, False):
        with pytest.raises(SetupError, match=r"notes.txt is not a SQLite database; name another file with --db"):
            open_store(str(file), read_only=read_only)
    assert file.read_text().startswith("Dear diary")
    assert list(tmp_path.iterdir()) == [file]


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "places.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
        connection.commit()
    before = file.read_bytes()
    with pytest.raises(SetupError, match=r"another program's database \(it has the table 'bookmarks'"):
        open_store(str(file))
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_an_empty_file_is_empty_to_read_and_filled_to_write(tmp_path: Path) -> None:
    file = tmp_path / "immuno.db"
    file.touch()
    with pytest.raises(SetupError, match="is empty; name another database with --db"):
        open_store(str(file), read_only=True)
    assert file.stat().st_size == 0
    with open_store(str(file)) as store:
        assert store.sessions() == ()


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"is a folder; name the database file inside it, for example .*/immuno.db"):
        open_store(str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"cannot be used: (Not a directory|File exists)"):
        open_store(str(tmp_path / "file" / "immuno.db"))


def test_a_damaged_database_is_not_a_traceback(path: Path) -> None:
    with open_store(str(path)) as store:
        make_session(store)
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xa5" * (len(raw) - 4096)
    path.write_bytes(raw)
    with pytest.raises(ImmunoError, match=r"immuno.db is damaged; restore it"), open_store(str(path)) as store:
        store.sessions()


def test_a_store_to_read_refuses_to_write(path: Path) -> None:
    with open_store(str(path), read_only=True) as store, pytest.raises(SetupError, match="cannot be written"):
        make_session(store)


@contextmanager
def _without_privileges() -> Iterator[None]:
    """As nobody, where the tests run as root, whom permissions do not bind."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def locked_folder(new_database: Path) -> Iterator[Path]:
    """A folder that may not be written, with a database; not one of pytest's, which others than root may not enter."""
    with tempfile.TemporaryDirectory() as name:
        shutil.copy(new_database, name)
        with open_store(f"{name}/immuno.db") as store:
            store.save_generation(draft(make_session(store).id))
        Path(name, "immuno.db").chmod(0o444)
        Path(name).chmod(0o555)
        yield Path(name)
        Path(name).chmod(0o755)


def test_a_file_that_may_not_be_written_can_be_read(locked_folder: Path) -> None:
    with _without_privileges():
        with open_store(str(locked_folder / "immuno.db"), read_only=True) as store:
            assert [found.name for found in store.sessions()] == ["alpha"]
        with pytest.raises(SetupError, match="cannot be written; mend the permissions, or name another file with --db"):
            open_store(str(locked_folder / "immuno.db"))
    assert [found.name for found in locked_folder.iterdir()] == ["immuno.db"]


def test_a_folder_that_may_not_be_written_is_named(locked_folder: Path) -> None:
    with _without_privileges():
        with pytest.raises(SetupError, match="cannot be written; mend the permissions"):
            open_store(str(locked_folder / "other.db"))
        with pytest.raises(SetupError, match="cannot be used: Permission denied"):
            open_store(str(locked_folder / "runs" / "other.db"))


def test_a_read_only_engine_survives_odd_names(new_database: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a ?&#%20 ü.db"
    shutil.copy(new_database, odd)
    engine = make_engine(resolve_url(str(odd)), read_only=True)
    with reading(engine) as transaction:
        assert transaction.scalar(text("SELECT version_num FROM immuno_schema")) == HEAD
    engine.dispose()

"""`immuno db sql`: reads anything, changes nothing, and ends."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from db.questions.sql import run_sql
from db.records import SessionRecord
from db.store import AntibodyStore, open_store
from immuno_core.errors import SetupError
from tests.db.build import draft

FOR_EVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def filled(store: AntibodyStore, session: SessionRecord) -> AntibodyStore:
    for number in range(3):
        store.save_generation(draft(session.id, number))
    return store


def test_a_query_has_columns_and_rows(filled: AntibodyStore) -> None:
    found = run_sql(
        filled,
        "SELECT number, accepted, s.name, s.name FROM generations JOIN sessions s ON s.id = session_id ORDER BY 1",
    )
    assert found.columns == ("number", "accepted", "name", "name_2")
    assert found.rows == tuple((number, 1, "alpha", "alpha") for number in range(3))
    assert not found.more
    assert run_sql(filled, "VALUES (1, NULL)").rows == ((1, None),)
    assert run_sql(filled, "SELECT '100%' AS share").rows == (("100%",),)


def test_of_too_many_rows_the_first_are_shown(filled: AntibodyStore) -> None:
    query = "SELECT number FROM generations ORDER BY number"
    assert [(run_sql(filled, query, limit=n).rows, run_sql(filled, query, limit=n).more) for n in (2, 3)] == [
        (((0,), (1,)), True),
        (((0,), (1,), (2,)), False),
    ]


def test_bytes_come_as_hex(filled: AntibodyStore) -> None:
    ((found,),) = run_sql(filled, "SELECT vector FROM embeddings ORDER BY id", limit=1).rows
    assert len(bytes.fromhex(found)) == 16


def test_a_query_that_runs_for_ever_is_stopped(filled: AntibodyStore) -> None:
    with pytest.raises(SetupError, match=r"longer than 0\.2 s; narrow it, or allow more with --seconds"):
        run_sql(filled, FOR_EVER, seconds=0.2)
    assert run_sql(filled, "SELECT 1").rows == ((1,),)


def test_a_single_step_that_takes_for_ever_is_stopped(filled: AntibodyStore, path: Path) -> None:
    """SQLite looks at no clock within a step, and Python at no Ctrl-C."""
    started = time.monotonic()
    with pytest.raises(SetupError, match=r"longer than 0\.3 s"):
        run_sql(filled, "SELECT instr(printf('%.*c', 8000000, 'a'), printf('%.*c', 4000000, 'a') || 'b')", seconds=0.3)
    assert time.monotonic() - started < 5


def test_ctrl_c_ends_a_query_at_once(filled: AntibodyStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def noted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        children.append(start(*arguments, **options))
        return children[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    started = time.monotonic()
    threading.Timer(0.3, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        run_sql(filled, FOR_EVER, seconds=60)
    assert time.monotonic() - started < 30
    assert [child.poll() is not None for child in children] == [True]


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("SELECT " + ", ".join(["zeroblob(8000000)"] * 1000), "more memory than a query may have"),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT zeroblob(8000000) FROM n", "128 MB"),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000)"
            " SELECT length(b) FROM (SELECT randomblob(8000000) AS b FROM n ORDER BY 1)",
            "more memory than a query may have",
        ),
    ],
)
def test_what_would_fill_the_memory_is_refused(filled: AntibodyStore, path: Path, statement: str, why: str) -> None:
    with pytest.raises(SetupError, match=why):
        run_sql(filled, statement)


def test_the_whole_result_is_bounded(filled: AntibodyStore) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99) SELECT TEXT FROM n"
    sqlite = filled.url.startswith("sqlite")
    many = many.replace("TEXT", "printf('%.*c', 4000000, 'a')" if sqlite else "repeat('a', 4000000)")
    with pytest.raises(SetupError, match="its result is larger than 128 MB; narrow it, or lower --limit"):
        run_sql(filled, many)
    assert len(run_sql(filled, many, limit=5).rows) == 5


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM antibodies",
        "UPDATE sessions SET name = 'x'",
        "INSERT INTO claims SELECT * FROM claims",
        "DROP TABLE effects",
        "CREATE TABLE x (a INTEGER)",
        "CREATE TEMPORARY TABLE x (a INTEGER)",
        "SELECT 1; DELETE FROM effects",
        "SELECT 1; COMMIT; DELETE FROM effects",
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "VACUUM",
        "",
        "-- nothing",
        "nonsense",
        "SELECT * FROM nowhere",
        "SELECT '\x00'",
        "SELECT '\ud800'",
    ],
)
def test_what_does_not_only_read_is_refused_in_one_line(filled: AntibodyStore, statement: str) -> None:
    before = run_sql(filled, "SELECT count(*) FROM effects").rows
    with pytest.raises(SetupError) as refused:
        run_sql(filled, statement)
    assert "\n" not in str(refused.value)
    assert run_sql(filled, "SELECT count(*) FROM effects").rows == before
    assert filled.find_session("alpha") is not None


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH '{tmp}/new.db' AS other",
        "VACUUM INTO '{tmp}/new.db'",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA query_only = OFF",
        "SELECT * FROM pragma_table_info('sessions')",
        "SELECT load_extension('{tmp}/x')",
        "SELECT fts3_tokenizer('simple')",
        "SELECT length(zeroblob(1000000000))",
        "SELECT 'a' LIKE replace(hex(zeroblob(200)), '00', '%a')",
        "REPLACE INTO effects SELECT * FROM effects",
        "WITH x AS (SELECT 1) DELETE FROM effects",
        "ANALYZE",
    ],
)
def test_what_sqlite_could_do_besides_is_refused(
    filled: AntibodyStore, path: Path, tmp_path: Path, statement: str
) -> None:
    before = path.read_bytes()
    with pytest.raises(SetupError, match="the SQL was not run"):
        run_sql(filled, statement.format(tmp=tmp_path))
    assert not (tmp_path / "new.db").exists()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "COPY (SELECT 1) TO '{tmp}/new.txt'",
        "COPY (SELECT 1) TO PROGRAM 'cat > {tmp}/new.txt'",
        "WITH gone AS (DELETE FROM effects RETURNING 1) SELECT * FROM gone",
        "SELECT set_config('transaction_read_only', 'off', true)",
        "SET TRANSACTION READ WRITE",
        "DO $$ BEGIN DELETE FROM effects; END $$",
        "SELECT pg_sleep(60)",
    ],
)
def test_what_postgresql_could_do_besides_is_refused(
    request: pytest.FixtureRequest, tmp_path: Path, statement: str
) -> None:
    with request.getfixturevalue("postgres").database() as url, open_store(url) as store:
        with pytest.raises(SetupError, match="the SQL was not run"):
            run_sql(store, statement.format(tmp=tmp_path), seconds=0.5)
        assert run_sql(store, "SELECT count(*) FROM effects").rows == ((0,),)
        assert not (tmp_path / "new.txt").exists()


def test_explain_is_reading(filled: AntibodyStore, path: Path) -> None:
    assert run_sql(filled, "EXPLAIN QUERY PLAN SELECT * FROM sessions WHERE name = 'x'").columns[-1] == "detail"


def test_text_that_is_no_utf8_is_shown_with_marks(filled: AntibodyStore, path: Path) -> None:
    assert run_sql(filled, "SELECT CAST(x'41ff' AS TEXT)").rows == (("A\ufffd",),)


@pytest.mark.parametrize("name", ["odd # name?.db", "per cent %41.db"])
def test_a_file_of_any_name_that_may_not_be_written_is_read(filled: AntibodyStore, path: Path, name: str) -> None:
    filled.close()
    folder = path.parent / "locked"
    folder.mkdir()
    path.rename(folder / name)
    folder.chmod(0o500)
    try:
        with open_store(str(folder / name), read_only=True) as store:
            assert run_sql(store, "SELECT name FROM sessions").rows == (("alpha",),)
        assert [one.name for one in folder.iterdir()] == [name]
    finally:
        folder.chmod(0o700)

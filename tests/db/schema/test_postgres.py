"""What is PostgreSQL's own: its search index, upgrades of filled databases, rights, time zones, and what errors say."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, create_engine, insert, inspect, select, text

from db.calls import record_calls
from db.maintenance import check_database, upgrade_database
from db.questions.nearest import Among, nearest
from db.schema import engine as engines
from db.schema import migrations
from db.schema import models as m
from db.schema.engine import make_engine, migrating, reading, resolve_url, writing
from db.schema.machinery import metadata_of
from db.schema.vectors import to_half
from db.store import AntibodyStore, open_store
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.records import EncoderInfo
from tests.db.build import ENCODER, antibody, call, draft, make_session
from tests.db.postgres import Server

from .schema import schema_on_postgresql

pytestmark = pytest.mark.postgresql
FROZEN = Path(__file__).parent / "frozen"
NOWHERE = Path("nowhere.db")


@pytest.fixture
def url(postgres: Server) -> Iterator[str]:
    with postgres.database() as made:
        yield made


@pytest.fixture
def store(url: str) -> Iterator[AntibodyStore]:
    with open_store(url) as opened:
        yield opened


@contextmanager
def engine_of(url: str) -> Iterator[Engine]:
    made = make_engine(resolve_url(url))
    try:
        yield made
    finally:
        made.dispose()


def differences(engine: Engine) -> list[Any]:
    with reading(engine) as transaction:
        options = {"version_table": migrations.VERSION_TABLE, "include_object": migrations.is_of_the_models}
        context = MigrationContext.configure(transaction.connection(), opts=options | {"compare_type": True})
        found: list[Any] = compare_metadata(context, metadata_of("postgresql"))
        return found


# The search index


def fill(store: AntibodyStore, count: int, dim: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Sessions of two encoders with `count` antibodies each, of the same vectors but for their sign."""
    vectors = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    for name, sign, digest in (("alpha", 1, "v"), ("beta", -1, "u")):
        encoder = EncoderInfo(**{**_values(ENCODER), "dim": dim, "weights_digest": digest * 64})
        session = make_session(store, name, encoder=encoder)
        own = tuple(antibody(f"{name} {i}", embedding=sign * one) for i, one in enumerate(vectors))
        store.save_generation(draft(session.id, antibodies=own, effects=(), verdicts=(), bank=()))
    return vectors


def _values(encoder: EncoderInfo) -> dict[str, Any]:
    return {name: getattr(encoder, name) for name in EncoderInfo.__slots__}


@pytest.mark.long
def test_each_encoder_has_an_index_that_finds_its_nearest(store: AntibodyStore) -> None:
    from db.schema.pgvector import likely

    vectors = fill(store, count=3000, dim=32)
    digest = store.session("alpha").encoder.digest
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = np.random.default_rng(1).normal(size=(20, 32)).astype(np.float32)
    with writing(store.engine) as transaction:
        transaction.execute(text("ANALYZE"))
    base = select(m.Antibody.text, m.Embedding.vector).join(m.Antibody, m.Antibody.id == m.Embedding.antibody_id)
    found = 0
    query = likely(base, digest, 32, 10)
    with reading(store.engine) as transaction:
        for one in asked:
            rows = transaction.execute(query, {"direction": to_half(one.tobytes())}).all()
            assert len(rows) == 20
            best = np.argsort(-(directions @ one))[:10]
            found += len({f"alpha {i}" for i in best} & {name for name, _ in rows})
        filled = query.params(direction=to_half(asked[0].tobytes()))
        compiled = filled.compile(store.engine, compile_kwargs={"literal_binds": True})
        plan = transaction.scalars(text(f"EXPLAIN {compiled}")).all()
        assert f"hnsw_{digest[:40]}" in "\n".join(plan)
    assert found >= 0.95 * 10 * len(asked)
    assert all(check.ok for check in check_database(store._url.render_as_string(hide_password=False), NOWHERE))


def test_many_neighbours_are_searched_for_more_widely(store: AntibodyStore) -> None:
    vectors = fill(store, count=300, dim=8)
    own, *_ = store.antibodies(store.session("alpha").id)
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    with writing(store.engine) as transaction:
        transaction.execute(text("ANALYZE"))
    best = {f"alpha {i}" for i in np.argsort(-(directions @ directions[0]))[1:51]}
    found = nearest(store, own.id, limit=50)
    assert len(found) == 50
    assert len(best & {one.text for one in found}) >= 48
    narrowed = Among(session_id=store.session("alpha").id, guards="dog")
    for _ in range(12):  # also when the driver and the server have come to prepare the statement
        assert nearest(store, own.id, narrowed, limit=5) == found[:5]
    assert nearest(store, own.id, Among(guards="cat")) == ()


def test_the_check_counts_what_the_index_lacks(store: AntibodyStore, url: str) -> None:
    fill(store, count=3, dim=4)
    with writing(store.engine) as transaction:
        transaction.execute(text("DELETE FROM halves WHERE embedding_id = (SELECT min(embedding_id) FROM halves)"))
    (wrong,) = [check for check in check_database(url, NOWHERE) if not check.ok]
    assert wrong.name == "search index"
    assert wrong.detail.startswith("1 embedding(s) are not in the index")


def test_a_vector_of_any_length_has_a_direction(store: AntibodyStore) -> None:
    session = make_session(store)
    vectors = [np.array([3e38, 0, 0, 0]), np.array([1e-38, 0, 0, 0]), np.zeros(4)]
    own = tuple(antibody(str(i), embedding=one.astype(np.float32)) for i, one in enumerate(vectors))
    store.save_generation(draft(session.id, antibodies=own, effects=(), verdicts=(), bank=()))
    with reading(store.engine) as transaction:
        found = transaction.scalars(text("SELECT half::text FROM halves ORDER BY embedding_id")).all()
    assert found == ["[1,0,0,0]", "[1,0,0,0]", "[0,0,0,0]"]


def test_alembic_finds_no_difference_where_encoders_have_their_indexes(store: AntibodyStore) -> None:
    fill(store, count=3, dim=4)
    assert len([one for one in inspect(store.engine).get_indexes("halves") if one["name"]]) == 2
    assert differences(store.engine) == []


# Upgrades


def test_a_new_database_is_what_the_migrations_make(postgres: Server, url: str) -> None:
    with postgres.database(empty=True) as migrated, engine_of(migrated) as old, engine_of(url) as new:
        with migrating(old) as connection:
            migrations.upgrade(connection)
            expected = schema_on_postgresql(connection)
        with reading(new) as transaction:
            assert schema_on_postgresql(transaction.connection()) == expected
    kinds = {str(what) for what, *_ in expected}
    assert kinds == {"column", "constraint", "index", "trigger", "function", "extension", "revision"}


@pytest.fixture(params=migrations.REVISIONS[:-1])
def old(request: pytest.FixtureRequest, postgres: Server) -> Iterator[str]:
    """A database of an older schema, with the rows of the frozen one."""
    with postgres.database(empty=True) as url, closing(sqlite3.connect(":memory:")) as source:
        source.executescript((FROZEN / f"schema_{request.param}.sql").read_text(encoding="utf-8"))
        source.row_factory = sqlite3.Row
        engine = create_engine(url)  # not one of ours, which knows the present schema
        with engine.begin() as connection:
            migrations.upgrade(connection, request.param)
            tables = MetaData()
            tables.reflect(connection)
            for table in tables.sorted_tables:
                if table.name not in (migrations.VERSION_TABLE, "halves"):
                    rows = [_typed(table, dict(row)) for row in source.execute(f"SELECT * FROM {table.name}")]  # noqa: S608
                    connection.execute(insert(table), rows)
            if "halves" in tables.tables:
                for row in source.execute("SELECT id, encoder_digest, vector FROM embeddings"):
                    values = {"id": row[0], "encoder": row[1], "half": str(to_half(row[2]).tolist())}
                    connection.execute(
                        text("INSERT INTO halves VALUES (:id, :encoder, CAST(:half AS halfvec))"), values
                    )
        engine.dispose()
        yield url


def _typed(table: Any, row: dict[str, Any]) -> dict[str, Any]:
    """SQLite's values as PostgreSQL wants them: truth values, times and JSON have types there."""

    def typed(kind: str, value: Any) -> Any:
        if value is None:
            return None
        if kind == "BOOLEAN":
            return bool(value)
        if kind == "TIMESTAMP":
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        return json.loads(value) if kind == "JSON" else value

    return {name: typed(type(table.columns[name].type).__name__, value) for name, value in row.items()}


def contents(store: AntibodyStore) -> dict[str, list[str]]:
    """Every row of the record, as the store's types hand it out."""
    with reading(store.engine) as transaction:
        return {
            table.name: sorted(repr(tuple(row)) for row in transaction.execute(select(table)))
            for table in m.Base.metadata.sorted_tables
        }


def test_a_filled_database_of_every_schema_is_upgraded(
    old: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """To the very rows that the same database has on SQLite."""
    twin = tmp_path / "twin.db"
    with closing(sqlite3.connect(twin)) as source:
        revision = request.node.callspec.params["old"]
        source.executescript((FROZEN / f"schema_{revision}.sql").read_text(encoding="utf-8"))
    upgrade_database(str(twin), NOWHERE)
    with pytest.raises(SetupError, match="immuno db upgrade --db postgresql://"):
        open_store(old)
    assert upgrade_database(old, NOWHERE)[1] == migrations.HEAD
    assert all(check.ok for check in check_database(old, NOWHERE))
    with open_store(old) as store:
        assert differences(store.engine) == []
        session = store.session("alpha")
        generation = store.best_generation(session.id)
        assert generation is not None
        assert [one.text for one in store.bank(generation.id).antibodies] == ["robot dog 1", "robot dog 0 (matured)"]
        assert store.verdicts(generation.id)[0].sample_id == "odd \x00 name.png"
        with reading(store.engine) as transaction:
            assert transaction.scalar(text("SELECT count(*) FROM embeddings JOIN halves ON id = embedding_id")) >= 3
        assert len(inspect(store.engine).get_indexes("halves")) == 1
        found = contents(store)
    with open_store(str(twin)) as store:
        assert repr(found) == repr(contents(store))


def test_a_filled_database_goes_down_too(store: AntibodyStore) -> None:
    fill(store, count=3, dim=4)
    with migrating(store.engine) as connection:
        migrations.downgrade(connection, "base")
    assert set(inspect(store.engine).get_table_names()) == {migrations.VERSION_TABLE}


# Rights, times, errors


def test_a_store_to_read_refuses_to_write(url: str) -> None:
    with open_store(url, read_only=True) as store:
        assert store.sessions() == ()
        with pytest.raises(SetupError, match="cannot be written; it is open for reading only"):
            make_session(store)
        with pytest.raises(SetupError, match="cannot be written"), writing(store.engine) as transaction:
            transaction.execute(text("DELETE FROM sessions"))


def test_a_server_without_pgvector_is_told_what_it_needs(postgres: Server) -> None:
    postgres.run("CREATE ROLE nobody_much LOGIN")
    with postgres.database(empty=True) as url:
        name = resolve_url(url).database
        postgres.run(f"ALTER DATABASE {name} OWNER TO nobody_much")
        mine = resolve_url(url).set(username="nobody_much").render_as_string(hide_password=False)
        with pytest.raises(SetupError, match=r"needs the extension pgvector .* CREATE EXTENSION vector"):
            open_store(mine)
        with engine_of(mine) as engine:
            assert inspect(engine).get_table_names() == []


def test_the_servers_time_zone_changes_nothing(postgres: Server, url: str) -> None:
    postgres.run(f"ALTER DATABASE {resolve_url(url).database} SET timezone = 'Asia/Kathmandu'")
    with open_store(url) as store:
        session = make_session(store)
        saved = store.save_generation(draft(session.id))
        given = draft(session.id)
        assert (saved.started_at, saved.finished_at) == (given.started_at, given.finished_at)
        assert str(saved.started_at.tzinfo) == "UTC"


def test_a_refused_row_is_not_quoted(store: AntibodyStore) -> None:
    """PostgreSQL's own message quotes the whole row."""
    session = make_session(store)
    one = antibody("a private text", kind="ugly")
    with pytest.raises(ImmunoError, match="ck_antibodies_kind") as caught:
        store.save_generation(draft(session.id, antibodies=(one,), effects=(), verdicts=(), bank=()))
    assert "private" not in f"{caught.value} {caught.value.__cause__}"
    assert caught.value.__suppress_context__


def test_a_writer_that_waits_too_long_is_told_why(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(url) as first:
        session = make_session(first)
        monkeypatch.setattr(engines, "BUSY_SECONDS", 0.05)
        with open_store(url) as second, writing(first.engine) as transaction:
            transaction.execute(text("UPDATE sessions SET seed = 0"))
            with pytest.raises(ImmunoError, match="another process has been writing for"):
                second.set_session_status(session.id, "paused")
            assert second.session("alpha").status == "running"


def test_a_recorded_call_does_not_wait_for_a_generation(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from db.writing import write_generation

    monkeypatch.setattr(engines, "BUSY_SECONDS", 1)
    with open_store(url) as store:
        session = make_session(store)
        with writing(store.engine) as transaction:
            write_generation(transaction, draft(session.id))
            record_calls(store, session.id, [call(reply="paid")])
            assert [one.reply_text for one in store.llm_calls()] == ["paid"]
        assert store.session("alpha").generations == 1


def test_a_restarted_connection_is_not_noticed(postgres: Server, store: AntibodyStore) -> None:
    make_session(store)
    postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test_%'")
    assert [session.name for session in store.sessions()] == ["alpha"]

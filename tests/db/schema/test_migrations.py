"""Models and migrations say the same; databases of other versions are recognised, upgraded, and never harmed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, inspect

from db.maintenance import check_database, upgrade_database, versions
from db.schema import migrations
from db.schema.engine import is_sqlite, make_engine, migrating, reading, resolve_url
from db.schema.machinery import metadata_of
from db.schema.models import Base
from db.store import open_store
from immuno_core.errors import ImmunoError, SetupError
from tests.db.build import draft, make_session

from .schema import schema_of

HEAD = migrations.HEAD
NAMES = {
    *(
        "sessions",
        "prompts",
        "generations",
        "antibodies",
        "embeddings",
        "bank_members",
        "effects",
        "verdicts",
        "sample_lists",
    ),
    *("llm_calls", "encoders", "datasets", "runs", "results", "result_metrics", "test_reads"),
}


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    made = make_engine(resolve_url(database))
    yield made
    made.dispose()


def test_the_tables_of_the_design_are_there(engine: Engine) -> None:
    assert set(Base.metadata.tables) == NAMES
    beside = {"claims", *([] if is_sqlite(engine.url) else ["halves"])}
    assert set(inspect(engine).get_table_names()) == NAMES | beside | {migrations.VERSION_TABLE}


def test_every_constraint_has_a_name() -> None:
    unnamed = [
        f"{table.name}: {constraint}"
        for metadata in metadata_of("sqlite")
        for table in metadata.tables.values()
        for constraint in table.constraints
        if constraint.name is None
    ]
    assert unnamed == []


def test_alembic_finds_no_difference(engine: Engine) -> None:
    with reading(engine) as transaction:
        context = MigrationContext.configure(
            transaction.connection(),
            opts={
                "version_table": migrations.VERSION_TABLE,
                "compare_type": True,
                "include_object": migrations.is_of_the_models,
            },
        )
        assert compare_metadata(context, metadata_of(engine.dialect.name)) == []


def test_the_comparison_would_find_a_difference(engine: Engine) -> None:
    wanted = MetaData()
    for table in Base.metadata.tables.values():
        if table.name != "test_reads":
            table.to_metadata(wanted)
    with reading(engine) as transaction:
        context = MigrationContext.configure(transaction.connection(), opts={"version_table": migrations.VERSION_TABLE})
        found = compare_metadata(context, [wanted, *metadata_of(engine.dialect.name)[1:]])
        assert [change[0] for change in found] == ["remove_index", "remove_table"]


def test_a_new_database_is_what_the_migrations_make(path: Path, tmp_path: Path) -> None:
    """Alembic does not compare CHECK constraints; the text of the schema does. (PostgreSQL: test_postgres.)"""
    engine = make_engine(resolve_url(str(tmp_path / "migrated.db")))
    with migrating(engine) as connection:
        migrations.upgrade(connection)
    engine.dispose()
    assert schema_of(path) == schema_of(tmp_path / "migrated.db")
    assert versions(str(path), path).database_schema == HEAD


def test_down_and_up_again_gives_the_sameschema_of(path: Path, engine: Engine) -> None:
    before = schema_of(path)
    with migrating(engine) as connection:
        migrations.downgrade(connection, "base")
    assert set(schema_of(path)) == {migrations.VERSION_TABLE}
    with migrating(engine) as connection:
        migrations.upgrade(connection)
    assert schema_of(path) == before


def test_a_filled_database_goes_down_too(path: Path, engine: Engine) -> None:
    with open_store(str(path)) as store:
        session = make_session(store)
        store.save_generation(draft(session.id))
        store.save_generation(draft(session.id, 1))
    with migrating(engine) as connection:
        migrations.downgrade(connection, "base")
    assert set(schema_of(path)) == {migrations.VERSION_TABLE}


def test_the_listed_revisions_are_those_of_the_scripts(engine: Engine) -> None:
    with reading(engine) as transaction:
        scripts = ScriptDirectory.from_config(migrations.configuration(transaction.connection()))
    found = [script.revision for script in scripts.walk_revisions()]
    assert tuple(reversed(found)) == migrations.REVISIONS
    assert scripts.get_heads() == [migrations.HEAD]


# Databases of other versions


def _set_revision(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE {migrations.VERSION_TABLE} SET version_num = ?", (revision,))  # noqa: S608
        connection.commit()


def test_a_newer_database_asks_for_a_newer_package(path: Path) -> None:
    _set_revision(path, "9999")
    for read_only in (True, False):
        with pytest.raises(SetupError, match=r"written by a newer immuno-vlm \(schema 9999\); upgrade the package"):
            open_store(str(path), read_only=read_only)
    with pytest.raises(SetupError, match="newer immuno-vlm"):
        upgrade_database(str(path), path)
    assert versions(str(path), path).database_schema == "9999"


_NEXT = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9000", "{head}", None, None


def upgrade():
    with op.batch_alter_table("sessions") as batch:
        batch.add_column(sa.Column("note", sa.Text(), nullable=False, server_default="none"))
    {then}
"""


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package as it will be: with one more revision. Returns that revision's file."""
    folder = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    script = folder / "versions" / "9000_next.py"
    script.write_text(_NEXT.format(head=HEAD, then=""))
    monkeypatch.setattr(migrations, "__file__", str(folder / "__init__.py"))
    monkeypatch.setattr(migrations, "REVISIONS", (*migrations.REVISIONS, "9000"))
    monkeypatch.setattr(migrations, "HEAD", "9000")
    return script


def test_an_older_database_names_the_command_that_upgrades_it(path: Path, next_version: Path) -> None:
    for read_only in (True, False):
        with pytest.raises(SetupError, match=rf"immuno db upgrade --db sqlite:///{path}$"):
            open_store(str(path), read_only=read_only)


def test_upgrading_keeps_what_is_there(path: Path, next_version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(migrations, "HEAD", HEAD)
        with open_store(str(path)) as store:
            store.save_generation(draft(make_session(store).id))
    assert upgrade_database(str(path), path) == (HEAD, "9000")
    assert upgrade_database(str(path), path) == ("9000", "9000")
    with open_store(str(path)) as store:
        assert [found.name for found in store.sessions()] == ["alpha"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name, note FROM sessions").fetchall() == [("alpha", "none")]
    assert all(check.ok for check in check_database(str(path), path))


def test_an_upgrade_that_fails_changes_nothing(path: Path, next_version: Path) -> None:
    next_version.write_text(_NEXT.format(head=HEAD, then='op.execute("SELECT no_such_function()")'))
    before = schema_of(path)
    with pytest.raises(ImmunoError, match="no such function"):
        upgrade_database(str(path), path)
    assert schema_of(path) == before
    assert versions(str(path), path).database_schema == HEAD


def test_an_upgrade_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="there is no database at"):
        upgrade_database(None, tmp_path / "x.db")
    assert list(tmp_path.iterdir()) == []

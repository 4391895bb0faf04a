"""A database that is not as this version made it is told by `immuno db check`, and nothing is written into it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from db.maintenance import check_database
from db.records import SessionRecord
from db.schema.engine import writing
from db.store import AntibodyStore, open_store
from immuno_core.errors import SetupError

CHANGES = {
    "a dropped table": ("DROP TABLE effects", "the table 'effects' is missing"),
    "a view": (
        "ALTER TABLE effects RENAME TO kept; CREATE VIEW effects AS SELECT * FROM kept",
        "the table 'effects' is a view",
    ),
    "a dropped index": ("DROP INDEX ux_effects_bank", "the table 'effects' has no unique index 'ux_effects_bank'"),
    "a dropped column": ("ALTER TABLE sessions DROP COLUMN llm", "the table 'sessions' has no column 'llm', TEXT"),
    "a unique index": ("CREATE UNIQUE INDEX x ON effects (gain)", "the table 'effects' has a unique index 'x' (gain)"),
}
TRIGGERS = {
    "sqlite": "CREATE TRIGGER gone AFTER INSERT ON antibodies BEGIN DELETE FROM effects; END",
    "postgresql": "CREATE FUNCTION gone() RETURNS trigger AS 'BEGIN DELETE FROM effects; RETURN NULL; END' LANGUAGE"
    " plpgsql; CREATE TRIGGER gone AFTER INSERT ON antibodies EXECUTE FUNCTION gone()",
}


def failed(database: str) -> list[str]:
    return [one.detail for one in check_database(database, Path("x")) if not one.ok]


def change(store: AntibodyStore, statements: str) -> None:
    with writing(store.engine) as transaction:
        for statement in statements.split("; ") if "END" not in statements else [statements]:
            transaction.execute(text(statement))


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """One of its own: that of other tests keeps its tables."""
    if request.param == "sqlite":
        yield str(request.getfixturevalue("path"))
        return
    with request.getfixturevalue("postgres").database() as made:
        yield made


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_table_is_told_and_not_written_into(store: AntibodyStore, database: str, what: str) -> None:
    statements, message = CHANGES[what]
    assert failed(database) == []
    change(store, statements)
    assert message in failed(database)[0]
    with pytest.raises(SetupError, match=r"is not as immuno-vlm made it: .*; nothing was written; see: immuno db"):
        open_store(database)
    with open_store(database, read_only=True) as still:  # what there is can be looked at
        assert still.engine.url


def test_a_trigger_is_told_and_nothing_is_written(store: AntibodyStore, database: str) -> None:
    change(store, TRIGGERS[store.engine.dialect.name])
    assert "the table 'antibodies' has a trigger, 'gone'" in failed(database)[0]
    with pytest.raises(SetupError, match="the table 'antibodies' has a trigger, 'gone'"):
        open_store(database)


def test_a_table_made_anew_without_its_rules_is_told(store: AntibodyStore, database: str) -> None:
    change(store, "DROP TABLE effects; CREATE TABLE effects (id VARCHAR(36) NOT NULL)")
    (told,) = failed(database)
    for part in ("no check 'ck_effects_scope'", "no column 'gain'", "no foreign key (antibody_id) to antibodies (id)"):
        assert part in told or "more" in told


def test_what_harms_nothing_is_let_be(store: AntibodyStore, session: SessionRecord, database: str) -> None:
    change(store, "ALTER TABLE effects ADD COLUMN x INTEGER")
    change(store, "CREATE INDEX mine ON effects (gain)")
    change(store, "CREATE VIEW mine_too AS SELECT name FROM sessions")
    assert failed(database) == []
    with open_store(database) as again:
        assert again.find_session("alpha") is not None


def test_an_older_database_with_a_trigger_is_not_upgraded_in_silence(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(TRIGGERS["sqlite"])
    from db.maintenance import upgrade_database

    with pytest.raises(SetupError, match="has a trigger, 'gone'"):
        upgrade_database(str(path), path)

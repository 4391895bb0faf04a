"""A database of every schema that was released is upgraded with all that is in it.

`frozen/schema_NNNN.sql` is a small database as the code of that schema wrote it, with a session of two generations, a
run, numbers that are NaN and infinite, and texts that are escaped. It is never edited. When the schema changes, freeze
one of the schema before: fill a database as tests/db/build.py does, and write out `sqlite3.Connection.iterdump`.
"""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from db.maintenance import check_database, upgrade_database
from db.schema import migrations
from db.schema.engine import make_engine, migrating, resolve_url
from db.store import open_store
from immuno.cli.db import group
from immuno_core.errors import SetupError
from tests.db.build import result, vector
from tests.rows import changed

from .schema import schema_of

FROZEN = Path(__file__).parent / "frozen"


@pytest.fixture(params=migrations.REVISIONS[:-1])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A database of an older schema."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((FROZEN / f"schema_{request.param}.sql").read_text(encoding="utf-8"))
    return path


def contents(path: Path, columns: dict[str, list[str]] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table but the one that holds the revision (of the columns given by table)."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: [
                {name: row[name] for name in (columns[table] if columns else row.keys())}
                for row in connection.execute(f"SELECT * FROM {table} ORDER BY rowid")  # noqa: S608
            ]
            for table in tables
            if table != migrations.VERSION_TABLE and (columns is None or table in columns)
        }


def test_every_older_schema_is_frozen() -> None:
    assert sorted(file.name for file in FROZEN.iterdir()) == [
        f"schema_{revision}.sql" for revision in migrations.REVISIONS[:-1]
    ]


def test_an_old_database_must_be_upgraded_first(old: Path) -> None:
    with pytest.raises(SetupError, match="immuno db upgrade --db"):
        open_store(str(old))


def test_the_upgraded_schema_is_the_one_of_a_new_database(old: Path, path: Path) -> None:
    upgrade_database(str(old), old)
    assert schema_of(old) == schema_of(path)
    assert all(check.ok for check in check_database(str(old), old))


def test_an_upgrade_loses_and_changes_nothing(old: Path) -> None:
    before = contents(old)
    assert all(before.values()), "every table holds something"
    upgrade_database(str(old), old)
    after = contents(old, {table: list(rows[0]) for table, rows in before.items()})
    assert after == before


def test_going_back_keeps_what_the_old_schema_can_hold(old: Path) -> None:
    before, schema = contents(old), schema_of(old)
    with closing(sqlite3.connect(old)) as connection:
        (revision,) = connection.execute(f"SELECT version_num FROM {migrations.VERSION_TABLE}").fetchone()  # noqa: S608
    upgrade_database(str(old), old)
    engine = make_engine(resolve_url(str(old)))
    with migrating(engine) as connection:
        migrations.downgrade(connection, revision)
    engine.dispose()
    assert (contents(old), schema_of(old)) == (before, schema)


def test_the_store_reads_and_writes_an_upgraded_database(old: Path) -> None:
    upgrade_database(str(old), old)
    with open_store(str(old)) as store:
        session = store.session("alpha")
        assert (session.generations, session.best, session.seed) == (2, 1, 7)
        generation = store.best_generation(session.id)
        assert generation is not None
        bank = store.bank(generation.id)
        assert [one.text for one in bank.antibodies] == ["robot dog 0", "robot dog 1"]
        np.testing.assert_array_equal(bank.vectors, [vector(9), vector(1)])
        assert store.verdicts(generation.id)[0].sample_id == "odd \x00 name.png"
        assert math.isnan(store.effects(session_id=session.id, generation=1, scope="bank")[0].d_auroc)
        run = next(one for one in store.runs() if one.config_digest == "c" * 64)
        near, far, calibrated = store.results(run.id)
        assert near == result()
        assert (near.arm, near.intervals, near.metrics["h_score"], near.metrics["threshold"]) == ("", {}, None, None)
        assert math.isnan(far.metrics["auroc"] or 0.0)
        same: dict[str, Any] = {"auroc": 0.0, "extra": {}}
        assert changed(far, **same) == changed(result(ood="far", fpr95_id=0.125, fpr95_ood=math.inf), **same)
        assert calibrated == result(method="calibrated", params={"beta": 2.5}, antibodies=2, extra={})
        new = result(method="new", arm="bank", h_score=0.75, intervals={"auroc": (0.5, 0.75)})
        assert store.save_results(run.id, [new, near]) == 1
        assert store.results(run.id)[-1] == new


def test_the_command_line_upgrades_and_checks(old: Path) -> None:
    def rows(*arguments: str) -> Any:
        done = CliRunner().invoke(group, [*arguments, "--json", "--db", str(old)])
        assert done.exit_code == 0
        return json.loads(done.stdout)

    before = rows("version")[0]["database_schema"]
    assert before in migrations.REVISIONS[:-1]
    assert rows("upgrade") == [{"before": before, "after": migrations.HEAD}]
    assert all(check["ok"] for check in rows("check"))

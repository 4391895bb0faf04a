"""A database of every schema that was released is upgraded with all that is in it.

`frozen/schema_NNNN.sql` is a small database as the code of that schema wrote it, with a session of two generations, a
run, numbers that are NaN and infinite, and texts that are escaped. It is never edited. When the schema changes, freeze
one of the schema before: fill a database as tests/db/build.py does, and write out `sqlite3.Connection.iterdump`.
(0005 is what its code made of 0004, and a call more; 0006 and 0007 what their code made of the one before.)
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
from db.questions.lineage import lineage
from db.schema import migrations
from db.schema.engine import make_engine, migrating, resolve_url
from db.store import open_store
from evaluation.metrics import METRICS
from immuno.cli.db import group
from immuno_core.errors import SetupError
from tests.db.build import result, vector
from tests.rows import SHARES, changed

from .schema import schema_of

FROZEN = Path(__file__).parent / "frozen"


@pytest.fixture(params=migrations.REVISIONS[:-1])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A database of an older schema."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((FROZEN / f"schema_{request.param}.sql").read_text(encoding="utf-8"))
    return path


_upgraded: dict[bytes, bytes] = {}


def upgrade(path: Path) -> None:
    """Upgrade a database; the same one is upgraded once."""
    before = path.read_bytes()
    if before not in _upgraded:
        upgrade_database(str(path), path)
        _upgraded[before] = path.read_bytes()
    path.write_bytes(_upgraded[before])


def contents(path: Path, columns: dict[str, list[str]] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table but the one that holds the revision (of the columns given by table)."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: [
                {name: row[name] for name in (columns[table] if columns else row.keys())}
                for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")  # noqa: S608
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
    upgrade(old)
    assert schema_of(old) == schema_of(path)
    assert all(check.ok for check in check_database(str(old), old))


def test_an_upgrade_changes_nothing_but_what_it_says(old: Path) -> None:
    """That nothing is lost the next test shows: all of it comes back."""
    before = contents(old)
    assert all(before.values()), "every table holds something"
    upgrade(old)
    columns = {table: [one for one in rows[0] if one not in CHANGED.get(table, ())] for table, rows in before.items()}
    columns.pop("vector_stamps", None)
    columns.pop("verdicts")  # which are packed: going back unpacks them
    after = contents(old, columns)
    matured = [row["id"] for row in before["embeddings"] if row.get("kind") == "matured"]
    assert [row["id"] for row in after["antibodies"] if row["id"] in matured] == matured
    after["antibodies"] = [row for row in after["antibodies"] if row["id"] not in matured]
    kept = {table: [{name: row[name] for name in columns[table]} for row in before[table]] for table in columns}
    assert {table: sorted(map(repr, rows)) for table, rows in after.items()} == {
        table: sorted(map(repr, rows)) for table, rows in kept.items()
    }


MEASURED = {"gain", "harm", "d_fpr95", "d_auroc", "d_id_accuracy", "score"}
CHANGED: dict[str, set[str]] = {
    "results": {*METRICS, "intervals", *(f"{name}_kind" for name in METRICS)},
    "effects": MEASURED | {f"{name}_kind" for name in MEASURED},
    "llm_calls": {"error", "parameters"},
    "embeddings": {"antibody_id", "kind", "parent_id"},
    "bank_members": {"antibody_id", "embedding_id"},
    "sessions": {"status"},
}
"""Columns that the migrations drop or whose values they change."""


def test_going_back_keeps_what_the_old_schema_can_hold(old: Path) -> None:
    before, schema = contents(old), schema_of(old)
    with closing(sqlite3.connect(old)) as connection:
        (revision,) = connection.execute(f"SELECT version_num FROM {migrations.VERSION_TABLE}").fetchone()  # noqa: S608
    upgrade(old)
    engine = make_engine(resolve_url(str(old)))
    with migrating(engine) as connection:
        migrations.downgrade(connection, revision)
    engine.dispose()
    after = contents(old)
    for one in (before, after):
        one.pop("vector_stamps", None)  # new for each database
    for row in before["sessions"]:
        row["status"] = "paused" if row["status"] == "failed" else row["status"]
    assert (after, schema_of(old)) == (before, schema)


def test_the_store_reads_and_writes_an_upgraded_database(old: Path) -> None:
    upgrade(old)
    with open_store(str(old)) as store:
        session = store.session("alpha")
        assert (session.generations, session.best, session.seed) == (2, 1, 7)
        generation = store.best_generation(session.id)
        assert generation is not None
        bank = store.bank(generation.id)
        assert [one.text for one in bank.antibodies] == ["robot dog 1", "robot dog 0 (matured)"]
        assert (bank.antibodies[1].origin, bank.antibodies[1].relation) == ("maturation", "matured")
        np.testing.assert_array_equal(bank.vectors, [vector(1), vector(9)])
        (parent,) = (one for one in store.antibodies(session.id) if one.id == bank.antibodies[1].parent_id)
        assert (parent.text, parent.guards) == ("robot dog 0", bank.antibodies[1].guards)
        assert store.verdicts(generation.id)[0].sample_id == "odd \x00 name.png"
        assert math.isnan(store.effects(session_id=session.id, generation=1, scope="bank")[0].d_auroc)
        nothing = dict.fromkeys(METRICS)  # what was not measured has no row
        run = next(one for one in store.runs() if one.config_digest == "c" * 64)
        near, far, calibrated = (changed(row, **(nothing | row.metrics)) for row in store.results(run.id))
        assert near == result()
        odd = {"auroc": None, "fpr95_id": 0.125, "fpr95_ood": math.inf}
        assert changed(far, extra={}) == result(ood="far", **odd, extra={})
        assert calibrated == result(method="calibrated", params={"beta": 2.5}, antibodies=2, extra={})
        new = result(method="new", arm="bank", h_score=0.75, intervals={"auroc": (0.5, 0.75)})
        assert store.save_results(run.id, [new, near]) == 1
        assert store.results(run.id)[-1] == new


@pytest.mark.parametrize("old", ["0004"], indirect=True)
def test_what_schema_0004_had_beyond_the_earlier_ones_is_read(old: Path) -> None:
    upgrade(old)
    with open_store(str(old)) as store:
        alpha, beta = store.sessions()
        assert (alpha.status, beta.status, beta.parent) == ("finished", "paused", "alpha:1")
        run = next(one for one in store.runs() if one.config_digest == "e" * 64)
        (row,) = store.results(run.id)
        measured = {"h_score": 0.625, "oscr": 0.75, "threshold": -math.inf, "acceptance": 0.9375, "rejection": None}
        assert row.metrics == dict.fromkeys(SHARES, 0.5) | measured
        assert row.intervals == {"auroc": (0.25, 0.75), "oscr": (0.5, 0.875)}
        (solo,) = store.effects(alpha.id, generation=1, scope="solo")
        assert (solo.gain, solo.harm, str(solo.d_fpr95), solo.d_auroc) == (math.inf, -math.inf, "nan", 0.0625)
        odd, undefined = store.verdicts(store.generations(alpha.id)[1].id)
        assert (odd.score, str(undefined.score)) == (-math.inf, "nan")
        first, second, last = store.generations(beta.id)
        texts = [[one.text for one in store.bank(generation.id).antibodies] for generation in (first, second, last)]
        assert texts == [["robot dog 0"], ["robot cat (matured)"], ["robot cat (matured)"]]
        np.testing.assert_array_equal(store.bank(second.id).vectors, [vector(21)])
        np.testing.assert_array_equal(store.bank(last.id).vectors, [vector(22)])
        (once,), (twice,) = (store.bank(one.id).antibodies for one in (second, last))
        assert twice.parent_id == once.id
        assert [one.distance for one in lineage(store, twice.id) if one.what == "antibody"] == [-2, -1, 0]
        failed = next(one for one in store.llm_calls(alpha.id) if one.reply_text is None)
        assert failed.parameters == {"error": "length"}


def test_the_command_line_upgrades_and_checks(old: Path) -> None:
    def rows(*arguments: str) -> Any:
        done = CliRunner().invoke(group, [*arguments, "--json", "--db", str(old)])
        assert done.exit_code == 0
        return json.loads(done.stdout)

    before = rows("version")[0]["database_schema"]
    assert before in migrations.REVISIONS[:-1]
    assert rows("upgrade") == [{"before": before, "after": migrations.HEAD}]
    assert all(check["ok"] for check in rows("check"))

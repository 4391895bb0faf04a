"""Whole sessions from one database to another: nothing is lost, nothing is doubled, nothing comes in by halves."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from sqlalchemy import select

from db.calls import record_calls
from db.exchange import sessions
from db.exchange.joining import TABLES
from db.exchange.sessions import belongs, export_session, import_session, open_export
from db.maintenance import check_database
from db.records import EffectDraft, SessionRecord
from db.schema import migrations
from db.schema.engine import make_engine, migrating, reading, resolve_url
from db.store import AntibodyStore, open_store
from immuno.cli.db import group
from immuno_core.errors import SetupError
from immuno_core.records import ImageSet, Verdict
from tests.db.build import antibody, call, draft, effect, make_session, result, visual

from .test_faithful import ANY_TEXT, UNFRIENDLY

Tables = dict[str, list[tuple[Any, ...]]]


def contents(store: AntibodyStore) -> Tables:
    """Every row of every table of facts, in an order that does not depend on when it was inserted."""
    with reading(store.engine) as transaction:
        return {
            table.name: sorted((tuple(row) for row in transaction.execute(select(table))), key=repr) for table in TABLES
        }


def fill(store: AntibodyStore, session: SessionRecord) -> None:
    """Rows in every table: matured and visual antibodies, undefined numbers, texts that no format likes, a run."""
    odd = [antibody(text, seed=i, guards=text, rationale=text) for i, text in enumerate(UNFRIENDLY)]
    seen = [visual(i, f"near/{text}", "far/1.png") for i, text in enumerate(UNFRIENDLY)]
    effects = (EffectDraft(effect("solo", "odd", gain=math.nan, d_auroc=-math.inf), odd[0].id), EffectDraft(effect()))
    verdicts = tuple(Verdict("near", text, 0.5, True, text, odd[0].id) for text in UNFRIENDLY)
    store.save_generation(
        draft(
            session.id,
            antibodies=(*odd, *seen),
            effects=effects,
            verdicts=verdicts,
            bank=(odd[0].id, odd[1].id, seen[0].id),
            prompts={"propose": "\ud83d\ude00 as two halves, \x00, \u202e", "reflect": ""},
            metrics={"mean": math.nan, "shares": [0.1, math.inf], "note": "\u05e9\U0001f98a"},
        )
    )
    for number in (1, 2, 3):
        descent: Any = {"parent_id": odd[0].id, "relation": "matured", "origin": "maturation"}
        matured = antibody(f"{odd[0].text} (matured)", seed=100 + number, **descent)
        changed: Any = {"prompts": {"propose": "newer"}, "prompt_parent": number - 1, "prompt_version": number}
        changed |= {"antibodies": (matured,), "effects": (EffectDraft(effect()),), "verdicts": ()}
        store.save_generation(draft(session.id, number, bank=(odd[0].id, matured.id), **changed))
    record_calls(store, session.id, [call(9, "dog", "paid for \x00")])
    store.ensure_dataset(ImageSet("near", "feedback", "outlier", (), "d1"))
    run = store.start_run(
        config={"x": math.inf}, config_digest="c", seed=2**62, git_sha=None, versions={}, session_id=session.id
    )
    store.save_results(run.id, [result(auroc=math.nan, h_score=0.25, intervals={"auroc": (0.1, 0.2)})])
    store.record_test_read(run.id, ["near"], "the final measurement")
    store.finish_run(run.id)


@pytest.fixture
def filled(store: AntibodyStore, session: SessionRecord) -> AntibodyStore:
    fill(store, session)
    return store


@pytest.fixture
def other(new_database: Path, tmp_path: Path) -> Iterator[AntibodyStore]:
    """An empty database."""
    with open_store(str(shutil.copy(new_database, tmp_path / "other.db"))) as opened:
        yield opened


@pytest.fixture
def file(filled: AntibodyStore, tmp_path: Path) -> Path:
    export_session(filled, "alpha", tmp_path / "deep" / "alpha.db")
    return tmp_path / "deep" / "alpha.db"


def take_in(store: AntibodyStore, path: Path, name: str | None = None) -> dict[str, int]:
    """Import a session; return how many rows were added to each table."""
    with open_export(path) as export:
        return {one.table: one.added for one in import_session(store, export, name=name)}


def test_for_every_table_it_is_said_what_belongs_to_a_session() -> None:
    assert set(belongs("any")) == {table.name for table in TABLES}


def test_a_session_comes_back_row_for_row(filled: AntibodyStore, file: Path, other: AntibodyStore) -> None:
    before = contents(filled)
    assert all(before.values())
    assert take_in(other, file) == {name: len(rows) for name, rows in before.items()}
    assert repr(contents(other)) == repr(before)
    assert other.session("alpha") == filled.session("alpha")
    for one in filled.generations():
        assert np.array_equal(other.bank(one.id).vectors, filled.bank(one.id).vectors)
    assert all(check.ok for check in check_database(other.url, file))


def test_importing_again_adds_nothing(file: Path, other: AntibodyStore) -> None:
    take_in(other, file)
    before = contents(other)
    assert sum(take_in(other, file).values()) == 0
    assert repr(contents(other)) == repr(before)


def test_only_what_belongs_to_the_session_is_exported(filled: AntibodyStore, tmp_path: Path) -> None:
    beta = make_session(filled, "beta")
    filled.save_generation(draft(beta.id))
    filled.start_run(config={}, config_digest="alone", seed=0, git_sha=None, versions={})
    filled.ensure_dataset(ImageSet("elsewhere", "test", "outlier", (), "d2"))
    export_session(filled, "beta", tmp_path / "beta.db")
    with open_store(str(tmp_path / "fresh.db")) as fresh:
        take_in(fresh, tmp_path / "beta.db")
        assert [one.name for one in fresh.sessions()] == ["beta"]
        assert len(fresh.antibodies()) == 2
        rows = contents(fresh)
    assert rows["runs"] == rows["llm_calls"] == []
    assert [row[2] for row in rows["datasets"]] == ["near"]


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=ANY_TEXT)
def test_any_text_survives(new_database: Path, tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    place = tmp_path_factory.mktemp("any")
    files = [str(shutil.copy(new_database, place / name)) for name in ("a.db", "b.db")]
    with open_store(files[0]) as one, open_store(files[1]) as two:
        session = make_session(one)
        proposed = antibody(text, guards=text)
        verdict = Verdict(text, text, 0.5, True, text, None)
        one.save_generation(
            draft(session.id, antibodies=(proposed,), effects=(), verdicts=(verdict,), bank=(), prompts={text: text})
        )
        export_session(one, "alpha", place / "alpha.db")
        take_in(two, place / "alpha.db")
        assert contents(two) == contents(one)
        assert two.antibodies()[0].text == text


def test_a_session_can_go_on_elsewhere_and_come_home(
    filled: AntibodyStore, file: Path, other: AntibodyStore, session: SessionRecord, tmp_path: Path
) -> None:
    take_in(other, file)
    other.save_generation(draft(session.id, 4, prompt_version=0, prompts={}))
    other.set_session_status(session.id, "finished")
    export_session(other, "alpha", tmp_path / "home.db")
    take_in(filled, tmp_path / "home.db")
    assert repr(contents(filled)) == repr(contents(other))
    assert filled.session("alpha").status == "finished"
    take_in(filled, file)  # the older one changes nothing back
    assert filled.session("alpha").status == "finished"


def test_an_encoder_and_a_data_set_that_are_there_stay(file: Path, other: AntibodyStore) -> None:
    make_session(other, "mine")
    other.ensure_dataset(ImageSet("near", "feedback", "outlier", (), "d1"))
    before = contents(other)
    added = take_in(other, file)
    assert (added["encoders"], added["datasets"]) == (0, 0)
    assert contents(other)["encoders"] == before["encoders"]
    assert contents(other)["datasets"] == before["datasets"]


def test_two_sessions_of_one_name_are_kept_apart(file: Path, other: AntibodyStore) -> None:
    make_session(other, "alpha")
    before = contents(other)
    with pytest.raises(
        SetupError, match=r"alpha.db: row .* of 'sessions': name 'alpha' is taken by another .* import-session --as"
    ):
        take_in(other, file)
    assert contents(other) == before
    take_in(other, file, "alpha of the cluster")
    assert {one.name for one in other.sessions()} == {"alpha", "alpha of the cluster"}
    assert sum(take_in(other, file).values()) == 0


# What is not whole (a test that takes `path` runs on SQLite only)


def _change(file: Path, statement: str, *, seal: bool = True) -> None:
    """Change an exported file; with `seal` as one would who means to."""
    with closing(sqlite3.connect(file)) as database:
        database.execute(statement)
        if seal:
            database.execute("UPDATE immuno_export SET sha256 = ?", (sessions._digest(database),))
        database.commit()


def refused(store: AntibodyStore, path: Path) -> str:
    """The one-line reason for which an import is refused; nothing of it is in the database."""
    before = contents(store)
    with pytest.raises(SetupError) as caught:
        take_in(store, path)
    assert repr(contents(store)) == repr(before)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("antibodies SET position = 'three' WHERE position = 2", "of 'antibodies': 'position' cannot be 'three'"),
        ("antibodies SET position = 2147483648 WHERE position = 2", "'position' cannot be 2147483648"),
        ("antibodies SET text = x'07' WHERE position = 2", "a row of 'antibodies' cannot be read ("),
        ("datasets SET id = id || 'x'", "'id' cannot be"),
        ("antibodies SET created_at = 'yesterday'", "a row of 'antibodies' cannot be read ("),
        ("generations SET metrics = '[' WHERE number = 0", "a row of 'generations' cannot be read ("),
        ("encoders SET dim = 5", "of 'embeddings': its vector has 16 bytes"),
        ("embeddings SET vector = 'text'", "'vector' cannot be 'text'"),
        ("sessions SET name = char(7)", "cannot name a session"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_imported(
    path: Path, file: Path, other: AntibodyStore, change: str, says: str
) -> None:
    _change(file, f"UPDATE {change}")
    reason = refused(other, file)
    assert says in reason
    assert str(file) in reason or "session" in says


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE antibodies SET text = 'improved'",
        "DELETE FROM verdicts",
        "UPDATE embeddings SET vector = x'00000000000000000000000000000000'",
        "CREATE TABLE more (x)",
    ],
)
def test_a_changed_file_is_noticed(path: Path, file: Path, other: AntibodyStore, change: str) -> None:
    _change(file, change, seal=False)
    assert f"{file} has been changed since it was exported" in refused(other, file)


def test_a_row_that_was_changed_contradicts_the_one_that_is_there(path: Path, file: Path, other: AntibodyStore) -> None:
    take_in(other, file)
    _change(file, "UPDATE antibodies SET text = 'improved' WHERE position = 2")
    assert "of 'antibodies': the database has this row (" in (reason := refused(other, file))
    assert "with another 'text'" in reason


def test_two_sequels_of_one_session_contradict_each_other(
    filled: AntibodyStore, path: Path, file: Path, other: AntibodyStore, session: SessionRecord, tmp_path: Path
) -> None:
    take_in(other, file)
    for store in (filled, other):
        store.save_generation(draft(session.id, 4, prompt_version=0, prompts={}))
    export_session(other, "alpha", tmp_path / "sequel.db")
    assert "number 4 is taken by another row of 'generations'" in refused(filled, tmp_path / "sequel.db")


def test_what_is_no_export_is_told(filled: AntibodyStore, path: Path, other: AntibodyStore, tmp_path: Path) -> None:
    assert "there is no exported session at" in refused(other, tmp_path / "gone.db")
    (tmp_path / "text.db").write_text("text")
    assert "text.db is not an exported session (file is not a database)" in refused(other, tmp_path / "text.db")
    filled.close()
    assert "or add all of a database with: immuno db merge" in refused(other, path)


def test_an_exported_file_is_a_database_of_its_own(file: Path) -> None:
    assert all(check.ok for check in check_database(str(file), file))
    assert [one.name for one in file.parent.iterdir()] == [file.name]
    with open_store(str(file), read_only=True) as alone:
        assert [one.name for one in alone.sessions()] == ["alpha"]


def test_an_export_of_an_older_schema_is_imported(path: Path, file: Path, other: AntibodyStore) -> None:
    """As one of this version will be by the next: sealed under its own schema."""
    engine = make_engine(resolve_url(str(file)))
    with migrating(engine) as connection:
        migrations.downgrade(connection, migrations.REVISIONS[-2])
    engine.dispose()
    _change(file, "PRAGMA user_version = 1")
    assert take_in(other, file)["generations"] == 4


def test_the_commands_write_and_read_it(filled: AntibodyStore, path: Path, tmp_path: Path) -> None:
    filled.close()

    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(group, [*arguments, "--json"])
        assert done.exception is None
        return json.loads(done.stdout)

    (written,) = run("export-session", "alpha", str(tmp_path / "out.db"), "--db", str(path))
    assert written["rows"]["generations"] == 4
    joined = run("import-session", str(tmp_path / "out.db"), "--as", "beta", "--db", str(tmp_path / "new.db"))
    assert {one["table"]: one["added"] for one in joined}["generations"] == 4
    bad = CliRunner().invoke(group, ["import-session", str(tmp_path / "x.db"), "--db", str(tmp_path / "unmade.db")])
    assert isinstance(bad.exception, SetupError)
    assert not (tmp_path / "unmade.db").exists()


def test_an_export_overwrites_nothing_and_leaves_no_halves(filled: AntibodyStore, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(SetupError, match="taken exists, and is not overwritten; name a new file"):
        export_session(filled, "alpha", tmp_path / "taken")
    with pytest.raises(SetupError, match=r"no session 'alhpa' in .*did you mean 'alpha'"):
        export_session(filled, "alhpa", tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"cannot be written: (Not a directory|File exists)"):
        export_session(filled, "alpha", tmp_path / "file" / "alpha")
    left = {one.name for one in tmp_path.iterdir() if not one.name.startswith("immuno.db")}
    assert left == {"taken", "file"}


def test_a_database_open_to_read_takes_nothing(file: Path, path: Path, tmp_path: Path) -> None:
    open_store(str(tmp_path / "empty.db")).close()
    with (
        open_store(str(tmp_path / "empty.db"), read_only=True) as store,
        pytest.raises(SetupError, match=r"empty.db cannot be written"),
    ):
        take_in(store, file)

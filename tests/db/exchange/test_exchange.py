"""Whole sessions from one database to another: nothing is lost, nothing is doubled, nothing comes in by halves."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from sqlalchemy import select

from db.calls import record_calls
from db.exchange.joining import TABLES
from db.exchange.session_files import MANIFEST, VECTORS, open_folder
from db.exchange.sessions import belongs, export_session, import_session
from db.maintenance import check_database
from db.records import EffectDraft, SessionRecord
from db.schema.engine import reading
from db.store import AntibodyStore, open_store
from immuno_core.errors import SetupError
from immuno_core.records import ImageSet, Verdict
from tests.db.build import antibody, call, draft, effect, make_session, result

from .test_faithful import ANY_TEXT, UNFRIENDLY

Tables = dict[str, list[tuple[Any, ...]]]


def contents(store: AntibodyStore) -> Tables:
    """Every row of every table of facts, in an order that does not depend on when it was inserted."""
    with reading(store.engine) as transaction:
        return {
            table.name: sorted((tuple(row) for row in transaction.execute(select(table))), key=repr) for table in TABLES
        }


def fill(store: AntibodyStore, session: SessionRecord) -> None:
    """Rows in every table: matured antibodies, undefined numbers, texts that no format likes, a run."""
    odd = [antibody(text, seed=i, guards=text, rationale=text) for i, text in enumerate(UNFRIENDLY)]
    effects = (EffectDraft(effect("solo", "odd", gain=math.nan, d_auroc=-math.inf), odd[0].id), EffectDraft(effect()))
    verdicts = tuple(Verdict("near", text, 0.5, True, text, odd[0].id) for text in UNFRIENDLY)
    store.save_generation(
        draft(
            session.id,
            antibodies=tuple(odd),
            effects=effects,
            verdicts=verdicts,
            bank=(odd[0].id, odd[1].id),
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
def folder(filled: AntibodyStore, tmp_path: Path) -> Path:
    export_session(filled, "alpha", tmp_path / "deep" / "alpha")
    return tmp_path / "deep" / "alpha"


def test_for_every_table_it_is_said_what_belongs_to_a_session() -> None:
    assert set(belongs("any")) == {table.name for table in TABLES}


def test_a_session_comes_back_row_for_row(filled: AntibodyStore, folder: Path, other: AntibodyStore) -> None:
    before = contents(filled)
    assert all(before.values())
    joined = import_session(other, open_folder(folder))
    assert repr(contents(other)) == repr(before)
    assert {one.table: one.added for one in joined} == {name: len(rows) for name, rows in before.items()}
    assert other.session("alpha") == filled.session("alpha")
    for one in filled.generations():
        assert np.array_equal(other.bank(one.id).vectors, filled.bank(one.id).vectors)
    assert all(check.ok for check in check_database(other.url, folder))


def test_importing_again_adds_nothing(folder: Path, other: AntibodyStore) -> None:
    import_session(other, open_folder(folder))
    before = contents(other)
    joined = import_session(other, open_folder(folder))
    assert sum(one.added for one in joined) == 0
    assert repr(contents(other)) == repr(before)


def test_only_what_belongs_to_the_session_is_exported(filled: AntibodyStore, tmp_path: Path) -> None:
    beta = make_session(filled, "beta")
    filled.save_generation(draft(beta.id))
    filled.start_run(config={}, config_digest="alone", seed=0, git_sha=None, versions={})
    filled.ensure_dataset(ImageSet("elsewhere", "test", "outlier", (), "d2"))
    export_session(filled, "beta", tmp_path / "beta")
    with open_store(str(tmp_path / "fresh.db")) as fresh:
        import_session(fresh, open_folder(tmp_path / "beta"))
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
        export_session(one, "alpha", place / "alpha")
        import_session(two, open_folder(place / "alpha"))
        assert contents(two) == contents(one)
        assert two.antibodies()[0].text == text


def test_a_session_can_go_on_elsewhere_and_come_home(
    filled: AntibodyStore, folder: Path, other: AntibodyStore, session: SessionRecord, tmp_path: Path
) -> None:
    import_session(other, open_folder(folder))
    other.save_generation(draft(session.id, 4, prompt_version=0, prompts={}))
    other.set_session_status(session.id, "finished")
    export_session(other, "alpha", tmp_path / "home")
    import_session(filled, open_folder(tmp_path / "home"))
    assert repr(contents(filled)) == repr(contents(other))
    assert filled.session("alpha").status == "finished"
    import_session(filled, open_folder(folder))  # the older one changes nothing back
    assert filled.session("alpha").status == "finished"


def test_an_encoder_and_a_data_set_that_are_there_stay(folder: Path, other: AntibodyStore) -> None:
    make_session(other, "mine")
    other.ensure_dataset(ImageSet("near", "feedback", "outlier", (), "d1"))
    before = contents(other)
    joined = {one.table: one for one in import_session(other, open_folder(folder))}
    assert (joined["encoders"].added, joined["datasets"].added) == (0, 0)
    assert contents(other)["encoders"] == before["encoders"]
    assert contents(other)["datasets"] == before["datasets"]


def test_two_sessions_of_one_name_are_kept_apart(folder: Path, other: AntibodyStore) -> None:
    make_session(other, "alpha")
    before = contents(other)
    with pytest.raises(
        SetupError, match=r"sessions.jsonl, line 1: name 'alpha' is taken by another .* import-session --as"
    ):
        import_session(other, open_folder(folder))
    assert contents(other) == before
    import_session(other, open_folder(folder), name="alpha of the cluster")
    assert {one.name for one in other.sessions()} == {"alpha", "alpha of the cluster"}
    assert sum(one.added for one in import_session(other, open_folder(folder))) == 0


# What is not whole (a test that takes `path` runs on SQLite only)


def _edit(folder: Path, name: str, change: Callable[[bytes], bytes], *, sign: bool = True) -> None:
    """Change a file of an export; with `sign` also its digest and its number of rows in the manifest."""
    raw = change((folder / name).read_bytes())
    (folder / name).write_bytes(raw)
    if sign:
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"][name] = {"rows": raw.count(b"\n"), "sha256": hashlib.sha256(raw).hexdigest()}
        (folder / MANIFEST).write_text(json.dumps(manifest))


def _line(number: int, **changes: Any) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        lines = raw.splitlines(keepends=True)
        lines[number - 1] = json.dumps(json.loads(lines[number - 1]) | changes).encode() + b"\n"
        return b"".join(lines)

    return change


def _refused(store: AntibodyStore, folder: Path) -> str:
    """The one-line reason for which an import is refused; nothing of it is in the database."""
    before = contents(store)
    with pytest.raises(SetupError) as caught:
        import_session(store, open_folder(folder))
    assert repr(contents(store)) == repr(before)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_line(3, position="three"), "line 3: 'position' cannot be 'three'"),
        (_line(3, position=True), "line 3: 'position' cannot be True"),
        (_line(3, position=None), "line 3: 'position' is null, but must have a value"),
        (_line(3, position=2**31), "line 3: 'position' cannot be"),
        (_line(3, text=7), "line 3: 'text' is not a text, but 7"),
        (_line(3, text="a\x00b"), "line 3: 'text' has a NUL"),
        (_line(3, text="a\udc80"), "line 3: 'text' has a NUL or half a character"),
        (_line(3, txt="x"), "line 3: unknown key 'txt'; did you mean 'text'?"),
        (_line(3, id="x" * 37), "line 3: 'id' cannot be"),
        (_line(3, created_at="yesterday"), "line 3: 'created_at' is not a time, but 'yesterday'"),
        (_line(3, created_at="2026-05-01T12:00:00"), "line 3: 'created_at' is a time without a time zone"),
        (lambda raw: raw.replace(b'"cosine": 0.5', b'"cosine": NaN', 1), "line 1: not JSON (NaN is no JSON)"),
        (lambda raw: raw.replace(b'"kind": ', b'"kid": ', 1), "line 1: the key 'kind' is missing"),
        (lambda raw: raw[:-9], ": not JSON ("),
        (lambda raw: raw + b"\xff\n", "not JSON ('utf-8' codec"),
        (lambda raw: raw + b"[]\n", "not a JSON object"),
        (lambda raw: raw + b"[" * 100_000 + b"\n", "not JSON ("),
        (_line(3, kind="friend"), "line 3: it breaks a rule of the table (CHECK constraint failed: ck_antibodies_kind"),
        (_line(3, position=0), "line 3: generation_id"),
        (_line(3, generation_id="nobody"), "line 3: it refers to a row that is neither in the database nor before it"),
        (_line(3, text="\U0001f98a"), ""),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_imported(
    path: Path, folder: Path, other: AntibodyStore, change: Callable[[bytes], bytes], says: str
) -> None:
    _edit(folder, "antibodies.jsonl", change)
    if says:
        assert f"{folder / 'antibodies.jsonl'}, " in (reason := _refused(other, folder))
        assert says in reason
    else:
        import_session(other, open_folder(folder))


def test_a_row_that_was_changed_contradicts_the_one_that_is_there(
    path: Path, folder: Path, other: AntibodyStore
) -> None:
    import_session(other, open_folder(folder))
    _edit(folder, "antibodies.jsonl", _line(2, text="improved"))
    assert "antibodies.jsonl, line 2: the database has this row (" in (reason := _refused(other, folder))
    assert "with another 'text'" in reason


def test_two_sequels_of_one_session_contradict_each_other(
    filled: AntibodyStore, path: Path, folder: Path, other: AntibodyStore, session: SessionRecord, tmp_path: Path
) -> None:
    import_session(other, open_folder(folder))
    for store in (filled, other):
        store.save_generation(draft(session.id, 4, prompt_version=0, prompts={}))
    export_session(other, "alpha", tmp_path / "sequel")
    assert "number 4 is taken by another row of 'generations'" in _refused(filled, tmp_path / "sequel")


@pytest.mark.parametrize("name", ["antibodies.jsonl", "effects.jsonl", VECTORS])
def test_a_changed_file_is_noticed(path: Path, folder: Path, other: AntibodyStore, name: str) -> None:
    _edit(folder, name, lambda raw: raw[:-2] + b" }\n" if name != VECTORS else raw[:-1] + b"\x00", sign=False)
    assert f"{folder / name} has been changed since it was exported" in _refused(other, folder)


@pytest.mark.parametrize("name", ["verdicts.jsonl", VECTORS])
def test_a_missing_file_is_noticed(path: Path, folder: Path, other: AntibodyStore, name: str) -> None:
    (folder / name).unlink()
    assert f"cannot read {folder / name}: No such file" in _refused(other, folder)


@pytest.mark.parametrize(
    ("vectors", "says"),
    [
        (lambda all_: all_[:, :3], "the embedding of the row at"),
        (lambda all_: all_[:-1], "vectors.safetensors has no vector for it"),
        (lambda all_: np.concatenate([all_, all_]), "holds other vectors than"),
        (lambda all_: all_.astype(np.float16), "type float16, not (n, d) float32"),
        (lambda all_: all_ * np.float32("nan"), "not made of finite floating-point numbers"),
        (lambda all_: all_[0], "not (n, d) float32"),
    ],
)
def test_wrong_vectors_are_refused(path: Path, folder: Path, other: AntibodyStore, vectors: Any, says: str) -> None:
    def change(raw: bytes) -> bytes:
        return safetensors.numpy.save({name: vectors(all_) for name, all_ in safetensors.numpy.load(raw).items()})

    _edit(folder, VECTORS, change)
    assert says in _refused(other, folder)


def test_vectors_that_are_none_are_refused(path: Path, folder: Path, other: AntibodyStore) -> None:
    _edit(folder, VECTORS, lambda raw: b"not safetensors at all")
    assert "is not a safetensors file" in _refused(other, folder)


def test_vectors_of_another_size_than_their_encoders_are_refused(
    path: Path, folder: Path, other: AntibodyStore
) -> None:
    _edit(folder, "encoders.jsonl", _line(1, dim=5))
    assert "embeddings.jsonl, line 1: its vector has 16 bytes" in _refused(other, folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "zip"}, "not the format 'immuno-session' 1"),
        ({"version": 2}, "not the format 'immuno-session' 1"),
        ({"schema": "0001"}, "was exported with schema '0001', and this is schema"),
        ({"files": {"../../etc/passwd": {}}}, "does not name the session and the files of an export"),
        ({"session": None}, "does not name the session and the files"),
    ],
)
def test_a_manifest_of_something_else(
    path: Path, folder: Path, other: AntibodyStore, change: dict[str, Any], says: str
) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | change))
    assert says in _refused(other, folder)


def test_a_folder_that_is_no_export(tmp_path: Path, other: AntibodyStore) -> None:
    assert "is not an exported session: its manifest.json cannot be read" in _refused(other, tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    assert f"{tmp_path / MANIFEST}: not JSON" in _refused(other, tmp_path)


def test_an_export_overwrites_nothing_and_leaves_no_halves(filled: AntibodyStore, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(SetupError, match="taken exists; name a new folder"):
        export_session(filled, "alpha", tmp_path / "taken")
    with pytest.raises(SetupError, match=r"no session 'alhpa' in .*did you mean 'alpha'"):
        export_session(filled, "alhpa", tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"cannot be written: (Not a directory|File exists)"):
        export_session(filled, "alpha", tmp_path / "file" / "alpha")
    left = {one.name for one in tmp_path.iterdir() if not one.name.startswith("immuno.db")}
    assert left == {"taken", "file"}


def test_a_database_open_to_read_takes_nothing(folder: Path, path: Path, tmp_path: Path) -> None:
    open_store(str(tmp_path / "empty.db")).close()
    with (
        open_store(str(tmp_path / "empty.db"), read_only=True) as store,
        pytest.raises(SetupError, match=r"empty.db cannot be written"),
    ):
        import_session(store, open_folder(folder))

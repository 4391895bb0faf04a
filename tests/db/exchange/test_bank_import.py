"""Other people's antibodies as generations of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from db.exchange import banks
from db.exchange.banks import BankSource, EmbeddedBank, import_bank
from db.maintenance import check_database
from db.records import SessionRecord
from db.store import AntibodyStore, open_store
from immuno.cli.db import group
from immuno_core.bank import Bank
from immuno_core.errors import SetupError
from immuno_core.records import Antibody
from tests.db.build import ENCODER, draft, make_session, vector

FILES = {
    "eoe.json": (json.dumps({"dog": ["robot dog", "husky"], "cat": ["lynx"]}), ["dog", "dog", "cat"]),
    "neglabel.txt": ("abacus\n\n\u05e9\u05dc\u05d5\u05dd\nwolf \U0001f98a\n", ["", "", ""]),
    "ours.jsonl": ('{"text": "husky\\u0000", "kind": "contextual", "guards": "dog", "rationale": "fur"}\n', ["dog"]),
}


def run(*arguments: str | Path, database: Path) -> Result:
    return CliRunner().invoke(group, [*map(str, arguments), "--db", str(database)])


def rows(*arguments: str | Path, database: Path) -> Any:
    result = run(*arguments, "--json", database=database)
    assert (result.exit_code, result.stderr) == (0, ""), result.exception
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", FILES)
def test_a_file_becomes_a_generation_that_says_where_it_is_from(path: Path, tmp_path: Path, name: str) -> None:
    content, guards = FILES[name]
    file = tmp_path / name
    file.write_text(content)
    found = {"session": file.stem, "generation": 0, "antibodies": len(guards)}
    assert rows("import-bank", file, database=path) == [found | {"new": True, "embedded": 0, "left_out": 0}]
    assert rows("import-bank", file, database=path) == [found | {"new": False, "embedded": 0, "left_out": 0}]
    with open_store(str(path), read_only=True) as store:
        (generation,) = store.generations()
        assert generation.metrics["source"]["file"] == name
        assert len(generation.metrics["source"]["sha256"]) == 64
        assert generation.reason == f"imported from {name}"
        assert [one.guards for one in store.antibodies()] == guards
        assert {one.status for one in store.antibodies()} == {"accepted"}
    assert all(check.ok for check in check_database(str(path), path))


EOE = {"dog": ["robot dog", "Dog", "cats", "lynx"], "cat": ["Lynx", "an old dog", "puma"]}


def test_what_names_a_known_class_is_stored_as_turned_down_and_counted(path: Path, tmp_path: Path) -> None:
    (tmp_path / "eoe.json").write_text(json.dumps(EOE))
    done = run("import-bank", tmp_path / "eoe.json", database=path)
    assert (
        "4 of 7 texts of eoe.json were left out: 3 name a known class ('Dog' for one), 1 were said before"
        in done.stderr
    )
    with open_store(str(path), read_only=True) as store:
        assert {one.text: one.reason for one in store.antibodies(status="rejected")} == {
            "Dog": "names a known class: 'dog'",
            "cats": "names a known class: 'cat'",
            "an old dog": "names a known class: 'dog'",
            "Lynx": "repeated: said before",
        }
        assert [one.text for one in store.antibodies(status="accepted")] == ["robot dog", "lynx", "puma"]


def test_what_names_a_known_class_can_be_kept(path: Path, tmp_path: Path) -> None:
    (tmp_path / "eoe.json").write_text(json.dumps(EOE))
    assert rows("import-bank", tmp_path / "eoe.json", "--keep-known", database=path)[0]["left_out"] == 0
    with open_store(str(path), read_only=True) as store:
        assert len(store.antibodies(status="accepted")) == 7


def test_another_content_is_the_next_generation(store: AntibodyStore) -> None:
    for i in (0, 1, 0):
        husky = Antibody(f"husky {i}", "look_alike", "dog", "fur")
        found = import_bank(store, "shared", [husky, husky], BankSource("a.txt", f"{i}" * 64))
        assert (found.generation.number, found.generation.proposed) == (i, 1)
    assert [one.number for one in store.generations()] == [0, 1]
    assert [one.rationale for one in store.antibodies()] == ["fur", "fur"]
    assert [one.version for one in store.prompts()] == [0, 1]


def test_a_session_of_the_loop_is_left_alone(store: AntibodyStore, session: SessionRecord) -> None:
    store.save_generation(draft(session.id))
    with pytest.raises(SetupError, match=r"'alpha' in .* is a session of its own; .* --session"):
        import_bank(store, "alpha", [Antibody("husky", "look_alike", "dog")], BankSource("a.txt", "0" * 64))
    assert len(store.generations()) == 1
    with pytest.raises(SetupError, match="cannot name a session"):
        import_bank(store, " ", [], BankSource("a.txt", "0" * 64))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", '{"text": "x", "kind": "look_alike", "guards": ""}\n{"text": 3}\n', "line 2: the key 'kind'"),
        ("a.jsonl", '{"text": "x\\ud800", "kind": "look_alike", "guards": ""}\n', "line 1: a text with half a char"),
        ("a.json", '{"dog": "husky"}', "the value of 'dog' is not a list of texts"),
        ("a.csv", "husky", "not '.csv'"),
        ("a.txt", "", "holds no antibody"),
    ],
)
def test_a_malformed_bank_makes_nothing(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    result = run("import-bank", tmp_path / name, database=tmp_path / "immuno.db")
    assert isinstance(result.exception, SetupError)
    assert says in str(result.exception)
    assert not (tmp_path / "immuno.db").exists()


# The other commands


def test_the_commands_say_what_they_did(path: Path, new_database: Path, tmp_path: Path) -> None:
    with open_store(str(path)) as store:
        store.save_generation(draft(make_session(store).id))
    file, away, copy = tmp_path / "alpha.db", tmp_path / "new" / "away.db", tmp_path / "copy.db"
    assert "session 'alpha': 12 rows written to" in run("export-session", "alpha", file, database=path).stdout
    assert (
        "session 'alpha': added 1 encoders, 1 sample_lists, 1 sessions"
        in run("import-session", file, database=away).stdout
    )
    assert "added nothing new; 12 rows were there" in run("import-session", file, database=away).stdout
    assert "away.db: added nothing new; 12 rows were there" in run("merge", away, database=path).stdout
    assert "backup written to" in run("backup", copy, database=path).stdout
    assert {one["added"] for one in rows("merge", copy, database=path)} == {0}
    assert rows("import-session", file, "--as", "beta", database=away)[0]["added"] == 0
    (found,) = rows("export-session", "alpha", tmp_path / "again", database=path)
    assert found["rows"]["antibodies"] == 2
    (made,) = rows("backup", tmp_path / "second.db", database=path)
    assert made["bytes"] == Path(made["file"]).stat().st_size


def test_a_bad_export_makes_no_database(tmp_path: Path) -> None:
    result = run("import-session", tmp_path, database=tmp_path / "immuno.db")
    assert isinstance(result.exception, SetupError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", [["--rename", "beta", "gamma"], []])
def test_a_clash_of_names_is_solved_by_an_option(path: Path, tmp_path: Path, option: list[str]) -> None:
    other = tmp_path / "other.db"
    for file in (path, other):
        with open_store(str(file)) as store:
            make_session(store, "beta")
    result = run("merge", other, *option, database=path)
    if option:
        assert "added 1 sessions" in result.stdout
    else:
        assert isinstance(result.exception, SetupError)
        assert "merge --rename" in str(result.exception)


def test_a_bank_comes_with_its_embeddings_or_not_at_all(store: AntibodyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [Antibody(text, "look_alike", "dog", id=text) for text in ("husky", "wolf")]
    bank = EmbeddedBank(Bank(tuple(texts), np.stack([vector(0), vector(1)])), ENCODER)
    source = BankSource("a.parquet", "0" * 64)
    with monkeypatch.context() as patch:
        patch.setattr(banks, "_add", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            import_bank(store, "shared", texts, source, bank)
    assert store.sessions() == ()
    found = [import_bank(store, "shared", texts, source, bank) for _ in range(2)]
    assert [(one.is_new, one.embedded) for one in found] == [(True, 2), (False, 0)]

"""The mapped file that `nearest` uses on SQLite: it changes no answer, is never stale, and may be missing."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from db.maintenance import check_database
from db.questions import vector_file
from db.questions.nearest import Neighbour, nearest, nearest_to_vector
from db.records import SessionRecord
from db.schema.engine import reading
from db.store import AntibodyStore, open_store
from tests.db.build import DIM, ENCODER, antibody, draft, make_session, vector
from tests.db.workers import start


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache folder of the test's own, and files from the first embedding on."""
    monkeypatch.setenv("IMMUNO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(vector_file, "_LEAST", 1)
    vector_file._last.clear()
    yield tmp_path / "cache" / "vectors"
    vector_file._last.clear()


def fill(store: AntibodyStore, session: SessionRecord, number: int, count: int = 50) -> None:
    own = tuple(antibody(f"{number}.{i}", seed=1000 * number + i) for i in range(count))
    store.save_generation(draft(session.id, number, antibodies=own, effects=(), verdicts=(), bank=(), parent=None))


def answers(store: AntibodyStore) -> tuple[Neighbour, ...]:
    return nearest_to_vector(store, vector(77), ENCODER.digest, limit=9)


def without_file(store: AntibodyStore, monkeypatch: pytest.MonkeyPatch) -> tuple[Neighbour, ...]:
    with monkeypatch.context() as changed:
        changed.setattr(vector_file, "mapped", lambda *_: None)
        return answers(store)


def files(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.f32"))


def test_the_answer_is_the_same_with_and_without(
    store: AntibodyStore, session: SessionRecord, path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, session, 0)
    expected = without_file(store, monkeypatch)
    assert files(cache) == []
    assert answers(store) == expected == answers(store)
    assert len(files(cache)) == 1
    assert len(expected) == 9


def test_few_embeddings_need_no_file(
    store: AntibodyStore, session: SessionRecord, path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_file, "_LEAST", 51)
    fill(store, session, 0)
    assert len(answers(store)) == 9
    assert files(cache) == []


def test_added_embeddings_are_appended(
    store: AntibodyStore, session: SessionRecord, path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, session, 0)
    answers(store)
    (first,) = files(cache)
    old = first.read_bytes()
    fill(store, session, 1)
    read: list[int] = []
    plain = vector_file._vectors
    monkeypatch.setattr(vector_file, "_vectors", lambda *a, after: read.append(after) or plain(*a, after=after))
    assert answers(store) == without_file(store, monkeypatch)
    (second,) = files(cache)
    assert second != first
    assert second.read_bytes()[: len(old)] == old
    assert read == [50]
    assert len(second.read_bytes()) == 100 * 4 * DIM


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE embeddings SET vector = (SELECT vector FROM embeddings LIMIT 1 OFFSET 30) WHERE rowid < 20",
        "DELETE FROM embeddings WHERE rowid % 2",
        "DELETE FROM embeddings WHERE rowid = 50",
        "VACUUM",
    ],
)
def test_a_change_by_hand_is_seen(
    store: AntibodyStore, session: SessionRecord, path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    fill(store, session, 0)
    before = answers(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(change)
    after = answers(store)
    assert after == without_file(store, monkeypatch)
    assert (after == before) == (change == "VACUUM" or "= 50" in change)
    fill(store, session, 1)
    assert answers(store) == without_file(store, monkeypatch)


def test_copies_that_go_their_own_ways_are_told_apart_though_they_lie_in_one_place(
    store: AntibodyStore, session: SessionRecord, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older copy is put back, and as many antibodies added to it as to the one that it replaces."""
    fill(store, session, 0)
    store.close()
    shutil.copy(path, tmp_path / "copy.db")
    fill(store, session, 1)
    assert "1." in {one.text[:2] for one in answers(store)}
    store.close()
    shutil.copy(tmp_path / "copy.db", path)
    with open_store(str(path)) as restored:
        fill(restored, session, 2)
        found = answers(restored)
        assert found == without_file(restored, monkeypatch)
        assert {one.text[:2] for one in found} <= {"0.", "2."}


def test_two_encoders_have_a_file_each(
    store: AntibodyStore, session: SessionRecord, path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, session, 0)
    other = type(ENCODER)(**{name: getattr(ENCODER, name) for name in type(ENCODER).__slots__} | {"precision": "bf16"})
    fill(store, make_session(store, "beta", encoder=other), 1)
    assert {one.session for one in answers(store)} == {"alpha"}
    assert {one.session for one in nearest_to_vector(store, vector(77), other.digest)} == {"beta"}
    assert len(files(cache)) == 2


@pytest.mark.parametrize("damage", ["short", "gone", "no ids"])
def test_a_damaged_file_is_written_anew(
    store: AntibodyStore, session: SessionRecord, path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    fill(store, session, 0)
    expected = answers(store)
    (file,) = files(cache)
    vector_file._last.clear()
    whole = file.read_bytes()
    if damage == "short":
        file.write_bytes(whole[:-4])
    elif damage == "gone":
        file.unlink()
    else:
        file.with_suffix(".ids").unlink()
    assert answers(store) == expected
    assert file.read_bytes() == whole


def test_where_no_file_can_be_written_the_answer_is_the_same(
    store: AntibodyStore, session: SessionRecord, path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, session, 0)
    cache.parent.write_text("a file where the folder should be")
    assert answers(store) == without_file(store, monkeypatch)


def test_a_read_only_database_has_one_too(
    store: AntibodyStore, session: SessionRecord, path: Path, cache: Path
) -> None:
    fill(store, session, 0)
    expected = answers(store)
    (file,) = files(cache)
    store.close()
    path.chmod(0o444)
    file.unlink()
    vector_file._last.clear()
    with open_store(str(path), read_only=True) as opened:
        assert answers(opened) == expected
    assert files(cache) == [file]


def test_thousands_of_equal_embeddings_are_ranked_by_age(
    store: AntibodyStore, session: SessionRecord, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.questions.nearest._MOST_MEASURED", 20)
    own = tuple(antibody(f"{i:03}", seed=5) for i in range(100))
    store.save_generation(draft(session.id, antibodies=own, effects=(), verdicts=(), bank=()))
    assert [one.text for one in nearest(store, own[0].id, limit=5)] == ["001", "002", "003", "004", "005"]


READER = """
import sys
from db.questions import vector_file
from tests.db.questions.test_vector_file import answers
from db.store import open_store

vector_file._LEAST = 1
sys.stdin.read()
with open_store(sys.argv[1], read_only=True) as store:
    for _ in range(20):
        vector_file._last.clear()
        texts = {one.text.split(".")[0] for one in answers(store)}
    print(sorted(texts))
"""


def test_processes_share_and_replace_it_while_others_write(
    store: AntibodyStore, session: SessionRecord, path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, session, 0)
    readers = [start(READER, str(path)) for _ in range(3)]
    for reader in readers:
        assert reader.stdin is not None
        reader.stdin.close()
        reader.stdin = None
    for number in range(1, 12):
        fill(store, session, number, 10)
        answers(store)
    for reader in readers:
        _, errors = reader.communicate(timeout=120)
        assert (reader.returncode, errors) == (0, b"")
    assert answers(store) == without_file(store, monkeypatch)
    assert not list(cache.rglob("*.tmp*"))


def test_the_check_tells_of_a_missing_trigger(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER immuno_stamp_insert")
    (wrong,) = [one for one in check_database(str(path), path) if not one.ok]
    assert wrong.detail.startswith("1 of the triggers are missing")


def test_directions_in_the_file_are_of_unit_length(store: AntibodyStore, session: SessionRecord, path: Path) -> None:
    odd = tuple(
        antibody(str(i), embedding=v) for i, v in enumerate((3e38 * vector(1), 1e-38 * vector(2), 0 * vector(3)))
    )
    store.save_generation(draft(session.id, antibodies=odd, effects=(), verdicts=(), bank=()))
    with reading(store.engine) as transaction:
        found = vector_file.mapped(transaction, str(path), ENCODER.digest, DIM)
    assert found is not None
    np.testing.assert_allclose(np.linalg.norm(found.directions, axis=1), [1, 1, 0], atol=1e-5)

"""Sessions, encoders, data sets, and the recorded calls of the chat model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from db.calls import StoredReply, find_calls, record_calls
from db.records import SessionRecord
from db.schema.engine import reading
from db.store import AntibodyStore
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.records import ImageSet, Sample

from .build import ENCODER, call, draft, make_session


def count(store: AntibodyStore, table: str) -> int:
    with reading(store.engine) as transaction:
        return int(transaction.scalar(text(f"SELECT count(*) FROM {table}")) or 0)  # noqa: S608 (names of ours)


def test_a_session_comes_back_as_it_was_created(store: AntibodyStore) -> None:
    before = datetime.now(UTC)
    created = make_session(store, "alpha", config={"encoder": {"model": "x"}, "band": [0.1, None]}, seed=2**40)
    assert created.status == "running"
    assert created.config == {"encoder": {"model": "x"}, "band": [0.1, None]}
    assert created.seed == 2**40
    assert created.encoder == ENCODER
    assert (created.generations, created.best) == (0, None)
    assert created.created_at.tzinfo == UTC
    assert before <= created.created_at <= before + timedelta(minutes=1)
    assert store.find_session("alpha") == created == store.session("alpha")
    assert store.sessions() == (created,)


def test_a_session_counts_its_generations_and_knows_its_best(store: AntibodyStore, session: SessionRecord) -> None:
    store.save_generation(draft(session.id, 0))
    store.save_generation(draft(session.id, 1, accepted=False))
    assert (store.session("alpha").generations, store.session("alpha").best) == (2, 0)


def test_a_name_is_taken_once(store: AntibodyStore, session: SessionRecord) -> None:
    with pytest.raises(SetupError, match=r"a session named 'alpha' exists in .*; resume it, or choose another name"):
        make_session(store, "alpha", seed=1)
    assert store.sessions() == (session,)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x00", "\ud800", "x" * 201])
def test_a_name_that_cannot_be_typed_is_refused(store: AntibodyStore, name: str) -> None:
    with pytest.raises(SetupError, match="cannot name a session"):
        make_session(store, name)


def test_an_unknown_session_is_none_to_find_and_an_error_to_need(store: AntibodyStore) -> None:
    with pytest.raises(SetupError, match=r"no session 'alhpa' in .*; it holds none yet"):
        store.session("alhpa")
    make_session(store, "alpha")
    assert store.find_session("alhpa") is None
    with pytest.raises(SetupError, match="did you mean 'alpha'"):
        store.session("alhpa")


def test_the_status_is_kept_and_must_be_a_known_one(store: AntibodyStore, session: SessionRecord) -> None:
    store.set_session_status(session.id, "paused")
    paused = store.session("alpha")
    assert paused.status == "paused"
    assert paused.updated_at > session.updated_at
    status: Any = "asleep"
    with pytest.raises(ImmunoError, match=r"refused what was to be stored: .*ck_sessions_status"):
        store.set_session_status(session.id, status)
    with pytest.raises(SetupError, match="no session with the id 'nobody'"):
        store.set_session_status("nobody", "paused")
    assert store.session("alpha") == paused


def test_a_later_state_is_later_though_the_clock_was_set_back(
    store: AntibodyStore, session: SessionRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge would take the earlier state."""
    monkeypatch.setattr("db.store.now", lambda: session.updated_at - timedelta(hours=1))
    store.set_session_status(session.id, "paused")
    paused = store.session("alpha")
    store.set_grounds(session.id, {"classes": []})
    assert session.updated_at < paused.updated_at < store.session("alpha").updated_at


def test_datasets_are_recorded_once(store: AntibodyStore) -> None:
    images = ImageSet("near", "feedback", "outlier", (Sample("a.png", "/x/a.png", "a"),), digest="d" * 64)
    for _ in range(2):
        store.ensure_dataset(images)
    assert count(store, "datasets") == 1
    store.ensure_dataset(ImageSet("near", "test", "outlier", images.samples, images.digest))
    assert count(store, "datasets") == 2


def test_the_first_reply_wins_and_is_replayed(store: AntibodyStore, session: SessionRecord) -> None:
    first = call(reply='{"antibodies": []}', prompt_tokens=12, completion_tokens=5)
    key = first.subject, first.request_digest
    assert find_calls(store, session.id, 0, "propose") == {}
    for one in (first, call(reply="something else")):
        record_calls(store, session.id, [one])
    assert find_calls(store, session.id, 0, "propose", [first.subject]) == {
        key: StoredReply('{"antibodies": []}', 12, 5)
    }
    assert find_calls(store, session.id, 0, "propose").keys() == {key}
    assert find_calls(store, session.id, 0, "propose", ["cat"]) == {}
    assert find_calls(store, session.id, 0, "reflect") == {}
    assert find_calls(store, session.id, 1, "propose") == {}
    assert [(one.generation, one.reply_text) for one in store.llm_calls(session.id)] == [(0, '{"antibodies": []}')]


def test_a_call_of_no_session_is_refused(store: AntibodyStore) -> None:
    with pytest.raises(ImmunoError, match=r"(?i)foreign key constraint"):
        record_calls(store, "nobody", [call()])
    assert count(store, "llm_calls") == 0


def test_an_error_never_shows_what_was_to_be_stored(store: AntibodyStore) -> None:
    with pytest.raises(ImmunoError) as caught:
        record_calls(store, "nobody", [call(reply="a private reply")])
    assert "private" not in f"{caught.value} {caught.value.__cause__}"

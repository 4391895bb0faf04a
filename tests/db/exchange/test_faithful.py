"""What is read equals what was written: numbers that are none, and texts that no database likes."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.dialects import sqlite

from db.calls import find_calls, record_calls
from db.records import EffectDraft, SessionRecord
from db.schema.engine import reading
from db.schema.types import LosslessText, from_json, to_json
from db.store import AntibodyStore
from immuno_core.errors import SetupError
from immuno_core.records import Verdict
from tests.db.build import antibody, call, draft, effect

UNFRIENDLY = [
    "nul \x00 inside",
    "lone surrogate \udc80 of a file name",
    "the escape itself \u241b0000 and \u241b",
    "emoji \U0001f98a\u200d\U0001f469 and \u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd",
    "'; DROP TABLE antibodies; --",
    "\r\n\t\x1b[31m",
    "",
    "x" * 100_000,
]
ANY_TEXT = st.text(st.characters(exclude_categories=()))
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("text", UNFRIENDLY)
def test_any_text_comes_back(store: AntibodyStore, session: SessionRecord, text: str) -> None:
    one = antibody(text, guards=text, rationale=text, reason=text)
    verdict = Verdict(text, text, 0.5, True, text, one.id)
    given_draft = draft(
        session.id,
        antibodies=(one,),
        effects=(EffectDraft(effect("solo", text), one.id),),
        verdicts=(verdict,),
        bank=(),
        prompts={text: text},
        guideline=text,
        reason=text,
        metrics={text: text},
    )
    saved = store.save_generation(given_draft)
    assert (saved.guideline, saved.reason, saved.metrics) == (text, text, {text: text})
    (stored,) = store.antibodies(guards=text)
    assert (stored.text, stored.guards, stored.rationale, stored.reason) == (text,) * 4
    assert store.verdicts(saved.id) == (verdict,)
    (solo,) = store.effects(outlier_set=text)
    assert solo.outlier_set == text
    (prompt,) = store.prompts()
    assert (prompt.step, prompt.text) == (text, text)
    record_calls(store, session.id, [call(subject=text, step=text, request_text=text, reply=text, model=text)])
    (asked,) = store.llm_calls()
    assert (asked.step, asked.subject, asked.request_text, asked.reply_text, asked.model) == (text,) * 5
    assert [one.reply_text for one in find_calls(store, session.id, 0, text, [asked.subject]).values()] == [text]


def test_ordinary_text_is_stored_as_it_is(store: AntibodyStore, session: SessionRecord, path: Path) -> None:
    text = 'a "robot\\dog"\nin שלום \U0001f98a'
    store.save_generation(draft(session.id, antibodies=(antibody(text),), effects=(), verdicts=(), bank=()))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT text FROM antibodies").fetchall() == [(text,)]


@settings(deadline=None)
@given(ANY_TEXT)
def test_text_is_storable_everywhere_and_comes_back(text: str) -> None:
    column, dialect = LosslessText(), sqlite.dialect()
    stored = column.process_bind_param(text, dialect)
    assert stored is not None
    assert "\x00" not in stored
    stored.encode("utf-8")
    assert column.process_result_value(stored, dialect) == text


def test_what_is_no_text_is_refused(store: AntibodyStore, session: SessionRecord) -> None:
    number: Any = 3
    with pytest.raises(SetupError, match="3 was to be stored as text, but is int"):
        store.save_generation(draft(session.id, reason=number))


# Numbers


def test_effects_and_scores_may_be_undefined(store: AntibodyStore, session: SessionRecord) -> None:
    undefined = effect(gain=np.float32("nan"), harm=math.inf, d_auroc=-math.inf)
    verdicts = (Verdict("near", "a", math.nan, False, "dog", None), Verdict("near", "b", -math.inf, False, "dog", None))
    saved = store.save_generation(draft(session.id, effects=(EffectDraft(undefined),), verdicts=verdicts))
    (stored,) = store.effects()
    assert math.isnan(stored.gain)
    assert (stored.harm, stored.d_auroc, stored.d_fpr95) == (math.inf, -math.inf, -0.125)
    first, second = store.verdicts(saved.id)
    assert math.isnan(first.score)
    assert second.score == -math.inf
    with reading(store.engine) as transaction:
        assert transaction.scalar(text("SELECT count(*) FROM effects WHERE gain IS NULL")) == 1


def test_metrics_are_strict_json(store: AntibodyStore, session: SessionRecord, path: Path) -> None:
    metrics = {"auroc": math.nan, "by_set": [math.inf, -math.inf], "fpr95": np.float32(0.5), "n": np.int64(3)}
    saved = store.save_generation(draft(session.id, metrics=metrics))
    assert math.isnan(saved.metrics.pop("auroc"))
    assert saved.metrics == {"by_set": [math.inf, -math.inf], "fpr95": 0.5, "n": 3}
    with closing(sqlite3.connect(path)) as connection:
        ((raw,),) = connection.execute("SELECT metrics FROM generations").fetchall()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(raw, parse_constant=refuse)["auroc"] == {"value": None, "kind": "nan"}


@settings(deadline=None)
@given(ANY_JSON)
def test_json_comes_back(value: Any) -> None:
    text = json.dumps(to_json(value), allow_nan=False)
    assert repr(from_json(json.loads(text))) == repr(value)


@pytest.mark.parametrize("value", [{1, 2}, b"x", Path("x"), [1, object()], {"a": 1j}])
def test_what_json_would_change_is_refused(value: Any) -> None:
    with pytest.raises(SetupError, match="cannot be stored as JSON"):
        to_json(value)

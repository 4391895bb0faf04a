"""What people ask of large databases is found by indices on both engines: no table is read from end to end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, text

from db.calls import find_replies, record_calls
from db.questions.judging import judgements
from db.questions.naming import antibodies_named
from db.questions.ranking import top
from db.records import SessionRecord
from db.schema.engine import is_sqlite, reading, writing
from db.store import AntibodyStore
from db.writing import new_id
from immuno_core.records import Verdict
from tests.db.build import antibody, call, draft, make_session

BY_GENERATION = """
SELECT g.number, e.outlier_set, avg(e.gain), avg(e.harm), count(*)
FROM sessions s JOIN generations g ON g.session_id = s.id JOIN effects e ON e.generation_id = g.id
WHERE s.name = 'beta' AND e.scope = 'solo' GROUP BY g.number, e.outlier_set
"""
"""The query of benchmarks/database.py."""


@pytest.fixture
def filled(store: AntibodyStore, session: SessionRecord) -> AntibodyStore:
    """Some thousand rows, of which `beta` has few, and statistics of them."""
    for name, generations in (("alpha", 8), ("beta", 1)):
        own = session if name == "alpha" else make_session(store, name)
        for number in range(generations):
            some = tuple(antibody(f"{name} {number}.{i}", seed=None, status="rejected") for i in range(300))
            verdicts = tuple(Verdict("near", f"{i}.png", 0.5, True, "dog", None) for i in range(300))
            store.save_generation(
                draft(own.id, number, antibodies=some, effects=(), verdicts=verdicts, bank=(), parent=None)
            )
    record_calls(store, session.id, [call()])
    with writing(store.engine) as transaction:
        transaction.execute(text(_CALLS))
        transaction.execute(text(_EFFECTS))
        transaction.execute(text("ANALYZE"))
    return store


_CALLS = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2000)
INSERT INTO llm_calls (id, session_id, generation, step, subject, request_digest, request_text, reply_text, model,
  parameters, reused, cache_key, created_at)
SELECT 'call ' || n, session_id, n, step, subject, request_digest, request_text, reply_text, model, parameters, reused,
  'key ' || n, created_at FROM llm_calls, numbers
"""
_EFFECTS = """
INSERT INTO effects (id, generation_id, antibody_id, scope, outlier_set, split, gain, harm, d_fpr95, d_auroc,
  d_id_accuracy, fired_id, fired_outliers)
SELECT substr(id, 1, 35) || names.letter, generation_id, id, 'solo', 'set ' || names.letter, 'feedback',
  0.5, 0, 0, 0, 0, 0, 0
FROM antibodies, (SELECT 'a' AS letter UNION SELECT 'b' UNION SELECT 'c' UNION SELECT 'd') AS names
"""


def full_scans(store: AntibodyStore, statement: str, parameters: Any) -> list[str]:
    """The steps of a statement's plan that read one of the large tables from end to end."""
    large = "antibodies|effects|verdicts|embeddings|llm_calls|bank_members"
    sqlite = is_sqlite(store.engine.url)
    with reading(store.engine) as transaction:
        explain = f"{'EXPLAIN QUERY PLAN' if sqlite else 'EXPLAIN'} {statement}"
        if not sqlite:  # is there an index for it? Of so few rows the planner would rather read all
            transaction.execute(text("SET LOCAL enable_seqscan = off"))
        plan = [str(row[-1]) for row in transaction.connection().exec_driver_sql(explain, parameters)]
    scan = rf"^SCAN ({large})\b" if sqlite else rf"Seq Scan on ({large})\b"
    return [step for step in plan if re.search(scan, step)]


QUESTIONS: dict[str, Callable[[AntibodyStore, SessionRecord], Any]] = {
    "verdicts": lambda store, _: judgements(store, "7.png"),
    "top": lambda store, beta: top(store, beta.id),
    "effects": lambda store, beta: store.effects(beta.id, scope="solo"),
    "antibodies": lambda store, beta: store.antibodies(beta.id),
    "generations": lambda store, beta: store.generations(beta.id),
    "replies": lambda store, _: find_replies(store, ["r" * 64]),
    "by text": lambda store, _: _named(store, "alpha 3.33"),
    "by id": lambda store, _: _named(store, new_id()),
}


def _named(store: AntibodyStore, name: str) -> Any:
    with reading(store.engine) as transaction:
        return antibodies_named(transaction, name)


def test_questions_are_answered_by_indices(filled: AntibodyStore) -> None:
    beta = filled.session("beta")
    for name, ask in QUESTIONS.items():
        seen: list[tuple[str, Any]] = []

        def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, _m: bool, seen: Any = seen) -> None:
            seen.append((statement, parameters))

        event.listen(filled.engine, "before_cursor_execute", note)
        ask(filled, beta)
        event.remove(filled.engine, "before_cursor_execute", note)
        asked = [one for one in seen if one[0].startswith(("SELECT", "WITH"))]
        assert asked
        assert [full_scans(filled, *one) for one in asked] == [[]] * len(asked), name


def test_effects_are_aggregated_by_generation_in_one_indexed_query(filled: AntibodyStore) -> None:
    assert full_scans(filled, BY_GENERATION, ()) == []
    with reading(filled.engine) as transaction:
        rows = transaction.execute(text(BY_GENERATION)).all()
    assert sorted(tuple(row) for row in rows) == [(0, f"set {letter}", 0.5, 0.0, 300) for letter in "abcd"]


def test_a_full_scan_would_be_seen(filled: AntibodyStore) -> None:
    assert len(full_scans(filled, "SELECT count(*) FROM effects WHERE fired_id > 1", ())) == 1

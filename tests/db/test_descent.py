"""Where things come from (branches, parents of antibodies, changed prompts), and what the calls of a model cost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from db.calls import StoredReply, find_replies, record_calls
from db.exchange.joining import merge
from db.exchange.sessions import export_session, import_session, open_export
from db.questions.lineage import lineage
from db.records import SessionRecord
from db.store import AntibodyStore, open_store
from immuno_core.errors import SetupError

from .build import antibody, call, draft, make_session

KEY = "k" * 64


def test_a_branch_names_the_generation_that_it_starts_from(store: AntibodyStore, session: SessionRecord) -> None:
    start = store.save_generation(draft(session.id))
    branch = make_session(store, "beta", llm="openai:gpt", parent_generation_id=start.id)
    assert (branch.llm, branch.parent_generation_id, branch.parent) == ("openai:gpt", start.id, "alpha:0")
    assert (session.llm, session.parent_generation_id, session.parent) == (None, None, None)
    assert store.session("beta") == branch


def test_a_branch_of_nothing_is_refused(store: AntibodyStore) -> None:
    with pytest.raises(SetupError, match="no generation with the id 'nothing' to branch from"):
        make_session(store, parent_generation_id="nothing")
    assert store.sessions() == ()


def test_an_antibody_may_come_from_another_of_any_session(store: AntibodyStore, session: SessionRecord) -> None:
    first = draft(session.id)
    store.save_generation(first)
    parent = first.antibodies[0]
    other = make_session(store, "beta")
    copied = antibody("robot dog 0", parent_id=parent.id, relation="copied", origin="alpha:0")
    edited = antibody("steel robot dog", parent_id=copied.id, relation="edited", origin="openai:gpt")
    store.save_generation(draft(other.id, antibodies=(copied, edited), effects=(), verdicts=(), bank=(edited.id,)))
    found = store.antibodies(other.id)
    assert [(one.parent_id, one.relation, one.origin) for one in found] == [
        (parent.id, "copied", "alpha:0"),
        (copied.id, "edited", "openai:gpt"),
    ]
    (plain, _) = store.antibodies(session.id)
    assert (plain.parent_id, plain.relation, plain.origin) == (None, None, "")


@pytest.mark.parametrize(
    ("descent", "says"),
    [
        ({"parent_id": "nothing", "relation": "edited"}, "names 'nothing', which is not a stored antibody"),
        ({"parent_id": "nothing"}, "a parent and a relation to it, or neither"),
        ({"relation": "copied"}, "a parent and a relation to it, or neither"),
        ({"id": "itself", "parent_id": "itself", "relation": "edited"}, "a parent and a relation to it, or neither"),
    ],
    ids=["unknown", "no relation", "no parent", "itself"],
)
def test_a_descent_that_cannot_be_is_refused(
    store: AntibodyStore, session: SessionRecord, descent: dict[str, Any], says: str
) -> None:
    with pytest.raises(SetupError, match=says):
        store.save_generation(
            draft(session.id, antibodies=(antibody("x", **descent),), effects=(), verdicts=(), bank=())
        )
    assert store.generations() == ()


def test_a_changed_prompt_says_why(store: AntibodyStore, session: SessionRecord) -> None:
    store.save_generation(draft(session.id))
    changed = {
        "prompt_version": 1,
        "prompt_parent": 0,
        "prompts": {"propose": "Be bold."},
        "prompt_reason": "too timid",
    }
    store.save_generation(draft(session.id, 1, **changed))
    assert [(one.version, one.reason) for one in store.prompts()] == [(0, ""), (1, "too timid")]


def test_a_reply_is_found_again_from_any_session(store: AntibodyStore, session: SessionRecord) -> None:
    """Not one that was itself taken from an earlier call."""
    assert find_replies(store, [KEY]) == {}
    other = make_session(store, "beta")
    record_calls(store, other.id, [call(reply="taken over", request_digest=KEY, reused=True)])
    assert find_replies(store, [KEY]) == {}
    record_calls(store, session.id, [call(reply="paid", request_digest=KEY, parameters={"temperature": 0.5})])
    record_calls(store, other.id, [call(1, reply="later", request_digest=KEY)])
    assert find_replies(store, [KEY, "j" * 64]) == {KEY: StoredReply("paid", None, None)}
    paid = store.llm_calls(session.id)[-1]
    assert (paid.cache_key, paid.parameters, paid.reused) == (KEY, {"temperature": 0.5}, False)


def test_a_generation_sums_up_its_calls_but_not_what_was_reused(store: AntibodyStore, session: SessionRecord) -> None:
    costs: dict[str, Any] = {"prompt_tokens": 10, "completion_tokens": 4, "cost_usd": 0.25, "seconds": 1.5}
    paid = [call(generation, subject, **costs) for generation, subject in ((0, "dog"), (0, "cat"), (1, "dog"))]
    reused = call(subject="ox", reused=True, **costs)
    uncounted = call(step="reflect", subject="")  # of a model that does not count
    record_calls(store, session.id, [*paid, reused, uncounted])
    assert [(one.cost_usd, one.seconds) for one in store.llm_calls()].count((0.25, 1.5)) == 4
    saved = store.save_generation(draft(session.id))
    assert (saved.calls, saved.prompt_tokens, saved.completion_tokens, saved.cost_usd) == (4, 20, 8, 0.5)


@pytest.mark.parametrize("number", [{"cost_usd": math.nan}, {"seconds": math.inf}], ids=str)
def test_a_cost_is_a_number_or_unknown(store: AntibodyStore, session: SessionRecord, number: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match=r"of a call cannot be (nan|inf); use None where it is unknown"):
        record_calls(store, session.id, [call(**number)])
    assert store.llm_calls() == ()


def test_the_lineage_goes_on_across_sessions(store: AntibodyStore, session: SessionRecord) -> None:
    first = draft(session.id)
    start = store.save_generation(first)
    store.save_generation(draft(session.id, 1))
    parent = first.antibodies[0]
    branch = make_session(store, "beta", parent_generation_id=start.id)
    copied = antibody(parent.text, guards="wolf", parent_id=parent.id, relation="copied")
    edited = antibody("steel dog", parent_id=copied.id, relation="edited")
    store.save_generation(draft(branch.id, antibodies=(copied, edited), effects=(), verdicts=(), bank=()))

    def steps(name: str, what: str = "generation") -> list[tuple[int, str, int, str]]:
        return [(one.distance, one.session, one.number, one.text) for one in lineage(store, name) if one.what == what]

    assert [step[:3] for step in steps("beta:0")] == [(-1, "alpha", 0), (0, "beta", 0)]
    assert [step[:3] for step in steps("alpha:0")] == [(0, "alpha", 0), (1, "alpha", 1), (1, "beta", 0)]
    assert steps(edited.id, "antibody") == [
        (-2, "alpha", 0, "robot dog 0"),
        (-1, "beta", 0, "robot dog 0"),
        (0, "beta", 0, "steel dog"),
    ]
    assert steps(parent.id, "antibody") == [
        (0, "alpha", 0, "robot dog 0"),
        (1, "beta", 0, "copied: robot dog 0"),
        (2, "beta", 0, "edited: steel dog"),
    ]


def test_a_branch_goes_to_another_database_without_what_it_came_from(
    store: AntibodyStore, session: SessionRecord, tmp_path: Path
) -> None:
    first = draft(session.id)
    start = store.save_generation(first)
    branch = make_session(store, "beta", parent_generation_id=start.id)
    copied = antibody("robot", parent_id=first.antibodies[0].id, relation="copied")
    store.save_generation(draft(branch.id, antibodies=(copied,), effects=(), verdicts=(), bank=(copied.id,)))
    export_session(store, "beta", tmp_path / "beta.db")
    with open_store(str(tmp_path / "away.db")) as away, open_export(tmp_path / "beta.db") as export:
        import_session(away, export)
        assert (away.session("beta").parent_generation_id, away.session("beta").parent) == (start.id, None)
        assert away.antibodies()[0].parent_id == first.antibodies[0].id
        assert [one.distance for one in lineage(away, "beta:0")] == [0]
        assert [one.distance for one in lineage(away, "robot")] == [-1, 0, 1]
        merge(away, store)
        assert away.session("beta").parent == "alpha:0"
        assert lineage(away, "robot") == lineage(store, "robot")

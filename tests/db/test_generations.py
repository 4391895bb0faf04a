"""A generation is written whole, once, and read back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, text

from db.calls import record_calls
from db.records import EffectDraft, GenerationDraft, SessionRecord
from db.schema.engine import reading, writing
from db.schema.models import Dataset
from db.store import AntibodyStore
from db.writing import insert_new, new_id
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.records import EncoderInfo, Verdict

from .build import ENCODER, FINISHED, STARTED, antibody, call, draft, effect, make_session, vector

TABLES = ("prompts", "generations", "antibodies", "embeddings", "effects", "verdicts", "bank_members")


def counts(store: AntibodyStore) -> dict[str, int]:
    with reading(store.engine) as transaction:
        return {name: transaction.scalar(text(f"SELECT count(*) FROM {name}")) or 0 for name in TABLES}  # noqa: S608


def test_a_generation_comes_back_as_it_was_saved(store: AntibodyStore, session: SessionRecord) -> None:
    given = draft(
        session.id,
        metrics={"fpr95": {"near": 0.5}},
        guideline="Name materials.",
        random_state={"torch": 7},
        git_sha="abc",
        versions={"numpy": "2"},
    )
    saved = store.save_generation(given)
    assert asdict(saved) == {
        "id": saved.id,
        "session_id": session.id,
        "session": "alpha",
        "number": 0,
        "parent": None,
        "prompt_version": 0,
        "accepted": True,
        "reason": "mean FPR95 fell",
        "guideline": "Name materials.",
        "metrics": {"fpr95": {"near": 0.5}},
        "random_state": {"torch": 7},
        "git_sha": "abc",
        "versions": {"numpy": "2"},
        "started_at": STARTED,
        "finished_at": FINISHED,
        "proposed": 2,
        "kept": 1,
        "bank": 1,
        "calls": 0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "cost_usd": 0.0,
    }
    assert store.generations(session.id) == (saved,) == store.generations()
    kept, turned_down = store.antibodies(session.id)
    assert (kept.id, kept.text, kept.status, kept.reason, kept.cosine) == (
        given.antibodies[0].id,
        "robot dog 0",
        "accepted",
        "",
        0.5,
    )
    assert (turned_down.status, turned_down.reason, turned_down.cosine) == ("rejected", "names the class", None)
    assert [(a.session, a.generation, a.position) for a in (kept, turned_down)] == [("alpha", 0, 0), ("alpha", 0, 1)]
    bank, solo = store.effects(session.id)
    assert (bank.antibody_id, bank.antibody_text, bank.guards) == (None, None, None)
    assert (solo.antibody_id, solo.antibody_text, solo.guards) == (kept.id, "robot dog 0", "dog")
    assert {name: getattr(solo, name) for name in asdict(effect())} == asdict(effect("solo"))
    assert store.verdicts(saved.id) == given.verdicts
    (prompt,) = store.prompts(session.id)
    assert (prompt.version, prompt.step, prompt.text) == (0, "propose", "Name what looks like a {class}.")


def test_saving_a_number_again_writes_nothing_and_returns_the_first(
    store: AntibodyStore, session: SessionRecord
) -> None:
    first = store.save_generation(draft(session.id))
    before = counts(store)
    assert store.save_generation(draft(session.id, accepted=False, reason="another run of it")) == first
    assert counts(store) == before == dict(zip(TABLES, (1, 1, 2, 1, 2, 1, 1), strict=True))


def _broken(session_id: str) -> dict[str, tuple[GenerationDraft, str]]:
    """Drafts that fail at ever later tables, and what is said of them."""
    whole = draft(session_id, 1)
    bare = replace(whole, effects=(), verdicts=(), bank=())
    kept, unembedded = whole.antibodies

    def proposing(**changes: Any) -> GenerationDraft:
        return draft(session_id, 1, antibodies=(antibody("x", **changes),), effects=(), verdicts=(), bank=())

    return {
        "metrics": (replace(whole, metrics={"when": STARTED}), "metrics.when: datetime cannot be stored as JSON"),
        "keys of metrics": (replace(whole, metrics={"near": {3: 0.5}}), "metrics.near: the key 3 is not text"),
        "prompt": (replace(whole, prompts={"propose": "Changed."}), "a changed prompt needs a new version"),
        "no prompt": (replace(whole, prompt_version=5, prompts={}), "version 5, whose text is not stored"),
        "prompt's parent": (replace(whole, prompt_version=5, prompt_parent=4), "version 4, is not stored"),
        "parent": (replace(whole, parent=7), "generation 7, is not stored"),
        "kind": (proposing(kind="ugly"), "ck_antibodies_kind"),
        "same id": (replace(bare, antibodies=(kept, replace(unembedded, id=kept.id))), "(?i)unique .*antibodies"),
        "cosine": (proposing(cosine=float("nan")), "the cosine of the antibody 'x' is nan"),
        "shape": (proposing(embedding=np.zeros(3, np.float32)), r"'x' has shape \(3,\), but .* gives \(4,\)"),
        "NaN": (proposing(embedding=np.full(4, np.nan, np.float32)), "'x' is not made of finite"),
        "no id": (proposing(id="", seed=None), "the antibody 'x' has no id"),
        "vector of nobody": (
            replace(bare, vectors={"nobody": vector(0)}),
            "an embedding names 'nobody', which is not one",
        ),
        "integers": (proposing(embedding=np.ones(4, np.int64)), r"floating-point numbers \(int64\)"),
        "effect": (replace(whole, effects=(EffectDraft(effect("solo"), "nobody"),)), "an effect names 'nobody'"),
        "effect of nothing": (
            replace(whole, effects=(EffectDraft(effect("solo")),)),
            "ck_effects_bank_has_no_antibody",
        ),
        "same effect": (replace(whole, effects=(EffectDraft(effect()),) * 2), "(?i)unique .*effects"),
        "verdict": (
            replace(whole, verdicts=(Verdict("s", "i", 0.5, True, "dog", "nobody"),)),
            "a verdict names 'nobody', which is not an antibody of this session",
        ),
        "same verdict": (replace(whole, verdicts=whole.verdicts * 2), "two verdicts on the sample"),
        "bank": (replace(whole, bank=(kept.id, "nobody")), "its bank names 'nobody'"),
        "bank without vector": (replace(whole, bank=(unembedded.id,)), "which is not an antibody with an embedding"),
        "same member": (replace(whole, bank=whole.bank * 2), "(?i)unique .*bank_members"),
    }


@pytest.mark.parametrize("what", _broken(""))
def test_a_draft_that_fails_leaves_nothing(store: AntibodyStore, session: SessionRecord, what: str) -> None:
    store.save_generation(draft(session.id))
    before = counts(store)
    broken, message = _broken(session.id)[what]
    with pytest.raises(ImmunoError, match=message):
        store.save_generation(broken)
    assert counts(store) == before
    store.save_generation(draft(session.id, 1))
    assert store.session("alpha").generations == 2


@pytest.mark.parametrize("what", ["effect", "verdict", "bank"])
def test_a_generation_names_no_antibody_of_another_session(
    store: AntibodyStore, session: SessionRecord, what: str
) -> None:
    theirs = antibody("husky")
    store.save_generation(
        draft(make_session(store, "beta").id, antibodies=(theirs,), effects=(), verdicts=(), bank=(theirs.id,))
    )
    names = {
        "effect": {"effects": (EffectDraft(effect("solo"), theirs.id),)},
        "verdict": {"verdicts": (Verdict("s", "i", 0.5, True, "dog", theirs.id),)},
        "bank": {"bank": (theirs.id,)},
    }
    with pytest.raises(SetupError, match=rf"{what} names '{theirs.id}', which is not an antibody"):
        store.save_generation(draft(session.id, **names[what]))
    assert store.generations(session.id) == ()


def test_a_time_without_a_zone_is_refused(store: AntibodyStore, session: SessionRecord) -> None:
    with pytest.raises(SetupError, match="2026-05-01T12:00:00 has no time zone"):
        store.save_generation(draft(session.id, started_at=STARTED.replace(tzinfo=None)))


def test_a_generation_of_no_session_is_refused(store: AntibodyStore) -> None:
    with pytest.raises(SetupError, match="no session with the id 'nobody'"):
        store.save_generation(draft("nobody"))


def test_the_best_generation(store: AntibodyStore, session: SessionRecord) -> None:
    assert store.best_generation(session.id) is None
    saved = [store.save_generation(draft(session.id, n, accepted=n != 2)) for n in range(3)]
    assert store.best_generation(session.id) == saved[1]
    assert [generation.parent for generation in saved] == [None, 0, 1]


def test_of_a_repeated_text_the_accepted_one_is_kept(store: AntibodyStore, session: SessionRecord) -> None:
    doubles = (
        antibody("fox", status="rejected", reason="first"),
        antibody("fox", guards="wolf"),
        antibody("cat", status="rejected", reason="first"),
        antibody("fox", kind="contextual"),
        antibody("cat", status="rejected", reason="second"),
    )
    store.save_generation(draft(session.id, antibodies=doubles, effects=(), verdicts=(), bank=(doubles[3].id,)))
    stored = store.antibodies(session.id)
    assert [(a.text, a.guards, a.id, a.reason) for a in stored] == [
        ("fox", "dog", doubles[3].id, ""),
        ("fox", "wolf", doubles[1].id, ""),
        ("cat", "dog", doubles[2].id, "first"),
    ]


def test_antibodies_and_effects_are_found_by_what_they_are(store: AntibodyStore, session: SessionRecord) -> None:
    wolf = antibody("husky", guards="wolf", kind="contextual")
    effects = (
        EffectDraft(effect("solo", "near"), wolf.id),
        EffectDraft(effect("leave_one_out", "far"), wolf.id),
        EffectDraft(effect("bank", "far")),
    )
    store.save_generation(draft(session.id, 0))
    store.save_generation(draft(session.id, 1, antibodies=(wolf,), effects=effects, verdicts=(), bank=()))
    other = make_session(store, "beta")
    store.save_generation(draft(other.id, 0))

    def texts(*arguments: Any, **options: Any) -> list[str]:
        return [found.text for found in store.antibodies(*arguments, **options)]

    assert texts() == ["robot dog 0", "dog 0", "husky", "robot dog 0", "dog 0"]
    assert texts(session.id, generation=0) == ["robot dog 0", "dog 0"]
    assert texts(session.id, status="rejected") == ["dog 0"]
    assert texts(guards="wolf") == texts(kind="contextual") == ["husky"]
    assert texts(session.id, limit=2) == ["robot dog 0", "dog 0"]

    def scopes(*arguments: Any, **options: Any) -> list[str]:
        return [found.scope for found in store.effects(*arguments, **options)]

    assert scopes(session.id) == ["bank", "solo", "solo", "leave_one_out", "bank"]
    assert scopes(session.id, generation=1) == ["solo", "leave_one_out", "bank"]
    assert scopes(session.id, outlier_set="far") == ["leave_one_out", "bank"]
    assert scopes(session.id, scope="bank", limit=1) == ["bank"]
    assert scopes(guards="wolf") == ["solo", "leave_one_out"]


def test_prompts_know_their_parents(store: AntibodyStore, session: SessionRecord) -> None:
    store.save_generation(draft(session.id, 0, prompts={"propose": "A"}))
    revised = {"propose": "B", "reflect": "C"}
    store.save_generation(draft(session.id, 1, prompt_version=1, prompt_parent=0, prompts=revised))
    store.save_generation(draft(session.id, 2, prompt_version=1, prompts={}))
    assert [(p.version, p.step, p.text, p.parent_version) for p in store.prompts(session.id)] == [
        (0, "propose", "A", None),
        (1, "propose", "B", 0),
        (1, "reflect", "C", None),
    ]


# The bank in force


def test_a_bank_is_in_the_order_of_creation_with_exact_vectors(store: AntibodyStore, session: SessionRecord) -> None:
    first = draft(session.id, 0, antibodies=(antibody("b", seed=1), antibody("a", seed=2)), effects=(), verdicts=())
    first = replace(first, bank=tuple(reversed([one.id for one in first.antibodies])))
    store.save_generation(first)
    newcomer = antibody("0", seed=3)
    saved = store.save_generation(
        draft(session.id, 1, antibodies=(newcomer,), effects=(), verdicts=(), bank=(newcomer.id, *first.bank))
    )
    bank = store.bank(saved.id)
    assert [found.text for found in bank.antibodies] == ["b", "a", "0"]
    assert bank.vectors.dtype == np.float32
    assert bank.vectors.flags.writeable
    np.testing.assert_array_equal(bank.vectors, np.stack([vector(1), vector(2), vector(3)]))
    assert len(bank) == 3


def test_an_empty_bank_keeps_its_dimension(store: AntibodyStore, session: SessionRecord) -> None:
    bank = store.bank(store.save_generation(draft(session.id, bank=())).id)
    assert bank.antibodies == ()
    assert bank.vectors.shape == (0, 4)
    with pytest.raises(SetupError, match="no generation with the id 'nowhere'"):
        store.bank("nowhere")


def test_vectors_are_little_endian_float32_bytes(store: AntibodyStore, session: SessionRecord) -> None:
    big_endian = vector(5).astype(">f8")
    one = antibody("x", embedding=big_endian)
    store.save_generation(draft(session.id, antibodies=(one,), effects=(), verdicts=(), bank=(one.id,)))
    with reading(store.engine) as transaction:
        raw, dim, dtype = transaction.execute(text("SELECT vector, dim, dtype FROM embeddings")).one()
    assert (raw, dim, dtype) == (vector(5).astype("<f4").tobytes(), 4, "<f4")


def test_a_session_has_one_encoder_and_an_encoder_one_dimension(store: AntibodyStore) -> None:
    wide = EncoderInfo(**(asdict(ENCODER) | {"dim": 512, "weights_digest": "v" * 64}))
    session = make_session(store, "wide", encoder=wide)
    with pytest.raises(SetupError, match=r"'robot dog 0' has shape \(4,\), but the session's encoder gives \(512,\)"):
        store.save_generation(draft(session.id))


def test_verdicts_come_by_set_and_sample(store: AntibodyStore, session: SessionRecord) -> None:
    judged = [("near", "b"), ("far", "z"), ("near", "a")]
    verdicts = tuple(Verdict(name, sample, 0.5, True, "dog", None) for name, sample in judged)
    saved = store.save_generation(draft(session.id, verdicts=verdicts))
    assert [(one.set_name, one.sample_id) for one in store.verdicts(saved.id)] == sorted(judged)


def test_a_generation_counts_its_own_calls_and_what_they_cost(store: AntibodyStore, session: SessionRecord) -> None:
    record_calls(store, session.id, [call(0, prompt_tokens=3, completion_tokens=1, cost_usd=0.5)])
    record_calls(store, session.id, [call(1, prompt_tokens=5, completion_tokens=2, cost_usd=0.25)])
    record_calls(store, session.id, [call(1, "cat", prompt_tokens=7, completion_tokens=7, cost_usd=4.0, reused=True)])
    for number in (0, 1):
        store.save_generation(draft(session.id, number))
    counted = [(one.calls, one.prompt_tokens, one.completion_tokens, one.cost_usd) for one in store.generations()]
    assert counted == [(1, 3, 1, 0.5), (2, 5, 2, 0.25)]


def test_rows_that_others_may_insert_too_are_inserted_in_one_order(store: AntibodyStore) -> None:
    """Else two processes on PostgreSQL could each wait for a row of the other."""
    inserted: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("INSERT INTO datasets"):
            inserted.extend(text for row in [parameters] for text in map(str, _flat(row)) if text.startswith("set "))

    event.listen(store.engine, "before_cursor_execute", note)
    common = {"digest": "d", "split": "feedback", "role": "outlier", "count": 1, "created_at": STARTED}
    rows = [common | {"id": new_id(), "name": f"set {name}"} for name in "cab"]
    with writing(store.engine) as transaction:
        insert_new(transaction, Dataset, rows)
    assert inserted == ["set a", "set b", "set c"]


def _flat(parameters: Any) -> Iterator[Any]:
    if isinstance(parameters, dict):
        yield from _flat(list(parameters.values()))
    elif isinstance(parameters, list | tuple):
        for one in parameters:
            yield from _flat(one)
    else:
        yield parameters


def test_verdicts_come_by_set_and_sample_as_python_sorts_them(store: AntibodyStore, session: SessionRecord) -> None:
    """Databases sort text each by their own rules, or not at all."""
    pairs = [("near", "b"), ("near", "B"), ("near", "a"), ("Far", "x"), ("far", "x")]
    judged = tuple(Verdict(name, sample, 0.5, True, "dog", None) for name, sample in pairs)
    one = store.save_generation(draft(session.id, verdicts=judged))
    assert [(found.set_name, found.sample_id) for found in store.verdicts(one.id)] == sorted(pairs)

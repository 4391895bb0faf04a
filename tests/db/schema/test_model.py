"""Random sequences of operations: SQLite, PostgreSQL and a plain model in memory give the same answers."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from db.calls import find_calls, record_calls
from db.questions.diff import diff
from db.questions.judging import judgements
from db.questions.nearest import nearest_to_vector
from db.questions.ranking import top
from db.questions.stats import stats
from db.records import EffectDraft
from db.store import AntibodyStore, open_store
from db.writing import new_id
from immuno_core.errors import SetupError
from immuno_core.records import Antibody, Verdict
from tests.db.build import ENCODER, antibody, call, draft, effect, embeddings, make_session, vector
from tests.db.postgres import Server

EXAMPLES = int(os.environ.get("IMMUNO_TEST_EXAMPLES", "4"))
TEXTS = ("robot dog", "wolf on the moon", "\x00", "\ud800", "\u05d0\u202e", "\U0001f98a", "")
CLASSES = ("dog", "wolf")
SETS = ("near", "far")
SHARES = st.sampled_from([0.0, 0.25, 0.5, float("nan"), float("inf")])


@dataclass
class Generation:
    """What the model knows of one."""

    number: int
    parent: int | None
    accepted: bool
    antibodies: list[Antibody]
    bank: dict[str, np.ndarray[Any, np.dtype[np.float32]]]
    effects: list[EffectDraft]
    verdicts: list[Verdict]


@dataclass
class Session:
    status: str = "running"
    generations: list[Generation] = field(default_factory=list)
    calls: dict[tuple[int, str, str], str] = field(default_factory=dict)

    def antibodies(self) -> list[tuple[int, Antibody]]:
        return [(one.number, each) for one in self.generations for each in one.antibodies]


class Machine(RuleBasedStateMachine):
    """Every rule does one thing to both stores and to the model; every invariant asks all three."""

    def __init__(self, template: Path, folder: Path, server: Server) -> None:
        super().__init__()
        self._open = ExitStack()
        path = folder / f"{new_id()}.db"
        shutil.copy(template, path)
        urls = (str(path), self._open.enter_context(server.shared_database()))
        self.stores = tuple(self._open.enter_context(open_store(url)) for url in urls)
        self.model: dict[str, Session] = {}

    def teardown(self) -> None:
        self._open.close()

    def _id(self, store: AntibodyStore, name: str) -> str:
        return store.session(name).id

    @rule(name=st.sampled_from(["alpha", "beta", "\U0001f98a"]))
    def create_session(self, name: str) -> None:
        for store in self.stores:
            if name in self.model:
                with pytest.raises(SetupError, match="exists in"):
                    make_session(store, name)
            else:
                make_session(store, name)
        self.model.setdefault(name, Session())

    @precondition(lambda self: self.model)
    @rule(data=st.data(), status=st.sampled_from(["paused", "finished", "running"]))
    def set_status(self, data: st.DataObject, status: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        for store in self.stores:
            store.set_session_status(self._id(store, name), status)
        self.model[name].status = status

    @precondition(lambda self: self.model)
    @rule(data=st.data(), key=st.tuples(st.integers(0, 2), st.sampled_from(["propose", "reflect"])), reply=st.text())
    def record_call(self, data: st.DataObject, key: tuple[int, str], reply: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        whole = (*key, "dog")
        first = self.model[name].calls.setdefault(whole, reply)
        own = call(key[0], step=key[1], reply=reply)
        for store in self.stores:
            session_id = self._id(store, name)
            record_calls(store, session_id, [own])
            (found,) = find_calls(store, session_id, *key, [own.subject]).values()
            assert found.reply_text == first

    @precondition(lambda self: self.model)
    @rule(data=st.data(), again=st.booleans())
    def save_generation(self, data: st.DataObject, again: bool) -> None:
        """The next one; or one whose number is taken, of which nothing is stored."""
        name = data.draw(st.sampled_from(sorted(self.model)))
        known = self.model[name]
        new = self._drawn(data, known)
        if again and known.generations:
            stored = data.draw(st.sampled_from(known.generations))
            new.number = stored.number
        for store in self.stores:
            changed = {
                "parent": new.parent,
                "accepted": new.accepted,
                "antibodies": tuple(new.antibodies),
                "effects": tuple(new.effects),
                "verdicts": tuple(new.verdicts),
                "bank": tuple(new.bank),
            }
            saved = store.save_generation(draft(self._id(store, name), new.number, **changed))
            assert saved.number == new.number
        if all(one.number != new.number for one in known.generations):
            known.generations.append(new)

    def _drawn(self, data: st.DataObject, known: Session) -> Generation:
        number = len(known.generations)
        antibodies: dict[tuple[str, str], Antibody] = {}
        for text, guards, seed, status in data.draw(
            st.lists(
                st.tuples(
                    st.sampled_from(TEXTS),
                    st.sampled_from(CLASSES),
                    st.integers(0, 50) | st.none(),
                    st.sampled_from(["accepted", "rejected"]),
                ),
                max_size=4,
            )
        ):
            kept: Any = "rejected" if seed is None else status
            one = antibody(text, seed=seed, guards=guards, status=kept)
            antibodies.setdefault((text, guards), one)
        own = list(antibodies.values())
        parent = data.draw(st.none() | st.sampled_from([one.number for one in known.generations])) if number else None
        new = Generation(number, parent, data.draw(st.booleans()), own, {}, [], [])
        embedded = [each for _, each in known.antibodies() if each.id in embeddings]
        embedded += [each for each in own if each.id in embeddings]
        for one in (
            data.draw(st.lists(st.sampled_from(embedded), unique_by=lambda a: a.id, max_size=4)) if embedded else ()
        ):
            new.bank[one.id] = embeddings[one.id]
        for one in own:
            for name in data.draw(st.sets(st.sampled_from(SETS))):
                measured = effect("solo", name, gain=data.draw(SHARES), harm=data.draw(SHARES))
                new.effects.append(EffectDraft(measured, one.id))
        for name in data.draw(st.sets(st.sampled_from(SETS))):
            nearest = data.draw(st.none() | st.sampled_from(own)) if own else None
            accepted = data.draw(st.booleans())
            verdict = Verdict(
                name, "1.png", data.draw(SHARES), accepted, "dog", None if nearest is None else nearest.id
            )
            new.verdicts.append(verdict)
        return new

    # Answers

    @invariant()
    def sessions_and_generations(self) -> None:
        for store in self.stores:
            found = store.sessions()
            assert [one.name for one in found] == list(self.model)
            for one in found:
                known = self.model[one.name]
                assert (one.status, one.generations) == (known.status, len(known.generations))
                assert one.best == max((g.number for g in known.generations if g.accepted), default=None)
                generations = [
                    (g.number, g.parent, g.accepted, g.proposed, g.kept, g.bank) for g in store.generations(one.id)
                ]
                assert generations == [
                    (
                        *(g.number, g.parent, g.accepted, len(g.antibodies)),
                        sum(each.status == "accepted" for each in g.antibodies),
                        len(g.bank),
                    )
                    for g in known.generations
                ]
                calls = {(c.generation, c.step, c.subject): c.reply_text for c in store.llm_calls(one.id)}
                assert calls == known.calls

    @invariant()
    def antibodies_and_banks(self) -> None:
        everything = [each for one in self.model.values() for _, each in one.antibodies()]
        for store in self.stores:
            assert [(a.id, a.text, a.guards, a.status) for a in store.antibodies()] == [
                (a.id, a.text, a.guards, a.status) for a in everything
            ]
            wolves = [a.id for a in everything if a.guards == "wolf" and a.status == "accepted"]
            assert [a.id for a in store.antibodies(guards="wolf", status="accepted")] == wolves
            for name, known in self.model.items():
                for stored, one in zip(store.generations(self._id(store, name)), known.generations, strict=True):
                    bank = store.bank(stored.id)
                    found = {a.id: v for a, v in zip(bank.antibodies, bank.vectors, strict=True)}
                    assert found.keys() == one.bank.keys()
                    assert all(np.array_equal(found[key], one.bank[key]) for key in found)
                    verdicts = sorted(one.verdicts, key=lambda v: (v.set_name, v.sample_id))
                    assert repr(store.verdicts(stored.id)) == repr(tuple(verdicts))

    @invariant()
    def questions(self) -> None:
        gains: dict[str, list[float]] = defaultdict(list)
        generations = [(name, g) for name, known in self.model.items() for g in known.generations]
        for _, one in generations:
            for each in one.effects:
                if not np.isnan(each.effect.gain):
                    gains[str(each.antibody_id)].append(each.effect.gain)
        judged = [(name, g.number, v.set_name, v.accepted) for name, g in generations for v in _sorted(g.verdicts)]
        embedded = {
            a.id: embeddings[a.id] for known in self.model.values() for _, a in known.antibodies() if a.id in embeddings
        }
        cosines = {key: float(one.astype(float) @ vector(7).astype(float)) for key, one in embedded.items()}
        expected = sorted(cosines, key=lambda key: (-round(cosines[key] / _length(embedded[key]), 6), key))[:5]
        for store in self.stores:
            ranked = {one.id: (one.gain, one.measured) for one in top(store, limit=None)}
            assert ranked == {key: (pytest.approx(np.mean(some)), len(some)) for key, some in gains.items()}
            if judged:
                assert [(j.session, j.generation, j.set_name, j.accepted) for j in judgements(store, "1.png")] == judged
            counted = {one.name: one.number for one in stats(store)}
            assert counted["antibodies"] == sum(len(known.antibodies()) for known in self.model.values())
            assert counted["verdicts"] == len(judged)
            if self.model:
                found = nearest_to_vector(store, vector(7), ENCODER.digest, limit=5)
                assert [one.id for one in found] == expected
            for name, known in self.model.items():
                if len(known.generations) > 1:
                    before, after = (self._texts(known, one) for one in (known.generations[0], known.generations[-1]))
                    change = diff(store, f"{name}:0", f"{name}:{known.generations[-1].number}")
                    assert {(a.text, a.guards) for a in change.added} == after - before
                    assert {(a.text, a.guards) for a in change.removed} == before - after

    def _texts(self, known: Session, one: Generation) -> set[tuple[str, str]]:
        return {(a.text, a.guards) for _, a in known.antibodies() if a.id in one.bank}


def _sorted(verdicts: list[Verdict]) -> list[Verdict]:
    return sorted(verdicts, key=lambda verdict: (verdict.set_name, verdict.sample_id))


def _length(one: Any) -> float:
    return float(np.linalg.norm(one.astype(float)) * np.linalg.norm(vector(7).astype(float)))


@pytest.mark.postgresql
def test_both_engines_and_a_model_in_memory_agree(new_database: Path, tmp_path: Path, postgres: Server) -> None:
    run_state_machine_as_test(
        lambda: Machine(new_database, tmp_path, postgres),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=8,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )

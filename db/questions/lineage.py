"""Where a generation, a prompt or an antibody comes from, up to the root, and what came of it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session as Transaction

from db import queries
from db.questions.naming import antibodies_named, generation_named, similar_texts
from db.records import AntibodyRecord, GenerationRecord
from db.schema import models as m
from db.schema.engine import reading
from db.store import AntibodyStore
from db.writing import is_id
from immuno_core.errors import SetupError

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Relative:
    """One step of a lineage."""

    distance: int
    """Steps from what was asked for: below 0 its parents, 0 itself, above 0 its children."""
    what: Literal["generation", "prompt", "antibody"]
    id: str
    session: str
    number: int
    """Of a generation; of the version of a prompt; of the generation that proposed an antibody."""
    text: str
    """Of a prompt or an antibody; why a generation was accepted or not."""


def lineage(store: AntibodyStore, name: str) -> tuple[Relative, ...]:
    """Return the relatives of what is named, the root first. `name` is one of the following.

    SESSION:NUMBER or a generation's id: the generations it started from, and those that started from it, also in
    sessions that branched from it.
    A prompt's id: the versions of its step before and after it, and the generations that used it.
    An antibody's id, or exactly its text: the generation that proposed it with its parents; the antibodies that it was
    made from, and that were made from it; the generations in whose bank it was.

    Raises SetupError for what is not stored, and for a text that several antibodies have.
    """
    with reading(store.engine) as transaction:
        if is_id(name) and (generation := transaction.get(m.Generation, name)) is not None:
            return tuple(_of_generation(transaction, generation.id))
        if is_id(name) and (prompt := transaction.get(m.Prompt, name)) is not None:
            return tuple(_of_prompt(transaction, prompt))
        found = antibodies_named(transaction, name)
        if len(found) > 1:
            ids = ", ".join(f"{one.id} ({one.session}:{one.generation})" for one in found[:5])
            raise SetupError(f"{len(found)} antibodies have the text {name!r}; name one by its id: {ids}")
        if found:
            return tuple(_of_antibody(transaction, found[0]))
        hint = similar_texts(transaction, name)
    if ":" not in name and store.find_session(name) is None:
        raise SetupError(
            f"nothing in {store.url} is called {name!r}{hint}; give SESSION:NUMBER, an id as --json prints it,"
            " or the whole text of an antibody"
        )
    named = generation_named(store, name)
    with reading(store.engine) as transaction:
        return tuple(_of_generation(transaction, named.id))


def _family(own: Key, parents: Mapping[Key, Key | None]) -> Iterator[tuple[int, Key]]:
    """The ancestors of `own`, root first (distance below 0), itself (0), and its descendants, nearest first."""
    line = [own]
    while (parent := parents.get(line[-1])) is not None and parent not in line:
        line.append(parent)
    yield from ((-distance, key) for distance, key in reversed(list(enumerate(line))))
    distance, children = 1, [key for key, parent in parents.items() if parent == own]
    seen = set(line)
    while children:
        yield from ((distance, key) for key in children)
        seen.update(children)
        distance, children = distance + 1, [k for k, p in parents.items() if p in set(children) and k not in seen]


def _generation(distance: int, one: GenerationRecord) -> Relative:
    text = f"{'accepted' if one.accepted else 'not accepted'}, prompt {one.prompt_version}: {one.reason}"
    return Relative(distance, "generation", one.id, one.session, one.number, text)


def _of_generation(transaction: Transaction, own: str) -> Iterator[Relative]:
    # A generation without a parent in its session starts from the one that its session branched from, if it is here.
    rows = transaction.execute(
        select(
            m.Generation.id,
            m.Generation.session_id,
            func.coalesce(m.Generation.parent_id, m.Session.parent_generation_id),
        )
        .join(m.Session, m.Session.id == m.Generation.session_id)
        .order_by(m.Session.created_at, m.Session.id, m.Generation.number)
    ).all()
    session_of = {key: session for key, session, _ in rows}
    family = list(_family(own, {key: parent if parent in session_of else None for key, _, parent in rows}))
    sessions = dict.fromkeys(session_of[key] for _, key in family)
    records = {one.id: one for key in sessions for one in queries.generations(transaction, session_id=key)}
    yield from (_generation(distance, records[key]) for distance, key in family)


def _of_prompt(transaction: Transaction, own: m.Prompt) -> Iterator[Relative]:
    versions = {one.version: one for one in queries.prompts(transaction, own.session_id) if one.step == own.step}
    parents = {version: one.parent_version for version, one in versions.items()}
    for distance, version in _family(own.version, parents):
        one = versions[version]
        yield Relative(distance, "prompt", one.id, one.session, version, one.text)
    for generation in queries.generations(transaction, session_id=own.session_id):
        if generation.prompt_version == own.version:
            yield _generation(1, generation)


def _of_antibody(transaction: Transaction, own: AntibodyRecord) -> Iterator[Relative]:
    for step in _of_generation(transaction, own.generation_id):
        if step.distance <= 0:
            yield Relative(step.distance - 1, step.what, step.id, step.session, step.number, step.text)
    parents = _parents(transaction, own)
    for distance, one in enumerate(parents, start=-len(parents)):
        yield Relative(distance, "antibody", one.id, one.session, one.generation, one.described)
    yield Relative(0, "antibody", own.id, own.session, own.generation, own.described)
    yield from _children(transaction, own)
    in_bank = transaction.execute(
        select(m.BankMember.generation_id, m.Generation.number)
        .join(m.Generation, m.Generation.id == m.BankMember.generation_id)
        .where(m.BankMember.antibody_id == own.id)
        .order_by(m.Generation.number)
    )
    for key, number in in_bank:
        yield Relative(1, "generation", key, own.session, number, "in its bank")


def _parents(transaction: Transaction, own: AntibodyRecord) -> list[AntibodyRecord]:
    """The antibodies that it was made from, the first one first, as far as they are in this database."""
    line = [own]
    while line[-1].parent_id is not None:
        parent = queries.antibodies(transaction, queries.antibody_rows().where(m.Antibody.id == line[-1].parent_id))
        if not parent:
            break
        line += parent
    return line[:0:-1]


def _children(transaction: Transaction, own: AntibodyRecord) -> Iterator[Relative]:
    """What was made from it, nearest first, and how."""
    distance, keys = 1, [own.id]
    while keys:
        made = queries.antibodies(transaction, queries.antibody_rows().where(m.Antibody.parent_id.in_(keys)))
        for one in made:
            text = f"{one.relation}: {one.described}"
            yield Relative(distance, "antibody", one.id, one.session, one.generation, text)
        distance, keys = distance + 1, [one.id for one in made]

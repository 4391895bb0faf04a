"""What every generation's boundary said of one sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session as Transaction

from db import queries
from db.schema import models as m
from db.schema.engine import reading
from db.schema.packed import key_of, names_of, verdict_at
from db.store import AntibodyStore
from db.writing import batches
from immuno_core.errors import SetupError, did_you_mean
from immuno_core.records import Verdict, described

_MOST_SUGGESTED = 3


@dataclass(frozen=True, slots=True)
class Judgement:
    """A generation's verdict on a sample (immuno_core.records.Verdict), and whose it is."""

    session: str
    generation: int
    set_name: str
    sample_id: str
    accepted: bool
    score: float
    """Higher = more in-distribution."""
    nearest_class: str
    nearest_antibody_id: str | None
    nearest_antibody: str | None
    """The text of the antibody with the largest exceedance; None where none fires."""


def judgements(
    store: AntibodyStore, sample: str, session_id: str | None = None, *, set_name: str | None = None
) -> tuple[Judgement, ...]:
    """Return the verdicts on a sample by session, generation and set; None where one is no filter.

    `sample` is its id: the path relative to its set. Raises SetupError for a sample that no generation has judged.
    """
    key = key_of(sample)
    query = (
        select(m.SampleList, m.Verdicts, m.Session.name, m.Generation.number)
        .join(m.Verdicts, m.Verdicts.samples_digest == m.SampleList.digest)
        .join(m.Generation, m.Generation.id == m.Verdicts.generation_id)
        .join(m.Session, m.Session.id == m.Generation.session_id)
        .where(m.SampleList.first <= key, m.SampleList.last >= key)
        .order_by(m.Session.created_at, m.Session.id, m.Generation.number)
    )
    query = queries.narrowed(query, {m.Generation.session_id: session_id, m.SampleList.set_name: set_name})
    places: dict[str, int | None] = {}
    judged: list[tuple[str, int, Verdict]] = []
    with reading(store.engine) as transaction:
        for samples, verdicts, session, number in transaction.execute(query):
            if samples.digest not in places:
                names = names_of(samples.names)
                places[samples.digest] = names.index(sample) if sample in names else None
            if (place := places[samples.digest]) is not None:
                verdict = verdict_at(place, samples.set_name, sample, queries.columns(verdicts))
                judged.append((session, number, verdict))
        if not judged:
            names = _alike(transaction, sample)
            raise SetupError(
                f"no verdict on the sample {sample!r} here{did_you_mean(sample, names)}; a sample is named by its path"
                " in its set, and a generation judges the feedback sets"
            )
        texts = _texts(transaction, {one.nearest_antibody for _, _, one in judged} - {None})
    found = [
        Judgement(
            **{name: getattr(one, name) for name in ("set_name", "sample_id", "accepted", "score", "nearest_class")},
            session=session,
            generation=number,
            nearest_antibody_id=one.nearest_antibody,
            nearest_antibody=texts.get(one.nearest_antibody or ""),
        )
        for session, number, one in judged
    ]
    # Of one generation by set, sorted here: databases sort text each by its own rules.
    order = {key: place for place, key in enumerate(dict.fromkeys((one.session, one.generation) for one in found))}
    return tuple(sorted(found, key=lambda one: (order[one.session, one.generation], one.set_name)))


def rejections_of(store: AntibodyStore, generation_id: str, antibody_id: str) -> tuple[Verdict, ...]:
    """Return a generation's verdicts on the samples that it rejected and this antibody spoke loudest against."""
    said = store.verdicts(generation_id)
    return tuple(one for one in said if one.nearest_antibody == antibody_id and not one.accepted)


def _texts(transaction: Transaction, keys: Iterable[str | None]) -> dict[str, str]:
    """What antibodies say, or look like, by id."""
    query = select(m.Antibody.id, m.Antibody.text, m.Antibody.samples)
    return {
        key: described(text, samples)
        for some in batches(keys)
        for key, text, samples in transaction.execute(query.where(m.Antibody.id.in_(some)))
    }


def _alike(transaction: Transaction, sample: str) -> list[str]:
    """A few samples that are named like one."""
    found: list[str] = []
    for raw in transaction.scalars(select(m.SampleList.names), execution_options={"yield_per": 1}):
        found += [name for name in names_of(raw) if sample.casefold() in name.casefold()][:_MOST_SUGGESTED]
        if len(found) >= _MOST_SUGGESTED:
            break
    return found[:_MOST_SUGGESTED]

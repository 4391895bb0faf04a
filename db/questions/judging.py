"""What every generation's boundary said of one sample."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from db import queries
from db.schema import models as m
from db.schema.engine import reading
from db.store import AntibodyStore
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
    query = (
        select(m.Verdict, m.Session.name, m.Generation.number, m.Antibody.text, m.Antibody.samples)
        .join(m.Generation, m.Generation.id == m.Verdict.generation_id)
        .join(m.Session, m.Session.id == m.Generation.session_id)
        .outerjoin(m.Antibody, m.Antibody.id == m.Verdict.nearest_antibody_id)
        .where(m.Verdict.sample_id == sample)
        .order_by(m.Session.created_at, m.Session.id, m.Generation.number)
    )
    query = queries.narrowed(query, {m.Generation.session_id: session_id, m.Verdict.set_name: set_name})
    with reading(store.engine) as transaction:
        rows = transaction.execute(query).all()
        if not rows:
            like = select(m.Verdict.sample_id).where(m.Verdict.sample_id.icontains(sample, autoescape=True))
            names = transaction.scalars(like.distinct().limit(_MOST_SUGGESTED)).all()
            raise SetupError(
                f"no verdict on the sample {sample!r} here{did_you_mean(sample, names)}; a sample is named by its path"
                " in its set, and a generation judges the feedback sets"
            )
    found = [
        Judgement(
            **queries.columns(verdict, "generation_id"),
            session=session,
            generation=number,
            nearest_antibody=text if text is None else described(text, samples),
        )
        for verdict, session, number, text, samples in rows
    ]
    # Of one generation by set, sorted here: databases sort text each by its own rules.
    order = {key: place for place, key in enumerate(dict.fromkeys((one.session, one.generation) for one in found))}
    return tuple(sorted(found, key=lambda one: (order[one.session, one.generation], one.set_name)))


def rejections_of(store: AntibodyStore, generation_id: str, antibody_id: str) -> tuple[Verdict, ...]:
    """Return a generation's verdicts on the samples that it rejected and this antibody spoke loudest against."""
    said = store.verdicts(generation_id)
    return tuple(one for one in said if one.nearest_antibody == antibody_id and not one.accepted)

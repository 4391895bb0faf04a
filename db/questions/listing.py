"""Antibodies page by page, filtered, sorted and counted by the database: it reads what a page shows, however many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

from sqlalchemy import BigInteger, ColumnElement, Select, and_, cast, func, literal, or_, select
from sqlalchemy.orm import Session as Transaction

from db import queries
from db.records import AntibodyRecord, EffectRecord, SessionRecord
from db.schema import models as m
from db.schema.engine import reading
from db.store import AntibodyStore
from db.writing import is_id
from immuno_core.errors import SetupError
from immuno_core.records import AntibodyKind, AntibodyStatus

Sort = Literal["newest", "generation", "gain", "harm"]
"""The last made first; by generation from 0; the largest mean gain, or harm, first and what was not measured last."""
_EXACT: Final = 10**9
"""Means are put in order by their billionths: in the last digits two queries need not agree."""
_MOST_CLASSES: Final = 1000


class NotThereError(SetupError):
    """Nothing on record has the id that was asked for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which antibodies; None is no filter. `text` is a part of theirs, in upper or lower case."""

    session_id: str | None = None
    guards: str | None = None
    kind: AntibodyKind | None = None
    status: AntibodyStatus | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedAntibody(AntibodyRecord):
    """An antibody and the means of its effects alone (scope solo); None where it was not measured."""

    gain: float | None
    harm: float | None
    measured: int
    """How many effects the means are over."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some antibodies, and the key with which the next page begins; None on the last one."""

    rows: tuple[ListedAntibody, ...]
    after: str | None


def antibody_page(
    store: AntibodyStore, wanted: Wanted, *, sort: Sort = "newest", after: str | None = None, limit: int = 50
) -> Page:
    """Return the first `limit` antibodies behind the key `after`. Raises SetupError for a key or order that is none."""
    if sort not in get_args(Sort):
        raise SetupError(f"there is no order {sort!r}; antibodies are sorted by {', '.join(get_args(Sort))}")
    query = _narrowed(select(m.Antibody.id), wanted, joined=sort == "generation")
    place: ColumnElement[Any] = literal(0)
    if sort == "generation":
        place = m.Generation.number.expression
    elif sort in ("gain", "harm"):
        means = _means().subquery()
        place = -cast(func.round(func.coalesce(means.c[sort], -1) * _EXACT), BigInteger)
        query = query.outerjoin(means, means.c.antibody_id == m.Antibody.id)
    if after is not None:
        value, key = _key(after)
        behind = m.Antibody.id < key if sort == "newest" else m.Antibody.id > key
        query = query.where(behind if sort == "newest" else or_(place > value, and_(place == value, behind)))
    order = [m.Antibody.id.desc()] if sort == "newest" else [place, m.Antibody.id]
    with reading(store.engine) as transaction:
        found = transaction.execute(query.add_columns(place).order_by(*order).limit(limit + 1)).all()
        rows = _listed(transaction, [key for key, _ in found[:limit]])
    last = f"{found[limit - 1][1]}.{found[limit - 1][0]}" if len(found) > limit else None
    return Page(rows, last)


def _key(after: str) -> tuple[int, str]:
    value, dot, key = after.partition(".")
    if not dot or not is_id(key) or not value.removeprefix("-").isdecimal() or len(value) > 11:
        raise SetupError(f"{after[:60]!r} is no place in a list; begin it again")
    return int(value), key


def _means() -> Select[Any]:
    """Mean gain and harm by antibody, as `immuno db top` has them."""
    return (
        select(
            m.Effect.antibody_id,
            func.avg(m.Effect.gain).label("gain"),
            func.avg(m.Effect.harm).label("harm"),
            func.count().label("measured"),
        )
        .where(m.Effect.scope == "solo", m.Effect.gain.is_not(None))
        .group_by(m.Effect.antibody_id)
    )


def _narrowed(query: Select[Any], wanted: Wanted, *, joined: bool = False) -> Select[Any]:
    if joined or wanted.session_id is not None:
        query = query.join(m.Generation, m.Generation.id == m.Antibody.generation_id)
    if wanted.text:
        query = query.where(m.Antibody.text.icontains(wanted.text, autoescape=True))
    columns = {m.Antibody.guards: wanted.guards, m.Antibody.kind: wanted.kind, m.Antibody.status: wanted.status}
    return queries.narrowed(query, columns | {m.Generation.session_id: wanted.session_id})


def _listed(transaction: Transaction, ids: Sequence[str]) -> tuple[ListedAntibody, ...]:
    """The antibodies with these ids, in this order."""
    means = {row[0]: row[1:] for row in transaction.execute(_means().where(m.Effect.antibody_id.in_(ids)))}
    found = {
        one.id: one for one in queries.antibodies(transaction, queries.antibody_rows().where(m.Antibody.id.in_(ids)))
    }
    return tuple(
        ListedAntibody(**asdict(found[key]), gain=gain, harm=harm, measured=measured)
        for key in ids
        for gain, harm, measured in (means.get(key, (None, None, 0)),)
    )


def antibody_count(store: AntibodyStore, wanted: Wanted) -> int:
    """Return how many antibodies are wanted."""
    with reading(store.engine) as transaction:
        query = _narrowed(select(func.count()).select_from(m.Antibody), wanted)
        return int(transaction.scalar(query) or 0)


def classes_guarded(store: AntibodyStore, session_id: str | None = None) -> tuple[str, ...]:
    """Return the known classes that antibodies guard, up to 1,000 of them."""
    query = _narrowed(select(m.Antibody.guards).distinct(), Wanted(session_id))
    with reading(store.engine) as transaction:
        return tuple(sorted(one for one in transaction.scalars(query.limit(_MOST_CLASSES)) if one))


@dataclass(frozen=True, slots=True)
class Life:
    """What is on record of one antibody."""

    antibody: ListedAntibody
    effects: tuple[EffectRecord, ...]
    """Every one that was measured, by generation."""


def life(store: AntibodyStore, antibody_id: str) -> Life:
    """Return what is on record of an antibody. Raises NotThereError for an id that is none."""
    with reading(store.engine) as transaction:
        if not is_id(antibody_id) or transaction.get(m.Antibody, antibody_id) is None:
            raise NotThereError(f"there is no antibody with the id {antibody_id[:60]!r}")
        (antibody,) = _listed(transaction, [antibody_id])
        return Life(antibody, queries.effects(transaction, {m.Effect.antibody_id: antibody_id}, None))


def session_by_id(store: AntibodyStore, session_id: str) -> SessionRecord:
    """Return the session with that id. Raises NotThereError where there is none."""
    with reading(store.engine) as transaction:
        session = transaction.get(m.Session, session_id) if is_id(session_id) else None
        found = () if session is None else queries.sessions(transaction, session.name)
    if not found:
        raise NotThereError(f"there is no session with the id {session_id[:60]!r}")
    return found[0]


def kinds_in_force(store: AntibodyStore, session_id: str) -> dict[int, dict[str, int]]:
    """Return how many antibodies of each kind were in force after each generation (its number) of a session."""
    query = (
        select(m.Generation.number, m.Antibody.kind, func.count())
        .join(m.BankMember, m.BankMember.generation_id == m.Generation.id)
        .join(m.Antibody, m.Antibody.id == m.BankMember.antibody_id)
        .where(m.Generation.session_id == session_id)
        .group_by(m.Generation.number, m.Antibody.kind)
        .order_by(m.Generation.number, m.Antibody.kind)
    )
    kinds: dict[int, dict[str, int]] = {}
    with reading(store.engine) as transaction:
        for number, kind, count in transaction.execute(query):
            kinds.setdefault(number, {})[kind] = count
    return kinds

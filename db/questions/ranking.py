"""Which antibodies do most good and least harm, over their measured effects."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import func, select

from db import queries
from db.records import AntibodyRecord
from db.schema import models as m
from db.schema.engine import reading
from db.store import AntibodyStore
from immuno_core.records import AntibodyKind


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedAntibody(AntibodyRecord):
    """An antibody and the means of its effects over the outlier sets and generations in which they were measured."""

    gain: float
    """Mean share of the accepted outliers that it rejects (immuno_core.records.Effect)."""
    harm: float | None
    """Mean share of the accepted known samples that it rejects; None where that was undefined."""
    d_fpr95: float | None
    measured: int
    """How many effects the means are over."""


def top(
    store: AntibodyStore,
    session_id: str | None = None,
    *,
    scope: Literal["solo", "leave_one_out"] = "solo",
    generation: int | None = None,
    outlier_set: str | None = None,
    guards: str | None = None,
    kind: AntibodyKind | None = None,
    min_gain: float | None = None,
    max_harm: float | None = None,
    limit: int | None = 20,
) -> tuple[RankedAntibody, ...]:
    """Return the antibodies with the most mean gain; of equals the least mean harm, then the oldest, comes first.

    The means are over the effects of that scope, measured in that `generation` (a number) and on that outlier set where
    one is given. An undefined gain (NaN: no outlier was accepted without it) counts in no mean.
    """
    effects = select(m.Effect.antibody_id, m.Effect.gain, m.Effect.harm, m.Effect.d_fpr95).where(
        m.Effect.scope == scope, m.Effect.gain.is_not(None)
    )
    effects = queries.narrowed(effects, {m.Effect.outlier_set: outlier_set})
    if session_id is None and generation is None:
        chosen = effects.cte("chosen")
    else:
        effects = effects.join(m.Generation, m.Generation.id == m.Effect.generation_id)
        effects = queries.narrowed(effects, {m.Generation.session_id: session_id, m.Generation.number: generation})
        # First the effects of these generations, by their index: to group by antibody SQLite would rather read all.
        chosen = effects.cte("chosen").prefix_with("MATERIALIZED")
    gain, harm = func.avg(chosen.c.gain), func.avg(chosen.c.harm)
    means = select(
        chosen.c.antibody_id,
        gain.label("gain"),
        harm.label("harm"),
        func.avg(chosen.c.d_fpr95).label("d_fpr95"),
        func.count().label("measured"),
    ).group_by(chosen.c.antibody_id)
    if min_gain is not None:
        means = means.having(gain >= min_gain)
    if max_harm is not None:
        means = means.having(harm <= max_harm)
    mean = means.subquery()
    query = (
        queries.antibody_rows()
        .join(mean, mean.c.antibody_id == m.Antibody.id)
        .add_columns(mean.c.gain, mean.c.harm, mean.c.d_fpr95, mean.c.measured)
        .order_by(None)
        .order_by(mean.c.gain.desc(), mean.c.harm.asc().nulls_last(), m.Antibody.created_at, m.Antibody.id)
    )
    query = queries.narrowed(query, {m.Antibody.guards: guards, m.Antibody.kind: kind})
    with reading(store.engine) as transaction:
        return tuple(
            RankedAntibody(
                **asdict(queries.antibody_record(antibody, number, session)),
                gain=gain_mean,
                harm=harm_mean,
                d_fpr95=d_fpr95,
                measured=measured,
            )
            for antibody, number, session, gain_mean, harm_mean, d_fpr95, measured in transaction.execute(
                query.limit(limit)
            )
        )

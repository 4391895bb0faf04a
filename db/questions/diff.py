"""What changed from one generation to another, of one session or of two: antibodies in force, and metrics."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session as Transaction

from db import queries
from db.questions.naming import generation_named
from db.records import AntibodyRecord, GenerationRecord
from db.schema import models as m
from db.schema.engine import reading
from db.store import AntibodyStore


@dataclass(frozen=True, slots=True)
class MetricChange:
    """A metric of both generations; None where one of them does not have it."""

    name: str
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class Diff:
    """From the bank in force after `before` to that after `after`.

    An antibody is its text and the class it guards, a visual one its samples.
    """

    before: GenerationRecord
    after: GenerationRecord
    added: tuple[AntibodyRecord, ...]
    removed: tuple[AntibodyRecord, ...]
    kept: tuple[AntibodyRecord, ...]
    """As they are in `after`."""
    metrics: tuple[MetricChange, ...]


def diff(store: AntibodyStore, before: str, after: str) -> Diff:
    """Compare two generations, each named SESSION:NUMBER, or SESSION for its best one.

    Raises SetupError for one that there is not.
    """
    first, second = generation_named(store, before), generation_named(store, after)
    with reading(store.engine) as transaction:
        old, new = (_in_force(transaction, generation.id) for generation in (first, second))
    return Diff(
        before=first,
        after=second,
        added=tuple(one for key, one in new.items() if key not in old),
        removed=tuple(one for key, one in old.items() if key not in new),
        kept=tuple(one for key, one in new.items() if key in old),
        metrics=tuple(_metrics(first.metrics, second.metrics)),
    )


def _in_force(transaction: Transaction, generation_id: str) -> dict[Hashable, AntibodyRecord]:
    """The bank after a generation, without its vectors: nobody needs NumPy to compare texts."""
    query = queries.antibody_rows().join(m.BankMember, m.BankMember.antibody_id == m.Antibody.id)
    antibodies = queries.antibodies(transaction, query.where(m.BankMember.generation_id == generation_id))
    return {one.says: one for one in antibodies}


def _metrics(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[MetricChange]:
    old, new = dict(_numbers(before)), dict(_numbers(after))
    for name in dict.fromkeys((*old, *new)):
        yield MetricChange(name, old.get(name), new.get(name))


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in nested metrics: {"fpr95": {"near": 0.5}} has "fpr95.near"."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", value

"""Antibodies used together: their records and their embeddings."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from immuno_core.arrays import check_unit_rows
from immuno_core.errors import SetupError
from immuno_core.features import FloatArray, IntArray
from immuno_core.records import VISUAL, Antibody, AntibodyKind, TextKind
from immuno_core.text import composed


@dataclass(frozen=True, eq=False)
class Bank:
    """Antibodies used together, A of them, and `vectors` (A, d) float32 unit rows in the same order.

    Raises SetupError where the numbers differ, ids repeat, or vectors are not finite unit rows.
    """

    antibodies: tuple[Antibody, ...]
    vectors: FloatArray

    def __post_init__(self) -> None:
        check_unit_rows(self.vectors, what="antibody vectors")
        if len(self.antibodies) != len(self.vectors):
            raise SetupError(
                f"a bank of {len(self.antibodies)} antibodies and {len(self.vectors)} vectors; give each antibody one"
            )
        if len(set(self.ids)) < len(self.ids):
            repeated = next(key for i, key in enumerate(self.ids) if key in self.ids[:i])
            raise SetupError(f"two antibodies of a bank have the id '{repeated}'; drop one of them")

    def __len__(self) -> int:
        return len(self.antibodies)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Of each antibody its id."""
        return tuple(antibody.id for antibody in self.antibodies)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Of each antibody its text."""
        return tuple(antibody.text for antibody in self.antibodies)

    @cached_property
    def kinds(self) -> tuple[AntibodyKind, ...]:
        """Of each antibody its kind."""
        return tuple(antibody.kind for antibody in self.antibodies)

    @cached_property
    def text_kinds(self) -> tuple[TextKind, ...]:
        """Of each antibody with a text its kind."""
        return tuple(kind for kind in self.kinds if kind != VISUAL)

    @cached_property
    def guards(self) -> tuple[str, ...]:
        """Of each antibody the known class that it guards, composed as those are; "" for none in particular."""
        return tuple(composed(antibody.guards) for antibody in self.antibodies)

    @classmethod
    def empty(cls, dim: int) -> Bank:
        """Return a bank without antibodies for embeddings of `dim` dimensions."""
        return cls((), np.zeros((0, dim), np.float32))

    @classmethod
    def of(cls, antibodies: Iterable[Antibody], vectors: FloatArray) -> Bank:
        """Return the bank of antibodies that have no id yet, with their embeddings (A, d); positions become ids."""
        return cls(tuple(replace(antibody, id=str(i)) for i, antibody in enumerate(antibodies)), vectors)

    def take(self, rows: IntArray) -> Bank:
        """Return the antibodies of the given rows, in that order."""
        return Bank(tuple(self.antibodies[i] for i in rows), self.vectors[rows])

    def without(self, ids: Collection[str]) -> Bank:
        """Return the bank without the antibodies of these ids; ids that it does not have change nothing."""
        gone = frozenset(ids)
        return self.take(np.array([row for row, key in enumerate(self.ids) if key not in gone], dtype=np.int64))

    @cached_property
    def unmatured(self) -> Bank:
        """Return the antibodies whose embeddings are those of their texts: no matured and no visual ones."""
        return self.without({antibody.id for antibody in self.antibodies if not antibody.is_worded})

    @cached_property
    def worded(self) -> Bank:
        """Return the antibodies that have a text."""
        return self.without(self.visual.ids)

    @cached_property
    def visual(self) -> Bank:
        """Return the antibodies without a text: what outliers looked like."""
        return self.take(np.array([row for row, kind in enumerate(self.kinds) if kind == VISUAL], dtype=np.int64))

    def concat(self, other: Bank) -> Bank:
        """Return this bank followed by another one. Raises SetupError for a repeated id or another dimension."""
        check_unit_rows(other.vectors, what="antibody vectors", dim=self.vectors.shape[1])
        return Bank(self.antibodies + other.antibodies, np.concatenate([self.vectors, other.vectors]))

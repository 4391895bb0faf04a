"""The numbers at the top of the page: what the bank changed, on which sets, and against whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.report.measured import Measured
from evaluation.report.model import Results


@dataclass(frozen=True, slots=True)
class Contrast:
    """Mean fpr95_id over some sets (shares; None where not measured) for the methods that the page compares."""

    sets: tuple[str, ...]
    before: float | None
    after: float | None
    best: float | None
    best_method: str | None
    """The best method without antibodies, which need not be the one called "before"."""

    @property
    def ratio(self) -> float | None:
        """How many times fewer outliers `after` accepts than the best method without a bank; None where undefined."""
        return self.best / self.after if self.best is not None and self.after else None


@dataclass(frozen=True, slots=True)
class Headline:
    """What the header says."""

    before: str | None
    after: str | None
    main: Contrast
    unseen: Contrast | None
    id_accuracy_before: float | None
    id_accuracy_after: float | None
    antibodies: int
    test_reads: int

    @property
    def id_accuracy_change(self) -> float | None:
        """After minus before, as a share."""
        if self.id_accuracy_before is None or self.id_accuracy_after is None:
            return None
        return self.id_accuracy_after - self.id_accuracy_before


def summarise(results: Results, measured: Measured) -> Headline:
    """Compute the header's numbers from the rows alone."""
    before = results.before if results.before in measured.methods else None
    after = results.after if results.after in measured.methods else None
    unseen = measured.unseen_sets
    return Headline(
        before=before,
        after=after,
        main=_contrast(measured, measured.headline_sets, before, after),
        unseen=_contrast(measured, unseen, before, after) if unseen and unseen != measured.headline_sets else None,
        id_accuracy_before=measured.id_accuracy(before) if before else None,
        id_accuracy_after=measured.id_accuracy(after) if after else None,
        antibodies=measured.antibodies(after) if after else 0,
        test_reads=len(results.test_reads),
    )


def _contrast(measured: Measured, sets: Sequence[str], before: str | None, after: str | None) -> Contrast:
    best = measured.best_without_antibodies(sets)
    return Contrast(
        sets=tuple(sets),
        before=measured.fpr95(before, sets) if before else None,
        after=measured.fpr95(after, sets) if after else None,
        best=measured.fpr95(best, sets) if best else None,
        best_method=best,
    )

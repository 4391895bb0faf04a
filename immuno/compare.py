"""Compares the banks of several sessions on the same feedback images: how stable is what different models wrote?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from agents import measure
from db import SessionRecord, chosen_generation
from evaluation.effects.similarity import Alikeness, alikeness, fired, spread
from evaluation.space import Bank
from immuno.grounds import halved
from immuno.workplace import Workplace
from immuno_core.errors import SetupError

_MEASURES = ("mean_fpr95", "worst_fpr95", "mean_auroc", "id_accuracy")


@dataclass(frozen=True, slots=True)
class MeasuredBank:
    """A session's best bank, measured on the feedback of the first session with that session's score."""

    session: str
    llm: str | None
    generation: int
    antibodies: int
    mean_fpr95: float
    worst_fpr95: float
    mean_auroc: float
    id_accuracy: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sessions and how alike their banks are."""

    one: str
    other: str
    alikeness: Alikeness


@dataclass(frozen=True, slots=True)
class Comparison:
    """Banks, pairs of them, and mean and standard deviation of each measure over the banks."""

    banks: tuple[MeasuredBank, ...]
    pairs: tuple[Pair, ...]
    spread: dict[str, tuple[float, float | None]]

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "banks": [asdict(one) for one in self.banks],
            "pairs": [{"one": p.one, "other": p.other, **asdict(p.alikeness)} for p in self.pairs],
            "spread": {name: {"mean": mean, "sd": sd} for name, (mean, sd) in self.spread.items()},
        }


def compare(place: Workplace, sessions: Sequence[SessionRecord]) -> Comparison:
    """Measure the best banks of sessions of one encoder, and compare each with each.

    Raises SetupError for sessions of different encoders or class lists, and for one without a generation.
    """
    first = sessions[0]
    space = place.space(halved=halved(first))
    settings = place.config.refine
    banks: list[Bank] = []
    measured: list[MeasuredBank] = []
    fires = []
    for record in sessions:
        if not place.has_encoder_of(record):
            raise SetupError(
                f"session '{record.name}' has another encoder ({record.encoder.model}) than the configuration of "
                f"'{first.name}' names now ({place.embedder.encoder.model}); their embeddings cannot be compared"
            )
        generation = chosen_generation(place.store, record, None)
        bank = place.store.bank(generation.id)
        if unknown := set(bank.guards) - {"", *space.classes}:
            raise SetupError(
                f"session '{record.name}' has other classes than '{first.name}' (for one, '{min(unknown)}'); compare "
                "sessions of one class list"
            )
        boundary = measure(space, bank, settings.score, settings.acceptance)
        banks.append(bank)
        fires.append(fired(boundary.judged))
        measured.append(
            MeasuredBank(
                session=record.name,
                llm=record.llm,
                generation=generation.number,
                antibodies=len(bank.ids),
                mean_fpr95=boundary.mean_fpr95,
                worst_fpr95=boundary.worst_fpr95,
                mean_auroc=sum(boundary.auroc.values()) / len(boundary.auroc),
                id_accuracy=boundary.id_accuracy,
            )
        )
    pairs = tuple(
        Pair(measured[i].session, measured[j].session, alikeness(banks[i], banks[j], fires[i], fires[j]))
        for i, j in combinations(range(len(banks)), 2)
    )
    return Comparison(
        banks=tuple(measured),
        pairs=pairs,
        spread={name: spread([getattr(one, name) for one in measured]) for name in _MEASURES},
    )

"""What a generation starts from: the bank in force, what was tried before, and how it measured.

It is read from the database alone, so that a resumed session goes on exactly as an uninterrupted one would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.schemas import Focus
from db.records import AntibodyRecord, EffectRecord, GenerationRecord, StoredBank
from evaluation.bank import Bank

_EFFECTS_SHOWN = 12
_REJECTED_SHOWN = 100
"""Of a class, the newest: a prompt must not grow without bound."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The state of a session before its next generation."""

    number: int
    """Of the generation about to run."""
    parent: int | None
    """The generation whose bank is in force."""
    bank: Bank
    guideline: str
    focus: Focus
    prompt_version: int
    """Counts the guidelines, from 0."""
    rejected: Mapping[str, Sequence[tuple[str, str]]]
    """Per class: texts that were turned down, and why."""
    helped: Mapping[str, Sequence[tuple[str, float]]]
    """Per class: texts of the bank with the largest solo gain, best first."""
    harmed: Mapping[str, Sequence[tuple[str, float]]]
    """Per class: texts with solo harm, worst first."""
    last_worked_on: Mapping[str, int]
    best_mean_fpr95: float
    """The lowest mean FPR95 of an accepted generation."""
    history: Sequence[Mapping[str, Any]]
    """The metrics of every generation so far, the baseline first."""


def recall(
    generations: Sequence[GenerationRecord],
    antibodies: Sequence[AntibodyRecord],
    effects: Sequence[EffectRecord],
    stored: StoredBank,
    *,
    dim: int,
) -> Memory:
    """Put a session's stored rows together into the state before its next generation.

    `generations` are all of them in order, the baseline first; `effects` are those of the generation in force.
    """
    last = generations[-1]
    used = generations[-2].guideline if len(generations) > 1 else last.guideline
    accepted = [generation for generation in generations if generation.accepted]
    texts = {antibody.id: antibody for antibody in antibodies}
    gains: dict[str, float] = {}
    harms: dict[str, float] = {}
    for effect in effects:
        if effect.antibody_id is not None and effect.scope == "solo":
            gains[effect.antibody_id] = max(effect.gain, gains.get(effect.antibody_id, 0.0))
            harms[effect.antibody_id] = max(effect.harm, harms.get(effect.antibody_id, 0.0))

    def ranked(values: Mapping[str, float]) -> dict[str, list[tuple[str, float]]]:
        found: dict[str, list[tuple[str, float]]] = {}
        for key, value in sorted(values.items(), key=lambda item: (-item[1], texts[item[0]].text)):
            if value > 0:
                found.setdefault(texts[key].guards, []).append((texts[key].text, round(value, 4)))
        return {name: pairs[:_EFFECTS_SHOWN] for name, pairs in found.items()}

    # In a generation that was not accepted a text may have been turned down for its company. It may come back, but not
    # at once: the next generation would propose the same again.
    counted = {*(generation.number for generation in accepted), last.number}
    rejected: dict[str, list[tuple[str, str]]] = {}
    last_worked_on: dict[str, int] = {}
    for antibody in antibodies:
        last_worked_on[antibody.guards] = max(antibody.generation, last_worked_on.get(antibody.guards, 0))
        if antibody.status == "rejected" and antibody.generation in counted:
            rejected.setdefault(antibody.guards, []).append((antibody.text, antibody.reason))
    return Memory(
        number=len(generations),
        parent=accepted[-1].number if accepted else None,
        bank=as_bank(stored) if len(stored) else Bank.empty(dim),
        guideline=last.guideline,
        focus=last.metrics.get("focus", "both"),
        prompt_version=last.prompt_version + (last.guideline != used),
        rejected={name: pairs[-_REJECTED_SHOWN:] for name, pairs in rejected.items()},
        helped=ranked(gains),
        harmed=ranked(harms),
        last_worked_on=last_worked_on,
        best_mean_fpr95=min(generation.metrics["mean_fpr95"] for generation in accepted),
        history=[generation.metrics for generation in generations],
    )


def as_bank(stored: StoredBank) -> Bank:
    """Return a bank read from the database as the maths takes it."""
    return Bank(
        ids=tuple(antibody.id for antibody in stored.antibodies),
        texts=tuple(antibody.text for antibody in stored.antibodies),
        kinds=tuple(antibody.kind for antibody in stored.antibodies),
        guards=tuple(antibody.guards for antibody in stored.antibodies),
        vectors=stored.vectors,
    )

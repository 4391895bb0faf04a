"""What a generation starts from: its parent's bank and guideline, what was tried before, and how it measured.

It is read from the database alone, so that a resumed session goes on exactly as an uninterrupted one would; the random
state is too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.guidelines import Continued, continue_prompt, reflection_pays
from agents.policies import Handled, RequestKind, draw_parent, generator_of, new_generator, state_of
from agents.replies import Focus
from db import AntibodyRecord, EffectRecord, GenerationRecord, PromptRecord
from evaluation.space import Bank

_EFFECTS_SHOWN = 12
_REJECTED_KEPT = 2000
"""Of a class, the newest; how many of them a prompt has room for is decided there (agents.prompts.composing)."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The state of a session before its next generation."""

    number: int
    """Of the generation about to run."""
    parent: int
    """The generation that it continues from."""
    bank: Bank
    """Its bank: text antibodies, those matured from them, and visual ones."""
    prompt: Continued
    """The guideline to be tried, and the kept one that it was made from."""
    focus: Focus
    rejected: Mapping[str, Sequence[tuple[str, str]]]
    """Per class: texts that were turned down for it alone, and why; under "" those that no class needs again."""
    helped: Mapping[str, Sequence[tuple[str, float]]]
    """Per class: texts of the bank with the largest solo gain, best first."""
    harmed: Mapping[str, Sequence[tuple[str, float]]]
    """Per class: texts with solo harm, worst first."""
    last_worked_on: Mapping[str, int]
    best_mean_auroc: float
    """The highest mean AUROC of a generation that was kept."""
    history: Sequence[Mapping[str, Any]]
    """The metrics of every generation so far, the baseline first."""
    reflects: bool
    """Whether a better guideline is asked for after it."""
    random_state: Mapping[str, Any]
    """To be stored with the generation: what the next one draws from."""

    @property
    def tokens_per_estimate(self) -> float:
        """Tokens of a prompt that the provider counted last, for each one estimated; 1 where it counts none."""
        return float(
            next((told["prompt"]["tokens_per_estimate"] for told in reversed(self.history) if "prompt" in told), 1)
        )

    @property
    def worth(self) -> dict[RequestKind, float]:
        """What the antibodies of each kind of request that was made gained so far, for each one asked for."""
        gains: dict[RequestKind, float] = {}
        asked: dict[RequestKind, int] = {}
        for told in self.history:
            for kind, one in told.get("requests", {}).items():
                gains[kind] = gains.get(kind, 0.0) + one["gain"]
                asked[kind] = asked.get(kind, 0) + one["asked"]
        return {kind: gains[kind] / count for kind, count in asked.items() if count}

    @property
    def guideline(self) -> str:
        """The guideline that proposals follow."""
        return self.prompt.guideline

    def turned_down(self, class_name: str) -> Sequence[tuple[str, str]]:
        """Texts that are not to be proposed for a class again, and why; newest last."""
        return (*self.rejected.get("", ()), *self.rejected.get(class_name, ()))


@dataclass(frozen=True, slots=True)
class Origin:
    """Which generation is continued, and the random state after that was drawn."""

    parent: GenerationRecord
    random_state: Mapping[str, Any]


def choose_origin(
    generations: Sequence[GenerationRecord], handled: Mapping[int, Handled] | None, *, seed: int
) -> Origin:
    """Choose the parent of the next generation: drawn from the front of those that were kept, by what they `handled`
    (agents.policies), or, where that is None, the best, with nothing drawn."""
    last = generations[-1]
    # A session of an older version stored no state: it begins one here.
    generator = generator_of(last.random_state) if last.random_state else new_generator(seed)
    best = next(generation for generation in reversed(generations) if generation.accepted)  # the baseline always is
    number = best.number if handled is None else draw_parent(handled, best=best.number, generator=generator)
    return Origin(generations[number], state_of(generator))


def recall(
    origin: Origin,
    generations: Sequence[GenerationRecord],
    antibodies: Sequence[AntibodyRecord],
    effects: Sequence[EffectRecord],
    bank: Bank,
    prompts: Sequence[PromptRecord],
) -> Memory:
    """Put a session's stored rows together into the state before its next generation.

    `generations` are all of them in order, the baseline first; `effects` and `bank` are those of the parent.
    """
    parent, last = origin.parent, generations[-1]
    by_id = {antibody.id: antibody for antibody in antibodies}
    gains: dict[str, float] = {}
    harms: dict[str, float] = {}
    for effect in effects:
        if effect.antibody_id is not None and effect.scope == "solo" and by_id[effect.antibody_id].is_worded:
            gains[effect.antibody_id] = max(effect.gain, gains.get(effect.antibody_id, 0.0))
            harms[effect.antibody_id] = max(effect.harm, harms.get(effect.antibody_id, 0.0))

    def ranked(values: Mapping[str, float]) -> dict[str, list[tuple[str, float]]]:
        pairs: dict[str, list[tuple[str, float]]] = {}
        for key, value in sorted(values.items(), key=lambda item: (-item[1], by_id[item[0]].text)):
            if value > 0:
                pairs.setdefault(by_id[key].guards, []).append((by_id[key].text, round(value, 4)))
        return {name: ranking[:_EFFECTS_SHOWN] for name, ranking in pairs.items()}

    accepted = [generation for generation in generations if generation.accepted]
    # In a generation that was not accepted a text may have been turned down for its company. It may come back, but not
    # at once: the next generation would propose the same again.
    counted = {*(generation.number for generation in accepted), last.number}
    rejected: dict[str, list[tuple[str, str]]] = {}
    last_worked_on: dict[str, int] = {}
    for antibody in antibodies:
        if not antibody.is_worded:
            continue
        last_worked_on[antibody.guards] = max(antibody.generation, last_worked_on.get(antibody.guards, 0))
        if antibody.status == "rejected" and antibody.generation in counted:
            # A look-alike acts on every image: what was turned down for one class is for all.
            whose = "" if antibody.kind == "look_alike" else antibody.guards
            rejected.setdefault(whose, []).append((antibody.text, antibody.reason))
    prompt = continue_prompt(parent, generations, prompts)
    return Memory(
        number=len(generations),
        parent=parent.number,
        bank=bank,
        prompt=prompt,
        focus=generations[prompt.written_after].metrics.get("focus", "both"),
        rejected={name: pairs[-_REJECTED_KEPT:] for name, pairs in rejected.items()},
        helped=ranked(gains),
        harmed=ranked(harms),
        last_worked_on=last_worked_on,
        best_mean_auroc=max(float(np.mean(list(generation.metrics["auroc"].values()))) for generation in accepted),
        history=[generation.metrics for generation in generations],
        reflects=reflection_pays(generations),
        random_state=origin.random_state,
    )

"""Turns what a generation measured into rows of the database, and one of a session into the first of another.

Generation 0 of a branch is a copy of another session's, made from the database alone: nothing is embedded, measured or
asked again. From there on the session is like any other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from agents.feedback import Boundary, Gauge, Scores, feedback_of
from agents.graph import GenerationState, generation_metrics
from agents.maturing import Matured
from agents.memory import Memory
from agents.prompts.templates import prompt_template
from db import AntibodyRecord, AntibodyStore, EffectDraft, GenerationDraft, GenerationRecord, new_id
from evaluation.antibodies.selection import guarded_classes
from evaluation.effects.antibody_effects import bank_effects
from evaluation.effects.exposed import Judged
from evaluation.space import Bank, Space
from immuno_core.config.refine import RefineConfig
from immuno_core.features import FeatureSet, FloatArray
from immuno_core.records import Antibody, Effect, Verdict
from immuno_core.versions import made_with


@dataclass(frozen=True, slots=True)
class Began:
    """When something began: by the clock, and by one that nobody sets, which tells how long it took."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    tick: float = field(default_factory=time.monotonic)

    def end(self) -> datetime:
        """Return the time of now; the clock may have been set since."""
        return self.at + timedelta(seconds=time.monotonic() - self.tick)


def draft_first_generation(
    session_id: str, space: Space, boundary: Boundary, random_state: Mapping[str, Any], *, began: Began
) -> GenerationDraft:
    """The baseline: no antibodies, accepted as the state that everything starts from."""
    guideline = prompt_template("guideline")
    return GenerationDraft(
        session_id=session_id,
        number=0,
        parent=None,
        prompt_version=0,
        prompts=_prompts(guideline),
        accepted=True,
        reason="the classifier without antibodies",
        started_at=began.at,
        finished_at=began.end(),
        guideline=guideline,
        metrics=boundary.as_metrics(),
        random_state=random_state,
        git_sha=made_with()[0],
        versions=made_with()[1],
        verdicts=_verdicts(space, boundary),
    )


def draft_generation(
    session_id: str, space: Space, state: GenerationState, *, mu: Scores, began: Began
) -> GenerationDraft:
    """A generation that went through the whole graph; `mu` (K, d) are the prototypes."""
    memory, decision, feedback = state["memory"], state["decision"], feedback_of(space)
    vectors = dict(zip((antibody.id for antibody in state["screened"]), state["vectors"], strict=True))
    for learnt in _learnt(state):
        vectors |= zip(learnt.antibodies.ids, learnt.antibodies.vectors, strict=True)
    return GenerationDraft(
        session_id=session_id,
        number=memory.number,
        parent=memory.parent,
        prompt_version=memory.prompt.version,
        prompts=_prompts(memory.guideline),
        prompt_parent=memory.prompt.parent,
        prompt_reason=_prompt_reason(memory),
        accepted=decision.accepted,
        reason=decision.reason,
        started_at=began.at,
        finished_at=began.end(),
        guideline=state["guideline"],
        metrics={
            **generation_metrics(state),
            "focus": state["focus"],
            "problems": [*state["problems"], *state["reflection_problems"]],
        },
        random_state=memory.random_state,
        git_sha=made_with()[0],
        versions=made_with()[1],
        antibodies=(*_judged(state), *state["turned_down"], *_matured(space, state, mu)),
        vectors=vectors,
        effects=(
            *(EffectDraft(measured.effect, measured.antibody_id) for measured in state["effects"]),
            *(
                EffectDraft(effect=effect)
                for effect in bank_effects(
                    before=state["before"].judged, after=state["final"].judged, known_labels=feedback.labels
                )
            ),
        ),
        verdicts=_verdicts(space, state["final"]),
        bank=state["bank"].ids if decision.accepted else memory.bank.ids,
    )


def _prompts(guideline: str) -> dict[str, str]:
    return {"propose": prompt_template("propose"), "reflect": prompt_template("reflect"), "guideline": guideline}


def _prompt_reason(memory: Memory) -> str:
    if memory.prompt.parent is None:
        return ""
    return f"reflection after generation {memory.prompt.written_after}"


def _judged(state: GenerationState) -> Iterator[Antibody]:
    """The screened proposals as what became of them in the end."""
    for antibody in state["screened"]:
        if not antibody.accepted:
            yield antibody
        elif not state["decision"].accepted:
            yield antibody.turned_down(f"its generation was not accepted: {state['decision'].reason}")
        elif antibody.id in state["withdrawn"]:
            yield antibody.turned_down("withdrawn: its generation is better without it")
        else:
            yield _unless_pruned(antibody, state)


def _unless_pruned(antibody: Antibody, state: GenerationState) -> Antibody:
    pruned = antibody.id in state["pruned"]
    return antibody.turned_down("pruned: the bank is better without it") if pruned else antibody


def _learnt(state: GenerationState) -> Iterator[Matured]:
    """What was tried of matured and of visual antibodies."""
    yield from (one for one in (state["matured"], state["seen"]) if one is not None)


def _matured(space: Space, state: GenerationState, mu: Scores) -> Iterator[Antibody]:
    """The matured and the visual antibodies, each with its cosine; none where that was not tried."""
    for learnt in _learnt(state):
        guarded = guarded_classes(learnt.antibodies.guards, space.classes)
        cosines = learnt.antibodies.vectors.astype(np.float64) @ mu.T
        for i, antibody in enumerate(learnt.antibodies.antibodies):
            cosine = float(cosines[i, guarded[i]]) if guarded[i] >= 0 else float(cosines[i].max())
            if not learnt.decision.accepted:
                antibody = antibody.turned_down(learnt.decision.reason)
            yield _unless_pruned(replace(antibody, cosine=cosine), state)


def _verdicts(space: Space, boundary: Boundary) -> tuple[Verdict, ...]:
    known, outliers = feedback_of(space).known, feedback_of(space).outliers
    judged = ((known, boundary.judged.known), *((s, boundary.judged.outliers[n]) for n, s in outliers.items()))
    return tuple(verdict for images, one in judged for verdict in _verdicts_of(images, one, space.classes, boundary))


def _verdicts_of(images: FeatureSet, judged: Judged, names: tuple[str, ...], boundary: Boundary) -> list[Verdict]:
    ids = boundary.fitted.bank.ids
    return [
        Verdict(
            set_name=images.name,
            sample_id=images.ids[i],
            score=float(judged.scores[i]),
            accepted=bool(judged.scores[i] >= boundary.threshold),
            nearest_class=names[judged.nearest[i]],
            nearest_antibody=ids[judged.antibody[i]] if judged.antibody[i] >= 0 else None,
        )
        for i in range(len(images))
    ]


def draft_branch(store: AntibodyStore, source: GenerationRecord, *, guideline: str | None = None) -> GenerationDraft:
    """Return the first generation of a session, not made yet, that goes on from `source`, one of another session.

    Antibodies keep their texts and the embeddings in force, and name those they are copied from; what generations that
    were kept turned down on the way comes along with its reason, so that it is not proposed again. `guideline` replaces
    the one that `source` left behind.
    """
    bank = store.bank(source.id)
    # Those of the others are forgiven after one generation (agents.memory); generation 0 of a branch forgets nothing.
    kept_until = {
        one.number for one in store.generations(source.session_id) if one.accepted and one.number <= source.number
    }
    kept = {antibody.id: _copy(antibody) for antibody in bank.antibodies}
    copies = {key: antibody.id for key, antibody in kept.items()}
    in_bank = {antibody.says for antibody in bank.antibodies}
    rejected = [
        _copy(antibody)
        for antibody in _latest(store.antibodies(source.session_id, status="rejected"), of=kept_until)
        if antibody.says not in in_bank
    ]
    guideline = source.guideline if guideline is None else guideline
    prompts = {p.step: p.text for p in store.prompts(source.session_id) if p.version == source.prompt_version}
    moment = datetime.now(UTC)
    return GenerationDraft(
        session_id="",
        number=0,
        parent=None,
        prompt_version=0,
        prompts=prompts | {"guideline": guideline},
        prompt_reason=f"taken over from {source.session}:{source.number}",
        accepted=True,
        reason=f"branched from {source.session}:{source.number}",
        started_at=moment,
        finished_at=moment,
        guideline=guideline,
        metrics=source.metrics,
        random_state=source.random_state,
        git_sha=source.git_sha,
        versions=source.versions,
        antibodies=(*kept.values(), *rejected),
        vectors=dict(zip(copies.values(), bank.vectors, strict=True)),
        effects=tuple(_effects(store, source, copies)),
        verdicts=tuple(
            replace(verdict, nearest_antibody=copies.get(verdict.nearest_antibody or ""))
            for verdict in store.verdicts(source.id)
        ),
        bank=tuple(copies.values()),
    )


def measured_anew(draft: GenerationDraft, space: Space, config: RefineConfig) -> GenerationDraft:
    """Return the first generation of a branch as its bank measures on `space`, which is not what its source had."""
    in_bank = {antibody.id: antibody for antibody in draft.antibodies}
    bank = Bank(tuple(in_bank[key] for key in draft.bank), _rows(draft, space.dim))
    gauge = Gauge(space, config.score, config.acceptance)
    boundary = gauge.measure(bank)
    effects = gauge.effects(boundary.fitted)
    git_sha, versions = made_with()
    return replace(
        draft,
        reason=f"{draft.reason}, measured anew: its classes, their synonyms or its images are others",
        metrics=boundary.as_metrics(),
        git_sha=git_sha,
        versions=versions,
        effects=tuple(EffectDraft(measured.effect, measured.antibody_id) for measured in effects),
        verdicts=_verdicts(space, boundary),
    )


def _rows(draft: GenerationDraft, dim: int) -> FloatArray:
    """The vectors of a draft's bank."""
    return np.array([draft.vectors[key] for key in draft.bank], dtype=np.float32).reshape(-1, dim)


def _copy(antibody: Antibody) -> Antibody:
    copy = {name: getattr(antibody, name) for name in Antibody.__dataclass_fields__}
    return Antibody(**copy | {"id": new_id(), "parent_id": antibody.id, "relation": "copied"})


def _latest(antibodies: Sequence[AntibodyRecord], *, of: Set[int]) -> Iterator[AntibodyRecord]:
    """Of each text and class the last that was turned down in these generations, in their order."""
    yield from {a.says: a for a in antibodies if a.generation in of}.values()


def _effects(store: AntibodyStore, source: GenerationRecord, copies: dict[str, str]) -> Iterator[EffectDraft]:
    """The effects that `source` measured, of the bank and of what is still in it."""
    names = Effect.__dataclass_fields__
    for stored in store.effects(source.session_id, generation=source.number):
        if stored.antibody_id is None or stored.antibody_id in copies:
            effect = Effect(**{name: getattr(stored, name) for name in names})
            yield EffectDraft(effect, copies.get(stored.antibody_id or ""), stored.split)

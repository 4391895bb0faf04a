"""Turns what a generation measured into the rows that the database stores."""

from __future__ import annotations

from datetime import UTC, datetime

from agents.boundary import Boundary, Scores
from agents.feedback import FeedbackData
from agents.graph import GenerationState, TurnedDown, generation_metrics
from agents.templates import prompt_template
from db.drafts import AntibodyDraft, EffectDraft, GenerationDraft
from db.store import new_id
from evaluation.bank import Bank
from evaluation.effects import bank_effects
from evaluation.features import FeatureSet
from evaluation.selection import Screened
from immuno.records import Verdict


def draft_first_generation(
    session_id: str, data: FeedbackData, boundary: Boundary, *, guideline: str, started: datetime
) -> GenerationDraft:
    """The baseline: no antibodies, accepted as the state that everything starts from."""
    return GenerationDraft(
        session_id=session_id,
        number=0,
        parent=None,
        prompt_version=0,
        prompts=_prompts(guideline),
        accepted=True,
        reason="the classifier without antibodies",
        started_at=started,
        finished_at=datetime.now(UTC),
        guideline=guideline,
        metrics=boundary.as_metrics(),
        verdicts=_verdicts(data, boundary, Bank.empty(data.texts.shape[1])),
    )


def draft_generation(
    session_id: str, data: FeedbackData, state: GenerationState, *, started: datetime
) -> GenerationDraft:
    """A generation that went through the whole graph."""
    memory, decision, candidate = state["memory"], state["decision"], state["candidate"]
    bank = candidate if decision.accepted else memory.bank
    return GenerationDraft(
        session_id=session_id,
        number=memory.number,
        parent=memory.parent,
        prompt_version=memory.prompt_version,
        prompts=_prompts(memory.guideline),
        prompt_parent=memory.prompt_version - 1 if memory.prompt_version else None,
        accepted=decision.accepted,
        reason=decision.reason,
        started_at=started,
        finished_at=datetime.now(UTC),
        guideline=state["guideline"],
        metrics={
            **generation_metrics(state),
            "focus": state["focus"],
            "problems": [*state["problems"], *state["reflection_problems"]],
        },
        antibodies=(
            *(_antibody(key, one, state) for key, one in zip(state["ids"], state["screened"], strict=True)),
            *(_never_embedded(one) for one in state["turned_down"]),
        ),
        effects=(
            *(EffectDraft(effect=one.effect, antibody_id=one.antibody_id) for one in state["effects"]),
            *(
                EffectDraft(effect=effect)
                for effect in bank_effects(
                    before=state["before"].fitted,
                    after=state["after"].fitted,
                    known=data.known,
                    known_labels=data.known_labels,
                    outliers=data.outliers,
                )
            ),
        ),
        verdicts=_verdicts(data, state["after"], candidate),
        bank=bank.ids,
    )


def _prompts(guideline: str) -> dict[str, str]:
    return {"propose": prompt_template("propose"), "reflect": prompt_template("reflect"), "guideline": guideline}


def _antibody(key: str, one: Screened, state: GenerationState) -> AntibodyDraft:
    kept = one.accepted and state["decision"].accepted
    turned_down = one.reason if not one.accepted else f"its generation was not accepted: {state['decision'].reason}"
    return AntibodyDraft(
        id=key,
        text=one.proposal.text,
        kind=one.proposal.kind,
        guards=one.proposal.guards,
        status="accepted" if kept else "rejected",
        rationale=one.proposal.rationale,
        reason="" if kept else turned_down,
        cosine=one.cosine,
        vector=one.vector,
    )


def _never_embedded(one: TurnedDown) -> AntibodyDraft:
    proposal = one.proposal
    return AntibodyDraft(
        id=new_id(),
        text=proposal.text,
        kind=proposal.kind,
        guards=proposal.guards,
        status="rejected",
        rationale=proposal.rationale,
        reason=one.reason,
    )


def _verdicts(data: FeedbackData, boundary: Boundary, bank: Bank) -> tuple[Verdict, ...]:
    scored = ((data.known, boundary.known_scores), *((s, boundary.outlier_scores[n]) for n, s in data.outliers.items()))
    return tuple(verdict for images, scores in scored for verdict in _verdicts_of(images, scores, data, boundary, bank))


def _verdicts_of(
    images: FeatureSet, scores: Scores, data: FeedbackData, boundary: Boundary, bank: Bank
) -> list[Verdict]:
    classes = boundary.fitted.predict(images.features)
    nearest = boundary.fitted.exceedance(images.features).antibody
    return [
        Verdict(
            set_name=images.name,
            sample_id=images.ids[i],
            score=float(scores[i]),
            accepted=bool(scores[i] >= boundary.threshold),
            nearest_class=data.classes[classes[i]],
            nearest_antibody=bank.ids[nearest[i]] if nearest[i] >= 0 else None,
        )
        for i in range(len(images))
    ]

"""A session that starts from a generation of another one: its bank, what it measured, and what it had learned.

Generation 0 of the new session is a copy of that generation, made from the database alone: nothing is embedded,
measured or asked again. From there on the session is like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from db.drafts import AntibodyDraft, EffectDraft, GenerationDraft
from db.records import AntibodyRecord, GenerationRecord
from db.store import AntibodyStore, new_id
from immuno.records import Effect


def draft_branch(
    store: AntibodyStore, source: GenerationRecord, *, session_id: str, guideline: str | None = None
) -> GenerationDraft:
    """Return the first generation of a session that goes on from `source`, a generation of another session.

    Antibodies keep their texts and the embeddings in force, and name those they are copied from; what was turned down
    on the way comes along with its reason, so that it is not proposed again. `guideline` replaces the one that `source`
    left behind.
    """
    stored = store.bank(source.id)
    copies = {one.id: new_id() for one in stored.antibodies}
    kept = [_copy(one, copies[one.id], vector) for one, vector in zip(stored.antibodies, stored.vectors, strict=True)]
    in_bank = {(one.text, one.guards) for one in stored.antibodies}
    rejected = [
        _copy(one, new_id(), None)
        for one in _latest(store.antibodies(source.session_id, status="rejected"), upto=source.number)
        if (one.text, one.guards) not in in_bank
    ]
    guideline = source.guideline if guideline is None else guideline
    prompts = {one.step: one.text for one in store.prompts(source.session_id) if one.version == source.prompt_version}
    time = datetime.now(UTC)
    return GenerationDraft(
        session_id=session_id,
        number=0,
        parent=None,
        prompt_version=0,
        prompts=prompts | {"guideline": guideline},
        prompt_reason=f"taken over from {source.session}:{source.number}",
        accepted=True,
        reason=f"branched from {source.session}:{source.number}",
        started_at=time,
        finished_at=time,
        guideline=guideline,
        metrics=source.metrics,
        random_state=source.random_state,
        antibodies=(*kept, *rejected),
        effects=tuple(_effects(store, source, copies)),
        verdicts=tuple(
            replace(one, nearest_antibody=copies.get(one.nearest_antibody or "")) for one in store.verdicts(source.id)
        ),
        bank=tuple(copies.values()),
    )


def _copy(one: AntibodyRecord, key: str, vector: NDArray[np.float32] | None) -> AntibodyDraft:
    return AntibodyDraft(
        id=key,
        text=one.text,
        kind=one.kind,
        guards=one.guards,
        status=one.status,
        rationale=one.rationale,
        reason=one.reason,
        cosine=one.cosine,
        vector=vector,
        origin=one.origin,
        parent_id=one.id,
        relation="copied",
    )


def _latest(antibodies: Sequence[AntibodyRecord], *, upto: int) -> Iterator[AntibodyRecord]:
    """Of each text and class the last that was turned down in the generations 0 to `upto`, in their order."""
    found = {(one.text, one.guards): one for one in antibodies if one.generation <= upto}
    yield from found.values()


def _effects(store: AntibodyStore, source: GenerationRecord, copies: dict[str, str]) -> Iterator[EffectDraft]:
    """The effects that `source` measured, of the bank and of what is still in it."""
    names = Effect.__dataclass_fields__
    for one in store.effects(source.session_id, generation=source.number):
        if one.antibody_id is None or one.antibody_id in copies:
            effect = Effect(**{name: getattr(one, name) for name in names})
            yield EffectDraft(effect, None if one.antibody_id is None else copies[one.antibody_id], one.split)

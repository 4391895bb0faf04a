"""Proposals shown to a person, who keeps, drops or edits each before anything is measured (`--approve`).

A ruling is recorded like a call of the model, under the step "review": an interrupted generation does not ask the
person again. What is dropped, and the original of what is edited, is stored as turned down, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from agents.chat.calls import Caller, Request
from agents.replies import Proposal, Proposals, Reply, Schema
from db import AntibodyStore, CallDraft, find_calls, record_calls
from immuno_core.records import Antibody, text_digest

REVIEW_STEP = "review"
PERSON = "a person"


class Ruling(BaseModel):
    """What a person makes of one proposal; `text` is the new text of an edited one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["keep", "drop", "edit"]
    text: str = ""


Review = Callable[[str, Sequence[Proposal]], Sequence[Ruling]]
"""Given the class and its proposals, returns one ruling for each."""
_RULINGS: TypeAdapter[tuple[Ruling, ...]] = TypeAdapter(tuple[Ruling, ...])


def edited(proposal: Proposal, text: str) -> Proposal:
    """Return the proposal with another text. Raises ValueError, in one line, for a text that is not fit for one."""
    try:
        return Proposal.model_validate(proposal.model_dump() | {"text": text})
    except ValidationError as error:
        said = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise ValueError(said.removeprefix("Value error, ")) from None


@dataclass(frozen=True, slots=True)
class ReviewedCaller:
    """A caller whose proposals go through a person's hands."""

    caller: Caller
    review: Review
    store: AntibodyStore
    session_id: str

    def ask_all(self, generation: int, requests: Iterable[Request[Schema]]) -> tuple[Reply[Schema], ...]:
        """Return the replies as the person left them."""
        subjects: list[str] = []

        def noting() -> Iterable[Request[Schema]]:
            for request in requests:
                subjects.append(request.subject)
                yield request

        replies = self.caller.ask_all(generation, noting())
        return tuple(
            self._reviewed(generation, subject, reply) for subject, reply in zip(subjects, replies, strict=True)
        )

    def _reviewed(self, generation: int, subject: str, reply: Reply[Any]) -> Reply[Any]:
        if not isinstance(reply.parsed, Proposals):
            return reply
        proposals = reply.parsed.antibodies
        kept: list[Proposal] = []
        refused: list[Antibody] = []
        originals: dict[str, str] = {}
        for proposal, ruling in zip(proposals, self._rulings(generation, subject, proposals), strict=True):
            original = Antibody(proposal.text, proposal.kind)
            if ruling.action == "drop":
                refused.append(original.turned_down("dropped: by the reviewer"))
                continue
            kept.append(edited(proposal, ruling.text) if ruling.action == "edit" else proposal)
            if (text := kept[-1].text) != proposal.text:
                originals[text] = proposal.text
                refused.append(original.turned_down(f"edited: by the reviewer, to '{text}'"))
        parsed = reply.parsed.model_copy(update={"antibodies": tuple(kept)}) if kept else None
        return replace(reply, parsed=parsed, refused=(*reply.refused, *refused), originals=originals)

    def _rulings(self, generation: int, subject: str, proposals: Sequence[Proposal]) -> Sequence[Ruling]:
        shown = "\n".join(f"{proposal.kind}: {proposal.text}" for proposal in proposals)
        digest = text_digest(REVIEW_STEP, subject, shown)
        known = find_calls(self.store, self.session_id, generation, REVIEW_STEP, [digest])
        if digest in known:
            return _RULINGS.validate_json(known[digest].reply_text)
        rulings = tuple(self.review(subject, proposals))
        draft = CallDraft(
            generation=generation,
            step=REVIEW_STEP,
            subject=subject,
            request_digest=digest,
            request_text=shown,
            reply_text=_RULINGS.dump_json(rulings).decode(),
            model=PERSON,
            parameters={},
            prompt_tokens=None,
            completion_tokens=None,
        )
        record_calls(self.store, self.session_id, [draft])
        return rulings

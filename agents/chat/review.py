"""Proposals shown to a person, who keeps, drops or edits each before anything is measured (`--approve`).

A ruling is recorded like a call of the model, under the step "review", and from then on a fact of the session: it
holds whoever runs the generation again, and nobody is asked twice. In a generation that a person has begun to review,
the rest waits for a person too. What is dropped, and the original of what is edited, is stored as turned down, with
the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from agents.chat.calls import Caller, Request
from agents.replies import Proposal, Proposals, Reply, Schema
from db import AntibodyStore, CallDraft, SessionRecord, find_calls, record_calls
from immuno_core.errors import SetupError
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
    review: Review | None
    """None: nobody is there to be asked, but what was recorded holds."""
    store: AntibodyStore
    session: SessionRecord

    def ask_all(self, generation: int, requests: Iterable[Request[Schema]]) -> tuple[Reply[Schema], ...]:
        """Return the replies as the person left them.

        Raises SetupError where only some of a generation were reviewed and nobody is there to review the rest.
        """
        subjects: list[str] = []

        def noting() -> Iterable[Request[Schema]]:
            for request in requests:
                subjects.append(request.subject)
                yield request

        replies = self.caller.ask_all(generation, noting())
        known = find_calls(self.store, self.session.id, generation, REVIEW_STEP)
        if self.review is None and not known:
            return replies
        asked = {
            subject: _Asked(subject, reply.parsed)
            for subject, reply in zip(subjects, replies, strict=True)
            if isinstance(reply.parsed, Proposals)
        }
        waiting = [one for one in asked.values() if one.key not in known]
        if waiting and self.review is None:
            raise SetupError(
                f"{len(waiting)} of {len(asked)} classes of generation {generation} wait for a person's review (first: "
                f"'{waiting[0].subject}'); go on with: immuno refine resume {self.session.name} --approve"
            )
        rulings = {key: _RULINGS.validate_json(stored.reply_text) for key, stored in known.items()}
        rulings |= {one.key: self._ask(self.review, generation, one) for one in waiting if self.review is not None}
        return tuple(
            reply if (one := asked.get(subject)) is None else _ruled(reply, one.parsed, rulings[one.key])
            for subject, reply in zip(subjects, replies, strict=True)
        )

    def _ask(self, review: Review, generation: int, asked: _Asked) -> tuple[Ruling, ...]:
        rulings = tuple(review(asked.subject, asked.parsed.antibodies))
        draft = CallDraft(
            generation=generation,
            step=REVIEW_STEP,
            subject=asked.subject,
            request_digest=asked.key[1],
            request_text=asked.shown,
            reply_text=_RULINGS.dump_json(rulings).decode(),
            model=PERSON,
            parameters={},
            prompt_tokens=None,
            completion_tokens=None,
        )
        record_calls(self.store, self.session.id, [draft])
        return rulings


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a person is asked about one class."""

    subject: str
    parsed: Proposals

    @property
    def shown(self) -> str:
        return "\n".join(f"{proposal.kind}: {proposal.text}" for proposal in self.parsed.antibodies)

    @property
    def key(self) -> tuple[str, str]:
        """By which a ruling on it is recorded."""
        return self.subject, text_digest(REVIEW_STEP, self.subject, self.shown)


def _ruled(reply: Reply[Any], said: Proposals, rulings: Sequence[Ruling]) -> Reply[Any]:
    """The reply, which `said` this, as the rulings leave it; an edit to what stands there anyhow is none."""
    proposals = said.antibodies
    became = {
        one.text: edited(one, ruling.text) if ruling.action == "edit" else one
        for one, ruling in zip(proposals, rulings, strict=True)
        if ruling.action != "drop"
    }
    by_text = {one.text: one for one in proposals}
    became |= {text: by_text[text] for text in _passed_round({text: now.text for text, now in became.items()})}
    own = {text for text, now in became.items() if now.text == text}
    kept: list[Proposal] = []
    refused: list[Antibody] = []
    originals: dict[str, str] = {}
    for one in proposals:
        now = became.get(one.text)
        if now is None:
            refused.append(Antibody(one.text, one.kind).turned_down("dropped: by the reviewer"))
            continue
        if now.text != one.text:
            refused.append(Antibody(one.text, one.kind).turned_down(f"edited: by the reviewer, to '{now.text}'"))
            if now.text in own or now.text in originals:
                continue
            originals[now.text] = one.text
        kept.append(now)
    parsed = said.model_copy(update={"antibodies": tuple(kept)})
    return replace(reply, parsed=parsed, refused=(*reply.refused, *refused), originals=originals)


def _passed_round(became: Mapping[str, str]) -> Iterator[str]:
    """Yield the texts that edits only pass round: A becomes B, and B becomes A."""
    for text in became:
        now = became[text]
        for _ in became:
            if now == text:
                yield text
                break
            now = became.get(now, now)

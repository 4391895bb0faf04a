"""Calls of the chat model, recorded as they happen and replayed when an interrupted generation runs again.

A reply that was paid for is never asked for twice: (session, generation, step, subject) names a call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from pydantic import BaseModel

from agents.chat import Answer, Usage, ask
from agents.schemas import parse_reply
from db.store import AntibodyStore
from immuno.records import text_digest

Schema = TypeVar("Schema", bound=BaseModel)


class Caller(Protocol):
    """Asks the chat model; what the graph's nodes see of it."""

    def ask(self, generation: int, step: str, subject: str, prompt: str, schema: type[Schema]) -> Answer[Schema]:
        """Return the model's reply to a prompt. Raises ModelUnavailable when none came."""
        ...


@dataclass(frozen=True, slots=True)
class RecordedCaller:
    """Asks the model and records every reply in the database; a recorded reply is replayed."""

    model: BaseChatModel
    model_name: str
    store: AntibodyStore
    session_id: str

    def ask(self, generation: int, step: str, subject: str, prompt: str, schema: type[Schema]) -> Answer[Schema]:
        """Return the recorded reply to this very prompt, or ask for one."""
        digest = text_digest(self.model_name, prompt)
        known = self.store.find_llm_call(self.session_id, generation, step, subject)
        if known is not None and known.reply_text is not None and known.request_digest == digest:
            reply = parse_reply(known.reply_text, schema)
            usage = Usage(known.prompt_tokens, known.completion_tokens)
            return Answer(reply.parsed, known.reply_text, reply.problems, usage)
        # A call without a reply (ModelUnavailable) is not recorded: it would be replayed instead of tried again.
        answer = ask(self.model, [HumanMessage(prompt)], schema)
        self.store.record_llm_call(
            self.session_id,
            generation,
            step,
            subject,
            request_digest=digest,
            request_text=prompt,
            reply_text=answer.raw_text,
            model=self.model_name,
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
        )
        return answer

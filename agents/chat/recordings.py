"""Recordings: the calls of a session as a JSONL file, and a chat model that answers from such a file alone.

A line holds one call: {"step", "subject", "generation", "request", "reply", "prompt_tokens", "completion_tokens"}. What
answers a request is the reply to the same text at the same place (generation, step and subject), and nothing else:
`llm = "replay:FILE"` gives the same session again on any machine, at no cost, and a request that the recording does not
hold is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from db import LlmCallRecord
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.files import read_text, write_atomically
from immuno_core.records import text_digest
from immuno_core.text import clean_text

REPLAY = "replay"
"""`llm = "replay:FILE"`."""
_LONGEST_NAME = 60


class RecordedCall(BaseModel):
    """One line of a recording."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    subject: str
    generation: int
    request: str
    """As stored: the prompt, and a line with the digest of each image."""
    reply: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @classmethod
    def of(cls, call: LlmCallRecord) -> Self:
        """Return a call that the database holds."""
        named = {name: getattr(call, name) for name in cls.model_fields if hasattr(call, name)}
        return cls(**named, request=call.request_text, reply=call.reply_text)


class NotRecorded(ImmunoError):  # noqa: N818 - says what happened, as ModelUnavailable does
    """A request that the recording does not hold: the session is not the one that was recorded."""


def write_recording(path: Path, calls: Iterable[RecordedCall]) -> int:
    """Write calls as JSONL, ordered by generation, step and subject; return how many. Raises SetupError."""
    ordered = sorted(calls, key=lambda call: (call.generation, call.step, call.subject))
    try:
        write_atomically(path, "".join(f"{call.model_dump_json()}\n" for call in ordered))
    except OSError as error:
        raise SetupError(f"the recording {path} cannot be written: {error.strerror}") from None
    return len(ordered)


def read_recording(path: Path) -> tuple[RecordedCall, ...]:
    """Read a recording. Raises SetupError naming the file and the line that is wrong."""
    content = read_text(path, "recording", hint="one is written by: immuno refine record SESSION FILE", most=2**30)
    calls = []
    # splitlines splits at more, which texts may hold
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            try:
                calls.append(RecordedCall.model_validate_json(line))
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False)[0]
                raise SetupError(f"{path}, line {number} is no recorded call: {first['msg']}") from None
    if not calls:
        raise SetupError(f"the recording {path} holds no call; write one with: immuno refine record SESSION FILE")
    return tuple(calls)


def call_place(generation: int, step: str, subject: str) -> str:
    """Return what tells the calls of a session apart: the id of the message that is sent, which no server is told."""
    return f"{generation}/{step}/{subject}"


def request_text(prompt: str, images: Sequence[str]) -> str:
    """Return how a request is stored: the prompt, and for each image (a data URL) a line with its SHA-256."""
    return "\n".join((prompt, *(f"[image sha256:{text_digest(image)}]" for image in images)))


class ReplayChatModel(BaseChatModel):
    """Answers what was recorded, and fails hard at anything else."""

    origin: str
    calls: dict[tuple[str, str], RecordedCall] = Field(repr=False)
    """By place (`call_place`) and digest of the text."""

    @classmethod
    def read(cls, name: str) -> Self:
        """Return the model of a recording. Raises SetupError where there is none."""
        if not name:
            raise SetupError(f"'{REPLAY}:' names no file; write {REPLAY}:calls.jsonl")
        recorded = read_recording(Path(name))
        calls = {(call_place(c.generation, c.step, c.subject), text_digest(c.request)): c for c in recorded}
        return cls(origin=name, calls=calls)

    @property
    def _llm_type(self) -> str:
        return REPLAY

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - LangChain's signature
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> ChatResult:
        asked = stored_request(messages)
        call = self.calls.get((messages[0].id or "", text_digest(asked)))
        if call is None:
            start = clean_text(asked, _LONGEST_NAME)
            where, places = messages[0].id or "", {place for place, _ in self.calls}
            why = (
                "what it holds at that place answers another prompt: this version asks otherwise, or seed, settings "
                "or data are others"
                if where in places
                else "the session differs from the one that was recorded (seed, settings or data)"
            )
            raise NotRecorded(
                f"the recording {self.origin} holds no reply to the request {where}, which begins '{start}...': {why}; "
                "record a session again: immuno refine record SESSION FILE"
            )
        counts = (call.prompt_tokens, call.completion_tokens)
        usage = None
        if counts[0] is not None and counts[1] is not None:
            usage = {"input_tokens": counts[0], "output_tokens": counts[1], "total_tokens": counts[0] + counts[1]}
        message = AIMessage(content=call.reply, usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,  # noqa: ARG002
        *,
        include_raw: bool = False,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> Runnable[LanguageModelInput, Any]:
        """Return the model itself: a recorded reply is what it is."""
        return self


def stored_request(messages: Sequence[BaseMessage]) -> str:
    """Return how messages are stored: their texts, then the digests of their images."""
    texts: list[str] = []
    images: list[str] = []
    for message in messages:
        texts.append(str(message.text))
        if isinstance(message.content, list):
            parts = (part for part in message.content if isinstance(part, dict) and part.get("type") == "image_url")
            images += [part["image_url"]["url"] for part in parts]
    return request_text("\n\n".join(texts), images)

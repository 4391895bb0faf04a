"""Chat models: one is made from its name, and asked for a structured reply; whatever comes back is read with tolerance.

Keys come from the environment alone. What a server says is untrusted: it can fail to answer (ModelUnavailable) or
answer badly (`Reply.problems`), and nothing else. One call is one try, with a deadline (agents.chat.line);
agents.chat.pacing decides about another.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableParallel, RunnableSequence
from pydantic import BaseModel

from agents.answers import said_with_calls, without_thoughts
from agents.chat.failures import explain_setup, failure_of
from agents.chat.line import Line
from agents.chat.recordings import REPLAY, ReplayChatModel
from agents.lexicon.model import LexiconChatModel
from agents.replies import MOST_CHARACTERS, Reply, Schema, parse_reply, token_count, wire_schema
from evaluation.antibodies.captions import Captions
from evaluation.antibodies.vocabulary import Vocabulary
from immuno_core.config.refine import RefineConfig
from immuno_core.config.secrecy import server_address
from immuno_core.errors import ImmunoError, SetupError
from immuno_core.text import clean_text, storable_text

LEXICON = "lexicon"
_FORM = f"write '{LEXICON}', or provider:NAME as in openai:NAME"
Structured = Literal["json_schema", "tool", "words"]
"""How the schema reaches the model: constrained decoding, as the arguments of a tool, or described in the prompt."""
_METHODS: dict[str, str] = {"json_schema": "json_schema", "tool": "function_calling"}
_HANG_UP_SECONDS = 10.0


def make_chat_model(config: RefineConfig, *, seed: int, vocabulary: Vocabulary) -> BaseChatModel:
    """Return the chat model that `config.llm` names: "lexicon", a recording, or what LangChain's init_chat_model takes.

    For a server of one's own (`config.base_url`) a placeholder is sent where OPENAI_API_KEY is not set. `seed` reaches
    the models that take one. Raises SetupError for an unknown provider, a missing provider package, a missing key or a
    bad address.
    """
    spec, base_url = config.llm, config.base_url
    try:
        options: dict[str, Any] = {} if base_url is None else {"base_url": server_address(base_url)}
    except ValueError as error:
        raise SetupError(f"refine.base_url: {error}") from None
    if spec == LEXICON:
        return LexiconChatModel(seed=seed, vocabulary=vocabulary)
    provider, colon, name = spec.partition(":")
    if provider == REPLAY and colon:
        return ReplayChatModel.read(name)
    options |= {name: getattr(config, name) for name in ("temperature", "max_tokens", "timeout")}
    if colon and not name:
        raise SetupError(f"the chat model '{spec}' has no name; {_FORM}")
    # Tries are counted in one place, agents.chat.pacing, which also knows what the other threads were told.
    options["max_retries"] = 0
    if provider == "openai" and colon:
        # The Responses API is OpenAI's own: other servers, vLLM among them, speak chat completions.
        options["use_responses_api"] = False
        if base_url is not None and not os.environ.get("OPENAI_API_KEY"):
            options["api_key"] = "none-needed"
    # Imported here: it takes seconds, and the lexicon does without.
    from langchain.chat_models import init_chat_model

    try:
        model: BaseChatModel = init_chat_model(spec, **options)
        if "http_async_client" in type(model).model_fields:
            # One that speaks as OpenAI does.
            from agents.chat.http_client import BoundedClient

            address = getattr(model, "openai_api_base", None) or ""
            # Its other client, which is not used, is told to leave the proxies alone: it would warn about them.
            options |= {"http_async_client": BoundedClient(urlsplit(address).hostname or ""), "http_socket_options": ()}
            model = init_chat_model(spec, **options)
    except Exception as error:
        # Every provider raises its own errors; here all of them mean that the set-up is wrong.
        why = explain_setup(spec, provider if colon else None, (LEXICON, REPLAY), _FORM, error)
        raise SetupError(why) from error
    if "seed" in type(model).model_fields:
        model = model.model_copy(update={"seed": seed})
    return model


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat model that is asked for structured replies, from any number of threads.

    A model that knows no structured output, and `structured` "words", is told the schema in words instead.
    """

    model: BaseChatModel
    structured: Structured = "json_schema"
    timeout: float = 600.0
    """Seconds for a try, on the wall clock."""
    _steps: dict[type[BaseModel], Runnable[Any, Any] | None] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.structured not in get_args(Structured):
            raise SetupError(f"structured = '{self.structured}'; known: {', '.join(get_args(Structured))}")

    def ask(
        self,
        messages: Sequence[BaseMessage],
        schema: type[Schema],
        line: Line | None = None,
        captions: Captions | None = None,
    ) -> Reply[Schema]:
        """Ask once for a reply of the given schema and read it, item by item, whatever the model made of it.

        `captions` are what the things and places that it names are put into.

        A reply that was cut off at max_tokens is read as far as it goes. Raises ModelUnavailable when no reply came,
        and Stopped when `line` was cut meanwhile.
        """
        step = self._step(schema)
        prompt = list(messages)
        if step is None:
            step = self.model
            prompt += [HumanMessage(f"Answer with JSON alone, of this schema:\n{json.dumps(wire_schema(schema))}")]
        try:
            return _read_message(self._said(step, prompt, line or Line()), schema, captions)
        except ImmunoError:
            raise
        except Exception as error:
            # Unfinished replies are raised as errors that carry the completion (openai's LengthFinishReasonError).
            completion = getattr(error, "completion", None)
            if completion is None:
                raise failure_of(error, getattr(self.model, "openai_api_base", None)) from error
            return _read_unfinished(completion, schema, captions)

    def hang_up(self) -> None:
        """Close the connections that are kept for another request. Asking again is allowed."""
        # Models that speak as OpenAI does have one; the others' clients look after themselves.
        close = getattr(getattr(self.model, "http_async_client", None), "hang_up", None)
        if close is not None:
            Line().ask(close, seconds=_HANG_UP_SECONDS)

    def _said(self, step: Runnable[Any, Any], prompt: list[BaseMessage], line: Line) -> BaseMessage:
        """Return the model's message."""
        if isinstance(self.model, LexiconChatModel | ReplayChatModel):  # of this process: nothing to wait for
            said = step.invoke(prompt)
        else:
            said = line.ask(lambda: step.ainvoke(prompt), seconds=self.timeout)
        message: BaseMessage = said["raw"] if isinstance(said, dict) else said
        return message

    def _step(self, schema: type[BaseModel]) -> Runnable[Any, Any] | None:
        """Return what asks for the schema, made once; None where the model has to be told in words."""
        if schema not in self._steps:
            self._steps[schema] = self._structured(schema)
        return self._steps[schema]

    def _structured(self, schema: type[BaseModel]) -> Runnable[Any, Any] | None:
        if self.structured not in _METHODS:
            return None
        if self.structured == "json_schema" and type(self.model).__name__ == "ChatOpenAI":
            # What with_structured_output would send. That has the client walk the schema and parse the reply each time:
            # half of the processor time of a call.
            form = {"name": schema.__name__, "schema": wire_schema(schema), "strict": True}
            return self.model.bind(extra_body={"response_format": {"type": "json_schema", "json_schema": form}})
        try:
            structured = self.model.with_structured_output(
                wire_schema(schema), method=_METHODS[self.structured], strict=True, include_raw=True
            )
        except (NotImplementedError, ValueError, TypeError):
            return None
        return _without_parser(structured)


def _without_parser(structured: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return the step of LangChain's structured-output chain that calls the model, without the parser behind it.

    That parser mends partial JSON in time quadratic in the reply (100 kB of prose take minutes), and completes a string
    that was cut off as if it were whole; parse_reply does neither. The parallel around the model is left out as well:
    it starts a thread for each call.
    """
    first = structured.first if isinstance(structured, RunnableSequence) else structured
    if isinstance(first, RunnableParallel) and set(first.steps__) == {"raw"}:
        return first.steps__["raw"]
    return first


def _read_message(message: BaseMessage, schema: type[Schema], captions: Captions | None) -> Reply[Schema]:
    """Read a message, whoever's it says it is."""
    counted = getattr(message, "usage_metadata", None) or {}
    tokens = counted.get("input_tokens"), counted.get("output_tokens")
    refusal = message.additional_kwargs.get("refusal")
    why = _cut_off(message.response_metadata.get("finish_reason"))
    return _read(_said_text(message), schema, captions, tokens, refusal=refusal, before=why)


def _said_text(message: BaseMessage) -> str:
    """The text of a reply, with the arguments of its tool calls: some providers do structured output by tools."""
    calls = [*message.tool_calls, *message.invalid_tool_calls] if isinstance(message, AIMessage) else []
    return said_with_calls(str(message.text), [call["args"] for call in calls if call["args"]])


def _cut_off(finish_reason: str | None) -> tuple[str, ...]:
    """What is to be said of a reply that did not end by itself."""
    if finish_reason in ("length", "max_tokens"):
        return ("the reply was cut off at max_tokens; raise it, or ask for fewer",)
    return (f"the reply was stopped: {finish_reason}",) if finish_reason in ("content_filter", "error") else ()


def _read_unfinished(completion: Any, schema: type[Schema], captions: Captions | None) -> Reply[Schema]:
    choice, counted = completion.choices[0], completion.usage
    tokens = (counted.prompt_tokens, counted.completion_tokens) if counted else (None, None)
    return _read(choice.message.content or "", schema, captions, tokens, before=_cut_off(choice.finish_reason))


def _read(
    text: str,
    schema: type[Schema],
    captions: Captions | None,
    tokens: tuple[Any, Any],
    *,
    refusal: str | None = None,
    before: tuple[str, ...] = (),
) -> Reply[Schema]:
    """Read what was said; `before` are problems of the call itself."""
    if refusal and not text:
        text, before = refusal, (f"the model refused: {clean_text(refusal, 200)}",)
    if len(text) > MOST_CHARACTERS:
        text = without_thoughts(text)  # else where a thought begins could be cut away, and the rest of it be read
    # What is read is what is stored: a recording says the same again. An answer stands at the end.
    said = storable_text(text[-MOST_CHARACTERS:], MOST_CHARACTERS)
    reply = parse_reply(said, schema, captions)
    return replace(
        reply,
        problems=(*before, *reply.problems),
        raw_text=said,
        prompt_tokens=token_count(tokens[0]),
        completion_tokens=token_count(tokens[1]),
    )

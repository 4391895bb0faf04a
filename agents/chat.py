"""Chat models: one is made from its name, and asked for a structured reply; whatever comes back is read with tolerance.

Keys come from the environment alone. What a server says is untrusted: it can fail to answer (ModelUnavailable) or
answer badly (`Answer.problems`), and nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableSequence
from pydantic import BaseModel, ValidationError

from agents.lexicon import LexiconChatModel
from agents.schemas import MOST_CHARACTERS, parse_reply, wire_schema
from agents.text import clean_text, storable_text
from agents.vocabulary import Vocabulary
from immuno.errors import ImmunoError, SetupError, did_you_mean

LEXICON = "lexicon"
_FORM = f"write '{LEXICON}', or provider:NAME as in openai:NAME"
# For the hint only: LangChain knows more, and decides.
_USUAL_PROVIDERS = ("anthropic", "azure_openai", "deepseek", "google_genai", "groq", "mistralai", "ollama", "openai")
_LONGEST_MESSAGE = 300

T = TypeVar("T", bound=BaseModel)


class ModelUnavailable(ImmunoError):  # noqa: N818 - what the loop has to decide about is that there is no model
    """The chat model could not be reached, refused the request, or timed out, after the client's own retries."""


class Usage(NamedTuple):
    """Tokens of one call; None where the model does not count them."""

    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A reply: `parsed` is None where nothing in it could be used; `raw_text` is as said, fit to be stored."""

    parsed: T | None
    raw_text: str
    problems: tuple[str, ...]
    usage: Usage


def make_chat_model(
    spec: str,
    *,
    base_url: str | None,
    temperature: float,
    max_tokens: int,
    seed: int,
    vocabulary: Vocabulary,
    timeout: float = 600.0,
) -> BaseChatModel:
    """Return the chat model that `spec` names: "lexicon", or anything that LangChain's init_chat_model takes.

    `base_url` is an OpenAI-compatible server (vLLM, Ollama, ...); without OPENAI_API_KEY a placeholder is sent to it.
    `timeout` is in seconds and holds for each try of a call. `seed` reaches the models that take one.
    Raises SetupError for an unknown provider, a missing provider package, a missing key or a bad address.
    """
    if spec == LEXICON:
        return LexiconChatModel(seed=seed, vocabulary=vocabulary)
    options: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens, "timeout": timeout}
    if base_url is not None:
        if not base_url.startswith(("http://", "https://")):
            raise SetupError(f"'{base_url}' is not the address of a server; write it as in http://127.0.0.1:8000/v1")
        options["base_url"] = base_url
    provider, colon, name = spec.partition(":")
    if colon and not name:
        raise SetupError(f"the chat model '{spec}' has no name; {_FORM}")
    if provider == "openai" and colon:
        # The Responses API is OpenAI's own: other servers, vLLM among them, speak chat completions.
        options["use_responses_api"] = False
        if base_url is not None and not os.environ.get("OPENAI_API_KEY"):
            options["api_key"] = "none-needed"
    # Imported here: it takes seconds, and the lexicon does without.
    from langchain.chat_models import init_chat_model

    try:
        model: BaseChatModel = init_chat_model(spec, **options)
    except Exception as error:
        # Every provider raises its own errors; here all of them mean that the set-up is wrong.
        raise SetupError(_explain_setup(spec, provider if colon else None, error)) from error
    if "seed" in type(model).model_fields:
        model = model.model_copy(update={"seed": seed})
    return model


def ask(model: BaseChatModel, messages: Sequence[BaseMessage], schema: type[T]) -> Answer[T]:
    """Ask for a reply of the given schema and read it, item by item, whatever the model made of it.

    A model that knows no structured output is told the schema in words instead. A reply that was cut off at max_tokens
    is read as far as it goes. Raises ModelUnavailable when no reply came.
    """
    wire = wire_schema(schema)
    step: Runnable[Any, Any]
    try:
        step = _without_parser(model.with_structured_output(wire, method="json_schema", strict=True, include_raw=True))
        prompt = list(messages)
    except (NotImplementedError, ValueError, TypeError):
        step = model
        prompt = [*messages, HumanMessage(f"Answer with JSON alone, of this schema:\n{json.dumps(wire)}")]
    try:
        said = step.invoke(prompt)
    except ImmunoError:
        raise
    except Exception as error:
        # Unfinished replies are raised as errors that carry the completion (openai's LengthFinishReasonError).
        completion = getattr(error, "completion", None)
        if completion is None:
            raise ModelUnavailable(_explain_failure(error)) from error
        return _read_unfinished(completion, schema)
    message = said["raw"] if isinstance(said, dict) else said
    counted = message.usage_metadata or {}
    usage = Usage(counted.get("input_tokens"), counted.get("output_tokens"))
    return _read(_said_text(message), schema, usage, refusal=message.additional_kwargs.get("refusal"))


def _without_parser(structured: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return the step of LangChain's structured-output chain that calls the model, without the parser behind it.

    That parser mends partial JSON in time quadratic in the reply (100 kB of prose take minutes), and completes a string
    that was cut off as if it were whole; parse_reply does neither.
    """
    return structured.first if isinstance(structured, RunnableSequence) else structured


def _said_text(message: AIMessage) -> str:
    """The text of a reply, or the arguments of its tool call: some providers do structured output by tools."""
    if not message.text and message.tool_calls:
        return json.dumps(message.tool_calls[0]["args"])
    return str(message.text)


def _read_unfinished(completion: Any, schema: type[T]) -> Answer[T]:
    choice = completion.choices[0]
    why = {"length": "the reply was cut off at max_tokens; raise it, or ask for fewer"}.get(
        choice.finish_reason, f"the reply was stopped: {choice.finish_reason}"
    )
    counted = completion.usage
    usage = Usage(counted.prompt_tokens, counted.completion_tokens) if counted else Usage(None, None)
    return _read(choice.message.content or "", schema, usage, before=(why,))


def _read(
    text: str, schema: type[T], usage: Usage, *, refusal: str | None = None, before: tuple[str, ...] = ()
) -> Answer[T]:
    if refusal and not text:
        text, before = refusal, (f"the model refused: {clean_text(refusal, 200)}",)
    reply = parse_reply(text, schema)
    return Answer(reply.parsed, storable_text(text, MOST_CHARACTERS), (*before, *reply.problems), usage)


def _explain_setup(spec: str, provider: str | None, error: Exception) -> str:
    said = _one_line(error)
    if isinstance(error, ImportError):
        return f"the chat model '{spec}' cannot be used: {said}"
    if "infer model provider" in said:
        known = [LEXICON, *_USUAL_PROVIDERS]
        hint = did_you_mean(provider or spec, known) if provider or spec not in known else ""
        return f"'{spec}' names no chat model{hint}; {_FORM}"
    if "credentials" in said.lower() or "api_key" in said.lower():
        variable = "OPENAI_API_KEY" if provider in (None, "openai") else "its API key"
        return f"the chat model '{spec}' needs a key; set {variable} in the environment ({said})"
    return f"the chat model '{spec}' cannot be set up: {said}"


_REMEDIES = {
    400: "the server takes neither this request nor, perhaps, structured output",
    401: "set the server's key in the environment (OPENAI_API_KEY)",
    403: "the key has no right to this model",
    404: "check the model's name, and that base_url ends as the server wants it (often /v1)",
    429: "the server's limit is reached; wait, or lower classes_per_generation",
}


def _explain_failure(error: Exception) -> str:
    status = getattr(error, "status_code", None)
    said = f"{type(error).__name__}: {_one_line(error)}"
    if status is None:
        return f"no usable reply from the chat model ({said}); check that base_url is right and its server is up"
    remedy = _REMEDIES.get(status, "the server failed; its log says why")
    return f"the chat model answered HTTP {status}: {remedy} ({said})"


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        # Its own text repeats the input, which may hold a key.
        said = "; ".join(str(problem["msg"]) for problem in error.errors(include_input=False))
    else:
        said = str(error).split("\n\n", 1)[0]
    return clean_text(said, _LONGEST_MESSAGE)

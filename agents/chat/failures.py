"""What can go wrong with a chat model, in one plain line each, without secrets; and whether another try may help."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pydantic import ValidationError

from immuno_core.config.proxies import through_proxy
from immuno_core.config.secrecy import without_secrets
from immuno_core.errors import ImmunoError, did_you_mean
from immuno_core.text import clean_text

# For the hint only: LangChain knows more, and decides.
_USUAL_PROVIDERS = ("anthropic", "azure_openai", "deepseek", "google_genai", "groq", "mistralai", "ollama", "openai")
_LONGEST_MESSAGE = 300


class ModelUnavailable(ImmunoError):  # noqa: N818 - what the loop has to decide about is that there is no model
    """The chat model could not be reached, refused the request, or timed out.

    `try_again`: it may answer if asked again, after `wait` seconds where the server named a time. `for_all`: whatever
    else it is asked now, it will not answer either.
    """

    def __init__(
        self, message: str, *, try_again: bool = False, wait: float | None = None, for_all: bool = False
    ) -> None:
        super().__init__(message)
        self.try_again = try_again
        self.wait = wait
        self.for_all = for_all


class Stopped(ImmunoError):  # noqa: N818 - nothing went wrong
    """Whoever waited for an answer no longer does."""


_REMEDIES = {
    400: 'the server takes neither this request nor, perhaps, structured output (try refine.structured = "tool")',
    401: "set the server's key in the environment (OPENAI_API_KEY)",
    403: "the key has no right to this model",
    404: "check the model's name, and that base_url ends as the server wants it (often /v1)",
    413: "the request is larger than the server takes; ask for fewer pictures, or shorten the prompt",
    422: "the server takes a setting or a field of the request for wrong, and names it",
    429: "the server's limit is reached; wait, or lower refine.concurrency",
}
_TOO_LONG = (
    "prompt and answer together do not fit into the model's context; give it more on the server, or lower "
    "refine.max_tokens or refine.proposals_per_class"
)
_SAYS_TOO_LONG = re.compile(
    r"context.{0,20}(?:length|size|window|limit)|exceed.{0,40}context|prompt is too long|too many (?:input )?tokens",
    re.IGNORECASE,
)
_FOR_ALL = (401, 403, 404)
_WORTH_ANOTHER_TRY = (408, 409, 425, 429)
QUOTA = "insufficient_quota"
_CONNECTION_ERRORS = frozenset({"TransportError", "APIConnectionError", "APITimeoutError"})


def failure_of(error: Exception, address: str | None = None) -> ModelUnavailable:
    """Return what a provider's error, whichever it is, means for the loop; `address` is its server's, where known."""
    status = getattr(error, "status_code", None)
    through = through_proxy(address) if address else ""
    if not isinstance(status, int):
        said = f"{type(error).__name__}: {one_line(error)}"
        return ModelUnavailable(
            f"no usable reply from the chat model ({said}); check that base_url is right and its server is up{through}",
            try_again=any(_is_connection_trouble(one) for one in _causes(error)),
        )
    return refusal(
        f"HTTP {status}",
        status,
        server_says(getattr(error, "body", None)) or one_line(error),
        quota=QUOTA in (getattr(error, "code", None), getattr(error, "type", None)),
        wait=_retry_after(getattr(getattr(error, "response", None), "headers", None)),
        through=through,
    )


def refusal(
    answered: str, status: int | None, said: str, *, quota: bool = False, wait: float | None = None, through: str = ""
) -> ModelUnavailable:
    """Return what a server's error means: `answered` is how it came, `status` its HTTP status, whoever named it."""
    if quota:
        return ModelUnavailable(
            f"the chat model answered {answered}: the account's quota is used up ({said})", for_all=True
        )
    too_long = (status is None or 400 <= status < 500) and _SAYS_TOO_LONG.search(said) is not None
    known = status if status is not None else 500
    refused = "the server refused the request" if 400 <= known < 500 else "the server failed; its log says why"
    remedy = _TOO_LONG if too_long else _REMEDIES.get(known, refused)
    return ModelUnavailable(
        f"the chat model answered {answered}: {remedy} ({said}){through}",
        try_again=not too_long and (known in _WORTH_ANOTHER_TRY or known >= 500),
        wait=wait,
        for_all=known in _FOR_ALL,
    )


def server_says(body: object) -> str:
    """Return what a server says in the body of an error, on one line, or "".

    OpenAI's {"error": {"message"}}, FastAPI's {"detail": [{"loc", "msg"}]}, and what a router passes on of another
    provider's error, {"metadata": {"raw"}}.
    """
    return one_line(" ".join(_messages(body)))


def _messages(body: object, depth: int = 5) -> Iterator[str]:
    if isinstance(body, str):
        yield body
    elif isinstance(body, list) and depth:
        for one in body[:3]:
            yield from _messages(one, depth - 1)
    elif isinstance(body, dict) and depth:
        if isinstance(where := body.get("loc"), list):
            yield f"{'.'.join(str(part) for part in where[:5])}:"
        told = next((body[key] for key in ("message", "msg", "detail", "error") if body.get(key)), None)
        yield from _messages(told, depth - 1)
        metadata: Any = body.get("metadata")
        yield from _messages(metadata.get("raw") if isinstance(metadata, dict) else None, depth - 1)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_connection_trouble(error: BaseException) -> bool:
    """Time-outs, refused and dropped connections: Python's, LangChain's (is_retryable), and those of HTTP clients.

    The last by name: the providers' packages bring httpx, httpx2 or one of their own.
    """
    if isinstance(error, ConnectionError | TimeoutError) or getattr(error, "is_retryable", False):
        return True
    return not _CONNECTION_ERRORS.isdisjoint(kind.__name__ for kind in type(error).__mro__)


def _retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Return the seconds that a server asks to wait (RFC 9110, 10.2.3: seconds or a date; retry-after-ms as well)."""
    if not headers:
        return None
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        value = headers.get("retry-after", "")
        return (
            max(0.0, float(value) if _is_number(value) else _seconds_until(value, headers.get("date")))
            if value
            else None
        )
    except (ValueError, OverflowError):
        return None


def _is_number(value: str) -> bool:
    return re.fullmatch(r"\s*\d+(?:\.\d+)?\s*", value) is not None


def _seconds_until(date: str, said_at: str | None) -> float:
    """From when the server said so, by its own clock: ours may be another."""
    return (_moment(date) - (_moment(said_at) if said_at else datetime.now(UTC))).total_seconds()


def _moment(date: str) -> datetime:
    moment = parsedate_to_datetime(date)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def explain_setup(spec: str, provider: str | None, own_models: tuple[str, ...], form: str, error: Exception) -> str:
    """Return why LangChain could not make the chat model `spec`, and how to mend it."""
    said = one_line(error)
    if isinstance(error, ImportError):
        return f"the chat model '{spec}' cannot be used: {said}"
    if "infer model provider" in said:
        known = [*own_models, *_USUAL_PROVIDERS]
        hint = did_you_mean(provider or spec, known) if provider or spec not in known else ""
        return f"'{spec}' names no chat model{hint}; {form}"
    if "credentials" in said.lower() or "api_key" in said.lower():
        variable = "OPENAI_API_KEY" if provider in (None, "openai") else "its API key"
        return f"the chat model '{spec}' needs a key; set {variable} in the environment ({said})"
    return f"the chat model '{spec}' cannot be set up: {said}"


def one_line(error: object) -> str:
    """Return what an error, or a server, says: its first paragraph, on one line, bounded, without keys."""
    if isinstance(error, ValidationError):
        # Its own text repeats the input, which may hold a key.
        said = "; ".join(str(problem["msg"]) for problem in error.errors(include_input=False))
    else:
        said = str(error).split("\n\n", 1)[0]
    return clean_text(without_secrets(said), _LONGEST_MESSAGE)

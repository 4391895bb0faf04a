"""The structured replies of the chat model: what is asked for on the wire, and the tolerant reading of what comes back.

Two layers, on purpose. `wire_schema` is what a server constrains its decoding by: every string has an ASCII `pattern`
that bounds it (xgrammar knows no Unicode classes, and lets control characters through where only a length is given),
every list a `maxItems`, so generation always stops. The validators here are what we insist on whatever came back, from
any server, constrained or not: they take any language, clean it, bound it, and refuse markup in an antibody's text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    create_model,
    model_validator,
)

from immuno_core.records import LONGEST_ANTIBODY, Antibody, AntibodyKind
from immuno_core.text import MARKUP, clean_text, text_key, without_markup

MOST_PROPOSALS = 50
LONGEST_RATIONALE = 160
LONGEST_GUIDELINE = 600
LONGEST_REASONS = 300
Focus = Literal["look_alikes", "contexts", "both"]
_WIRE_CHARACTERS = "[A-Za-z0-9 ,.:;'()/&%+!?-]"
_LONGEST_REPETITION = 100
"""xgrammar 0.2.8, which vLLM 0.32 uses, fails to compile a pattern that repeats anything more than 128 times."""


def _wire_string(most: int) -> WithJsonSchema:
    """Return the wire form of a string of 2 to `most` ASCII characters, the first one a letter or digit."""
    pieces = [min(_LONGEST_REPETITION, most - 1 - done) for done in range(0, most - 1, _LONGEST_REPETITION)]
    repeated = "".join(f"{_WIRE_CHARACTERS}{{{int(i == 0)},{piece}}}" for i, piece in enumerate(pieces))
    return WithJsonSchema({"type": "string", "pattern": f"^[A-Za-z0-9]{repeated}$"})


def _as_antibody_text(value: str) -> str:
    """Clean a text that will be embedded. It is refused rather than cut: half a description says something else."""
    text = clean_text(value, LONGEST_ANTIBODY + 1)
    if len(text) > LONGEST_ANTIBODY:
        raise ValueError(f"longer than {LONGEST_ANTIBODY} characters")
    if any(char in MARKUP for char in text):
        raise ValueError("holds markup")
    if len(text) < 2 or not any(char.isalpha() for char in text):
        raise ValueError("says nothing")
    return text


def _prose(most: int) -> AfterValidator:
    return AfterValidator(lambda value: clean_text(without_markup(clean_text(value, 2 * most)), most))


_SPELLINGS = {
    "lookalike": "look_alike",
    "look_alikes": "look_alike",
    "lookalikes": "look_alikes",
    "context": "contextual",
    "contextual_anomaly": "contextual",
}


def _respelt(*allowed: str) -> BeforeValidator:
    """Accept "Look-alike" and the like for `look_alike`: a model that is not constrained spells freely."""

    def respell(value: Any) -> Any:
        if not isinstance(value, str) or len(value) > 40:
            return value
        name = clean_text(value).lower().replace("-", "_").replace(" ", "_")
        return name if name in allowed else _SPELLINGS.get(name, name)

    return BeforeValidator(respell)


class _Wire(BaseModel):
    # Unknown keys are ignored when reading, and forbidden on the wire.
    model_config = ConfigDict(frozen=True, extra="ignore", json_schema_extra={"additionalProperties": False})


class Proposal(_Wire):
    """One proposed antibody: a short description of a picture."""

    text: Annotated[str, AfterValidator(_as_antibody_text), _wire_string(LONGEST_ANTIBODY)]
    kind: Annotated[AntibodyKind, _respelt("look_alike", "contextual")]
    rationale: Annotated[str, _prose(LONGEST_RATIONALE), _wire_string(LONGEST_RATIONALE)]

    @model_validator(mode="before")
    @classmethod
    def _rationale_may_be_missing(cls, value: Any) -> Any:
        # Asked for on the wire, but nothing depends on it: an antibody without one is as good.
        if isinstance(value, dict) and not isinstance(value.get("rationale"), str):
            return {**value, "rationale": ""}
        return value


class Proposals(_Wire):
    """The antibodies proposed for one class."""

    antibodies: Annotated[tuple[Proposal, ...], Field(min_length=1, max_length=MOST_PROPOSALS)]


class Reflection(_Wire):
    """A better guideline, drawn from what was measured."""

    guideline: Annotated[str, _prose(LONGEST_GUIDELINE), Field(min_length=3), _wire_string(LONGEST_GUIDELINE)]
    focus: Annotated[Focus, _respelt("look_alikes", "contexts", "both")]
    reasons: Annotated[str, _prose(LONGEST_REASONS), _wire_string(LONGEST_REASONS)]


@cache
def proposals_of(most: int) -> type[Proposals]:
    """Return Proposals bounded to at most `most` antibodies (1 to 50), so that a constrained model stops there."""
    antibodies: Any = (Annotated[tuple[Proposal, ...], Field(min_length=1, max_length=most)], ...)
    return create_model("Proposals", __base__=Proposals, __doc__=Proposals.__doc__, antibodies=antibodies)


@cache
def wire_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema that is sent to a server: named, every field required, every string and list bounded."""
    return {**schema.model_json_schema(), "title": schema.__name__}


Schema = TypeVar("Schema", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Reply(Generic[Schema]):
    """What came of a request: the one record of it, from what a server says to what the loop goes on with.

    `parsed` is None where nothing could be used; `problems` says what was left out, and why. `refused` are the items
    among those that had a text, cleaned and cut, as antibodies that were turned down.
    """

    parsed: Schema | None
    problems: tuple[str, ...] = ()
    refused: tuple[Antibody, ...] = ()
    raw_text: str = ""
    """As said, fit to be stored; dropped once it is recorded: a thousand could fill the memory."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """None where the model does not count them."""
    source: Literal["model", "recording", "earlier", "nobody"] = "model"
    """Who gave it: the model now; the recording of this very call; an earlier call with the same request; nobody."""
    seconds: float = 0.0
    """How long the model took."""
    originals: Mapping[str, str] = field(default_factory=dict)
    """Of the texts that a person has edited, what the model had written (agents.chat.review)."""


_MOST_TOKENS = 2**40


def token_count(value: object) -> int | None:
    """Return a count of tokens as a server gives it; None, unknown, unless it is a whole number from 0 to a bound."""
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


MOST_CHARACTERS = 200_000
"""Of a reply that are read: ten times the longest reply that fits the schemas."""
_MOST_FAILURES = 500
_MOST_ITEMS = 500
_MOST_PROBLEMS = 50
_MOST_REFUSED = 2 * MOST_PROPOSALS
_OPENING = re.compile(r"[{\[]")


def parse_reply(raw_text: str, schema: type[Schema]) -> Reply[Schema]:
    """Read a reply that may be prose, fenced, truncated or wrong in part. Never raises for anything a model can say.

    The JSON values in the text are found one by one. Of Proposals every good item is kept, the others are dropped with
    the reason; a list without its wrapper, and the whole items of a truncated list, count. Of any other schema the last
    value that fits is the answer.
    """
    # A reasoning model may think aloud first; drafts in there are not its answer.
    # One that was cut to what is read is stored so, and read so again: it was longer then.
    answer = raw_text[-MOST_CHARACTERS:].rsplit("</think>", 1)[-1]
    values = list(_json_values(answer))
    problems = ["the reply was longer than can be read; its end was"] if len(raw_text) >= MOST_CHARACTERS else []
    if not values:
        what = "is empty" if not raw_text.strip() else "holds no JSON"
        return Reply(None, (*problems, f"the reply {what}"))
    listed = issubclass(schema, Proposals)
    reply = _items(values, schema) if listed else _last_value(values, schema)
    return replace(reply, problems=_bounded((*problems, *reply.problems)))


def _json_values(text: str) -> Iterator[Any]:
    """Yield the outermost JSON objects and arrays of a text, in order; what cannot be decoded is searched within."""
    decoder = json.JSONDecoder(strict=False)
    at, failures = 0, 0
    while failures < _MOST_FAILURES:
        start = _OPENING.search(text, at)
        if start is None:
            return
        try:
            value, at = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            failures += 1
            at = start.end()
        else:
            yield value


def _last_value(values: list[Any], schema: type[Schema]) -> Reply[Schema]:
    problems: list[str] = []
    for value in reversed(values):
        for candidate in _wrapped(value, next(iter(schema.model_fields))):
            try:
                return Reply(schema.model_validate(candidate))
            except ValidationError as error:
                problems.append(_reason(error))
    return Reply(None, tuple(problems) or ("the JSON in the reply is not what was asked for",))


def _items(values: list[Any], schema: type[Schema]) -> Reply[Schema]:
    name, metadata = "antibodies", schema.model_fields["antibodies"].metadata
    most = next(limit.max_length for limit in metadata if hasattr(limit, "max_length"))
    raw_items: list[Any] = []
    for value in values:
        lists = [holder[name] for holder in _wrapped(value, name) if isinstance(holder[name], list)]
        if lists:
            raw_items += [item for items in lists for item in items]
        elif isinstance(value, list):
            raw_items += [item for item in value if isinstance(item, dict)]
        elif isinstance(value, dict) and "text" in value:
            raw_items.append(value)
    good: list[Proposal] = []
    keys: set[str] = set()
    problems = [f"only the first {_MOST_ITEMS} items were read"] if len(raw_items) > _MOST_ITEMS else []
    refused: list[Antibody] = []

    def refuse(number: int, raw: Any, category: str, why: str) -> None:
        problems.append(f"item {number} ({_excerpt(raw)}): {why}")
        if len(refused) < _MOST_REFUSED and (antibody := _refused(raw, f"{category}: {why}")) is not None:
            refused.append(antibody)

    for number, raw in enumerate(raw_items[:_MOST_ITEMS], start=1):
        try:
            item = Proposal.model_validate(raw)
        except ValidationError as error:
            refuse(number, raw, "malformed", _reason(error))
            continue
        key = text_key(item.text)
        if key in keys:
            refuse(number, raw, "repeated", "said before")
        elif len(good) == most:
            refuse(number, raw, "surplus", f"more than the {most} asked for")
        else:
            keys.add(key)
            good.append(item)
    if not good:
        why = tuple(problems) or ("the JSON in the reply is not what was asked for",)
        return Reply(None, why, tuple(refused))
    return Reply(schema.model_validate({name: tuple(good)}), tuple(problems), tuple(refused))


_KIND: TypeAdapter[AntibodyKind] = TypeAdapter(Annotated[AntibodyKind, _respelt("look_alike", "contextual")])


def _refused(raw: Any, reason: str) -> Antibody | None:
    """The item as it can be stored; None where it has no text. A kind that is none counts as a look-alike."""
    said = raw.get("text") if isinstance(raw, dict) else None
    text = clean_text(said, LONGEST_ANTIBODY) if isinstance(said, str) else ""
    if not text:
        return None
    try:
        kind = _KIND.validate_python(raw.get("kind"))
    except ValidationError:
        kind = "look_alike"
    return Antibody(text, kind).turned_down(reason)


def _wrapped(value: Any, key: str, depth: int = 3) -> Iterator[dict[str, Any]]:
    """Yield the objects that hold `key`: the value itself, or those within, as in {"result": {"antibodies": []}}."""
    if isinstance(value, dict) and depth:
        if key in value:
            yield value
        else:
            for inner in value.values():
                yield from _wrapped(inner, key, depth - 1)


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return clean_text(f"{where}: {message}" if where else message, 200)


def _excerpt(raw: Any) -> str:
    said = raw.get("text", raw) if isinstance(raw, dict) else raw
    return without_markup(clean_text(said if isinstance(said, str) else type(said).__name__, 60))


def _bounded(problems: tuple[str, ...]) -> tuple[str, ...]:
    if len(problems) <= _MOST_PROBLEMS:
        return problems
    return (*problems[: _MOST_PROBLEMS - 1], f"and {len(problems) - _MOST_PROBLEMS + 1} more")

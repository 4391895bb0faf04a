"""The structured replies of the chat model: what is asked for on the wire, and the tolerant reading of what comes back.

Antibodies are asked for as two lists, things and places, of so many each: {"look_alikes": ["shark"], "places": ["in
the desert"]}. Which list an item stands in says its kind; the caption is put together (evaluation.antibodies.captions).
Whole captions with a kind each, {"antibodies": [{"text", "kind", "rationale"}]}, the form before this, are read too.

Two layers, on purpose. `wire_schema` is what a server constrains its decoding by: every string has an ASCII `pattern`
that bounds it (xgrammar knows no Unicode classes, and lets control characters through where only a length is given),
every list a `maxItems`, so generation always stops. The validators here are what we insist on whatever came back, from
any server, constrained or not: they take any language, clean it, bound it, and refuse markup in an antibody's text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, Self, TypeVar

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

from evaluation.antibodies.captions import Captions
from immuno_core.records import LONGEST_ANTIBODY, Antibody, AntibodyKind
from immuno_core.text import MARKUP, clean_text, text_key, without_markup

MOST_PROPOSALS = 50
_LONGEST_PHRASE = 60
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
    text = clean_text(value[: 8 * LONGEST_ANTIBODY])
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
    "lookalike": ("look_alike", "look_alikes"),
    "look_alike": ("look_alikes",),
    "look_alikes": ("look_alike",),
    "lookalikes": ("look_alikes", "look_alike"),
    "things": ("look_alikes",),
    "context": ("contextual",),
    "contexts": ("places",),
    "contextual": ("places",),
    "contextual_anomaly": ("contextual",),
}


def _respelt(*allowed: str) -> BeforeValidator:
    """Accept "Look-alike" and the like for `look_alike`: a model that is not constrained spells freely."""

    return BeforeValidator(lambda value: _spelt(value, allowed) if isinstance(value, str) else value)


def _spelt(name: str, allowed: Collection[str]) -> str:
    """Return a name as it is among those allowed; unchanged where it is not."""
    if name in allowed or len(name) > 40:
        return name
    plain = clean_text(name).lower().replace("-", "_").replace(" ", "_")
    return plain if plain in allowed else next((one for one in _SPELLINGS.get(plain, ()) if one in allowed), name)


class _Wire(BaseModel):
    # Unknown keys are ignored when reading, and forbidden on the wire.
    model_config = ConfigDict(frozen=True, extra="ignore", json_schema_extra={"additionalProperties": False})


class Wanted(_Wire):
    """How many things and how many places are asked for."""

    look_alikes: Annotated[int, Field(ge=0, le=MOST_PROPOSALS)]
    places: Annotated[int, Field(ge=0, le=MOST_PROPOSALS)]

    @property
    def total(self) -> int:
        """All of them."""
        return self.look_alikes + self.places

    @classmethod
    def shared(cls, total: int, focus: Focus) -> Self:
        """Return the shares of the kinds in `total`, shifted a little by the focus.

        A bank that follows the feedback all the way is narrow. More than half are things: they act on every class,
        places on one only, and breadth of things is what unseen look-alikes are met with.
        """
        look_alikes = round(total * {"look_alikes": 0.7, "both": 0.65, "contexts": 0.6}[focus])
        return cls(look_alikes=look_alikes, places=total - look_alikes)


class Proposal(_Wire):
    """One proposed antibody: a short description of a picture."""

    text: Annotated[str, AfterValidator(_as_antibody_text)]
    kind: Annotated[AntibodyKind, _respelt("look_alike", "contextual")]
    rationale: Annotated[str, _prose(LONGEST_RATIONALE)]

    @model_validator(mode="before")
    @classmethod
    def _rationale_may_be_missing(cls, value: Any) -> Any:
        # Nothing depends on it: an antibody without one is as good.
        if isinstance(value, dict) and not isinstance(value.get("rationale"), str):
            return {**value, "rationale": ""}
        return value


class Proposals(_Wire):
    """The antibodies proposed in one reply."""

    antibodies: Annotated[tuple[Proposal, ...], Field(min_length=1)]
    wanted: ClassVar[Wanted] = Wanted.shared(MOST_PROPOSALS, "both")


class Reflection(_Wire):
    """A better guideline, drawn from what was measured."""

    guideline: Annotated[str, _prose(LONGEST_GUIDELINE), Field(min_length=3), _wire_string(LONGEST_GUIDELINE)]
    focus: Annotated[Focus, _respelt("look_alikes", "contexts", "both")]
    reasons: Annotated[str, _prose(LONGEST_REASONS), _wire_string(LONGEST_REASONS)]


@cache
def proposals_of(wanted: Wanted) -> type[Proposals]:
    """Return Proposals that are asked for, and bounded, by these numbers."""
    return type("Proposals", (Proposals,), {"__doc__": Proposals.__doc__, "wanted": wanted})


@cache
def wire_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema that is sent to a server: named, every field required, every string and list bounded."""
    form = _lists(schema.wanted) if issubclass(schema, Proposals) else schema
    return {**form.model_json_schema(), "title": schema.__name__}


def _lists(wanted: Wanted) -> type[BaseModel]:
    """What antibodies are asked for as: lists of exactly so many phrases."""
    phrase = Annotated[str, _wire_string(_LONGEST_PHRASE)]
    lists: dict[str, Any] = {
        name: (Annotated[tuple[phrase, ...], Field(min_length=count, max_length=count)], ...)
        for name, count in wanted.model_dump().items()
        if count
    }
    return create_model("Lists", __base__=_Wire, **lists)


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


def parse_reply(raw_text: str, schema: type[Schema], captions: Captions | None = None) -> Reply[Schema]:
    """Read a reply that may be prose, fenced, truncated or wrong in part. Never raises for anything a model can say.

    The JSON values in the text are found one by one. Of Proposals every good item is kept, with its caption, the others
    are dropped with the reason; a list without its wrapper, and the whole items of a truncated list, count. Of any
    other schema the last value that fits is the answer.
    """
    # A reasoning model may think aloud first; drafts in there are not its answer.
    # One that was cut to what is read is stored so, and read so again: it was longer then.
    answer = raw_text[-MOST_CHARACTERS:].rsplit("</think>", 1)[-1]
    values = list(_json_values(answer))
    problems = ["the reply was longer than can be read; its end was"] if len(raw_text) >= MOST_CHARACTERS else []
    reply: Reply[Any] | None = None
    if issubclass(schema, Proposals):
        items = _named(values) or _cut_lists(answer) or _written(values)
        reply = _proposals(items, schema.wanted.total, captions or Captions()) if values or items else None
    elif values:
        reply = _last_value(values, schema)
    if reply is None:
        what = "is empty" if not raw_text.strip() else "holds no JSON"
        return Reply(None, (*problems, f"the reply {what}"))
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
        for candidate in _wrapped(value, (next(iter(schema.model_fields)),)):
            try:
                return Reply(schema.model_validate(candidate))
            except ValidationError as error:
                problems.append(_reason(error))
    return Reply(None, tuple(problems) or ("the JSON in the reply is not what was asked for",))


class _Item(NamedTuple):
    """One item of a reply, as said. `kind`: of the list that it stands in; None where it is to say its own."""

    raw: Any
    kind: AntibodyKind | None = None


_LISTS: dict[str, AntibodyKind] = {"look_alikes": "look_alike", "places": "contextual"}
_CUT_LIST = re.compile(r'"(look_alikes|places)"\s*:\s*\[')
_SEPARATOR = re.compile(r"[\s,]*")
_SAID_AS = ("text", "thing", "place", "name", "phrase", "caption")


def _named(values: list[Any]) -> list[_Item]:
    """The items of the last list of each kind, things first."""
    last = {
        name: holder[name]
        for value in values
        for holder in _wrapped(value, _LISTS)
        for name in _LISTS
        if isinstance(holder.get(name), list)
    }
    return [_Item(raw, kind) for name, kind in _LISTS.items() for raw in last.get(name, ())]


def _cut_lists(answer: str) -> list[_Item]:
    """The whole items of lists that do not end well."""
    decoder = json.JSONDecoder(strict=False)
    items: list[_Item] = []
    for found in _CUT_LIST.finditer(answer):
        at = found.end()
        while len(items) <= _MOST_ITEMS:
            try:
                raw, at = decoder.raw_decode(answer, _SEPARATOR.match(answer, at).end())  # type: ignore[union-attr]
            except (ValueError, RecursionError):
                break
            items.append(_Item(raw, _LISTS[found[1]]))
    return items


def _written(values: list[Any]) -> list[_Item]:
    """The items that say their own kind."""
    items: list[Any] = []
    for value in values:
        lists = [holder["antibodies"] for holder in _wrapped(value, ("antibodies",))]
        lists = [one for one in lists if isinstance(one, list)]
        if lists:
            items += [item for one in lists for item in one]
        elif isinstance(value, list):
            items += [item for item in value if isinstance(item, dict)]
        elif isinstance(value, dict) and "text" in value:
            items.append(value)
    return [_Item(raw) for raw in items]


def _proposals(items: list[_Item], most: int, captions: Captions) -> Reply[Proposals]:
    good: list[Proposal] = []
    keys: set[str] = set()
    problems = [f"only the first {_MOST_ITEMS} items were read"] if len(items) > _MOST_ITEMS else []
    refused: list[Antibody] = []

    def refuse(number: int, item: _Item, category: str, why: str) -> None:
        problems.append(f"item {number} ({_excerpt(item.raw)}): {why}")
        if len(refused) < _MOST_REFUSED and (antibody := _refused(item, f"{category}: {why}")) is not None:
            refused.append(antibody)

    for number, item in enumerate(items[:_MOST_ITEMS], start=1):
        try:
            read = Proposal.model_validate(item.raw if item.kind is None else _captioned(item, captions))
        except ValidationError as error:
            refuse(number, item, "malformed", _reason(error))
            continue
        key = text_key(read.text)
        if key in keys:
            refuse(number, item, "repeated", "said before")
        elif len(good) == most:
            refuse(number, item, "surplus", f"more than the {most} asked for")
        else:
            keys.add(key)
            good.append(read)
    if not good:
        why = tuple(problems) or ("the JSON in the reply is not what was asked for",)
        return Reply(None, why, tuple(refused))
    return Reply(Proposals(antibodies=tuple(good)), tuple(problems), tuple(refused))


def _said(raw: Any) -> Any:
    """What an item names; the item itself where it is neither a text nor holds one."""
    return next((raw[key] for key in _SAID_AS if key in raw), raw) if isinstance(raw, dict) else raw


def _captioned(item: _Item, captions: Captions) -> dict[str, Any]:
    """An item of a list as a proposal: its caption and the kind of its list."""
    said = _said(item.raw)
    if isinstance(said, str) and item.kind is not None:
        said = captions.caption(item.kind, clean_text(said[: 8 * LONGEST_ANTIBODY]))
    why = item.raw.get("rationale", item.raw.get("why")) if isinstance(item.raw, dict) else ""
    return {"text": said, "kind": item.kind, "rationale": why}


_KIND: TypeAdapter[AntibodyKind] = TypeAdapter(Annotated[AntibodyKind, _respelt("look_alike", "contextual")])


def _refused(item: _Item, reason: str) -> Antibody | None:
    """The item as it was said, to be stored; None where it has no text. A kind that is none counts as a look-alike."""
    said = _said(item.raw)
    text = clean_text(said, LONGEST_ANTIBODY) if isinstance(said, str) else ""
    if not text:
        return None
    try:
        kind = item.kind or _KIND.validate_python(item.raw.get("kind") if isinstance(item.raw, dict) else None)
    except ValidationError:
        kind = "look_alike"
    return Antibody(text, kind).turned_down(reason)


def _wrapped(value: Any, keys: Collection[str], depth: int = 3) -> Iterator[dict[str, Any]]:
    """Yield the objects that hold one of `keys`: the value itself, or those within, as in {"result": {"places": []}}.

    Keys are as they should be spelt.
    """
    if isinstance(value, dict) and depth:
        spelt = {_spelt(key, keys): inner for key, inner in value.items()}
        if not spelt.keys().isdisjoint(keys):
            yield spelt
        else:
            for inner in value.values():
                yield from _wrapped(inner, keys, depth - 1)


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return clean_text(f"{where}: {message}" if where else message, 200)


def _excerpt(raw: Any) -> str:
    said = _said(raw)
    return without_markup(clean_text(said if isinstance(said, str) else type(said).__name__, 60))


def _bounded(problems: tuple[str, ...]) -> tuple[str, ...]:
    if len(problems) <= _MOST_PROBLEMS:
        return problems
    return (*problems[: _MOST_PROBLEMS - 1], f"and {len(problems) - _MOST_PROBLEMS + 1} more")

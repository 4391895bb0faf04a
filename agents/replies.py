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

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
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

from agents.answers import items_from, json_values, readings, without_thoughts
from evaluation.antibodies.captions import Captions
from evaluation.antibodies.wording import BREAKS
from immuno_core.records import LONGEST_ANTIBODY, Antibody, TextKind
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
    text = _unnumbered(clean_text(value[: 8 * LONGEST_ANTIBODY]))
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


LOOK_ALIKE_SHARE: dict[Focus, float] = {"look_alikes": 0.7, "both": 0.65, "contexts": 0.6}
"""A focus shifts the shares a little: a bank that follows the feedback all the way is narrow. More than half are
things: they act on every class, places on one only, and breadth of things is what unseen look-alikes are met with."""


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
        """Return the shares of the kinds in `total`, by the focus."""
        look_alikes = round(total * LOOK_ALIKE_SHARE[focus])
        return cls(look_alikes=look_alikes, places=total - look_alikes)


class Proposal(_Wire):
    """One proposed antibody: a short description of a picture."""

    text: Annotated[str, AfterValidator(_as_antibody_text)]
    kind: Annotated[TextKind, _respelt("look_alike", "contextual")]
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
_MOST_ITEMS = 500
_MOST_PROBLEMS = 50
_MOST_REFUSED = 2 * MOST_PROPOSALS


def parse_reply(raw_text: str, schema: type[Schema], captions: Captions | None = None) -> Reply[Schema]:
    """Read a reply that may be prose, fenced, truncated or wrong in part. Never raises for anything a model can say.

    The JSON values in the text are found one by one. Of Proposals every good item is kept, with its caption, the others
    are dropped with the reason; a list without its wrapper, and the whole items of a truncated list, count. Of any
    other schema the last value that fits is the answer.
    """
    # A reasoning model may think aloud first; drafts in there are not its answer.
    # One that was cut to what is read is stored so, and read so again: it was longer then.
    answer = without_thoughts(raw_text[-MOST_CHARACTERS:])
    problems = ["the reply was longer than can be read; its end was"] if len(raw_text) >= MOST_CHARACTERS else []
    reply = _first_read(_read(text, schema, captions or Captions()) for text in readings(answer))
    if reply is None:
        what = "holds no JSON" if answer.strip() else "is nothing but a thought" if raw_text.strip() else "is empty"
        return Reply(None, (*problems, f"the reply {what}"))
    return replace(reply, problems=_bounded((*problems, *reply.problems)))


def _first_read(replies: Iterable[Reply[Schema] | None]) -> Reply[Schema] | None:
    """The first that could be read; else the first that tells why it could not."""
    failed = None
    for reply in replies:
        if reply is not None and reply.parsed is not None:
            return reply
        failed = failed or reply
    return failed


def _read(text: str, schema: type[Schema], captions: Captions) -> Reply[Schema] | None:
    """What a text says; None where there is no JSON in it."""
    values = list(json_values(text))
    if not issubclass(schema, Proposals):
        return _last_value(values, schema) if values else None
    items = _listed(text, values) or _loose(values)
    if not (values or items):
        return None
    said: Reply[Any] = _proposals(items, schema.wanted.total, captions)
    return said


def _last_value(values: list[Any], schema: type[Schema]) -> Reply[Schema]:
    problems: list[str] = []
    for candidate in reversed(
        [found for value in values for found in _wrapped(value, next(iter(schema.model_fields)))]
    ):
        try:
            return Reply(schema.model_validate(candidate))
        except ValidationError as error:
            problems.append(_reason(error))
    return Reply(None, tuple(problems) or ("the JSON in the reply is not what was asked for",))


class _Item(NamedTuple):
    """One item of a reply, as said. `kind`: of the list that it stands in; None where it is to say its own."""

    raw: Any
    kind: TextKind | None = None


_LISTS: dict[str, TextKind | None] = {"look_alikes": "look_alike", "places": "contextual", "antibodies": None}
_CUT_LIST = re.compile(rf'"({"|".join(_LISTS)})"\s*:\s*\[')
_DEEPEST = 4
_SAID_AS = ("text", "thing", "place", "name", "phrase", "caption")


def _listed(text: str, values: list[Any]) -> list[_Item]:
    """The items of the last list of each name in a text, things first; of lists that do not end well the whole ones."""
    lists: dict[str, list[Any]] = {}
    for value in values:
        lists |= _lists_in(value)
    return [_Item(raw, kind) for name, kind in _LISTS.items() for raw in (lists or _cut_lists(text)).get(name, ())]


def _lists_in(value: Any, depth: int = _DEEPEST) -> dict[str, list[Any]]:
    """The last list of each name within a value; the objects of a list, calls of a tool perhaps, say theirs together.

    In strings too: JSON may be encoded twice.
    """
    lists: dict[str, list[Any]] = {}
    if not depth:
        return lists
    if isinstance(value, str):
        for inner in json_values(value):
            lists |= _lists_in(inner, depth - 1)
        return lists or _cut_lists(value)
    if isinstance(value, list):
        for inner in value:
            for name, items in _lists_in(inner, depth - 1).items():
                lists[name] = [*lists.get(name, ()), *items]
    elif isinstance(value, dict):
        spelt = {_spelt(key, _LISTS): inner for key, inner in value.items()}
        said = {name: _decoded(spelt.get(name)) for name in _LISTS}
        lists = {name: items for name, items in said.items() if items and isinstance(items, list)}
        for inner in () if lists else value.values():
            lists |= _lists_in(inner, depth - 1)
    return lists


def _cut_lists(text: str) -> dict[str, list[Any]]:
    """The whole items of lists that do not end well."""
    starts = itertools.islice(_CUT_LIST.finditer(text), _MOST_ITEMS)
    lists = {found[1]: list(itertools.islice(items_from(text, found.end()), _MOST_ITEMS)) for found in starts}
    return {name: items for name, items in lists.items() if items}


def _loose(values: list[Any]) -> list[_Item]:
    """Items without a name for them: objects that hold a text, or the last list of texts."""
    items: list[Any] = []
    texts: list[str] = []
    for value in values:
        if isinstance(value, list):
            inner = [_decoded(one) for one in value]
            items += [one for one in inner if isinstance(one, dict)]
            texts = inner if inner and all(isinstance(one, str) for one in inner) else texts
        elif isinstance(value, dict) and "text" in value:
            items.append(value)
    return [_Item(raw) for raw in items or texts]


def _decoded(said: Any) -> Any:
    """What a string holds as JSON, if it does."""
    return next(json_values(said), said) if isinstance(said, str) else said


def _proposals(items: list[_Item], most: int, captions: Captions) -> Reply[Proposals]:
    good: list[Proposal] = []
    keys: set[str] = set()
    problems = [f"only the first {_MOST_ITEMS} items were read"] if len(items) > _MOST_ITEMS else []
    refused: list[Antibody] = []

    def refuse(number: int, item: _Item, category: str, why: str) -> None:
        problems.append(f"item {number} ({_excerpt(item.raw)}): {why}")
        if len(refused) < _MOST_REFUSED and (antibody := _refused(item, f"{category}: {why}")) is not None:
            refused.append(antibody)

    if all(isinstance(item.raw, str) for item in items):
        items = [item if item.kind else _Item(item.raw, captions.kind(_unnumbered(item.raw))) for item in items]
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
    said, kind = _said(item.raw), item.kind
    if isinstance(said, str) and kind is not None:
        phrase = _unnumbered(clean_text(said[: 8 * LONGEST_ANTIBODY]))
        if captions.class_name and phrase.split(" ", 1)[0].casefold() in BREAKS:
            kind = "contextual"  # weak models put places among the things
        said = captions.caption(kind, phrase)
    why = item.raw.get("rationale", item.raw.get("why")) if isinstance(item.raw, dict) else ""
    return {"text": said, "kind": kind, "rationale": why}


_NUMBER = re.compile(r"^(?:\(?\d{1,2}[.):]|[-*•–])\s+")


def _unnumbered(phrase: str) -> str:
    """A phrase without the number or the dash of a list in front of it."""
    return _NUMBER.sub("", phrase)


_KIND: TypeAdapter[TextKind] = TypeAdapter(Annotated[TextKind, _respelt("look_alike", "contextual")])


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


def _wrapped(value: Any, key: str, depth: int = _DEEPEST) -> Iterator[Any]:
    """Yield the objects that hold `key`: the value itself, or those within, as in {"result": {"guideline": ""}}."""
    if not depth:
        return
    if isinstance(value, dict) and key in value:
        yield value
        return
    inner = json_values(value) if isinstance(value, str) else value.values() if isinstance(value, dict) else value
    for one in inner if isinstance(value, dict | list | str) else ():
        yield from _wrapped(one, key, depth - 1)


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

"""The answer in what a model said: its thoughts left out, and the JSON values in it, however they are wrapped.

Servers differ in what they make of a reply. A thought may stand in tags, in channels (harmony, as gpt-oss speaks it) or
never end; JSON may stand in prose, in a fence, in a string, or in the arguments of a tool call, whole or broken off.
Nothing here raises, whatever the text, and no text takes long: what fails is tried a bounded number of times.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

_MOST_FAILURES = 500
_MOST_STRINGS = 10
_DECODER = json.JSONDecoder(strict=False)
_OPENING = re.compile(r"[{\[]")
_ENCODED = re.compile(r'"(?=(?:\s|\\n)*[{\[])')
"""Where a string begins that may hold JSON."""
_SEPARATOR = re.compile(r"[\s,]*")
_THOUGHT = re.compile(r"[<\[◁](/?)(?:seed:)?(?:think|thinking|thought|reasoning)[>\]▷]", re.IGNORECASE)
_CHANNEL, _MESSAGE = "<|channel|>", "<|message|>"
_CHANNEL_ENDS = re.compile(r"<\|(?:end|return|call|start)\|>")
_QUOTES = str.maketrans(dict.fromkeys("“”„‟", '"'))


def without_thoughts(text: str) -> str:
    """Return a text without what is a thought in it: of one that does not end, everything from where it begins.

    An end without a beginning ends a thought that the prompt began. Of channels the one called "final" is the answer.
    """
    if _CHANNEL in text:
        channels = (channel.partition(_MESSAGE) for channel in text.split(_CHANNEL)[1:])
        return "\n".join(_CHANNEL_ENDS.split(said)[0] for name, _, said in channels if name.split()[:1] == ["final"])
    kept: list[str] = []
    at, inside = 0, False
    for tag in _THOUGHT.finditer(text):
        closes = bool(tag[1])
        if closes and not inside:
            kept.clear()
        elif not closes and not inside:
            kept.append(text[at : tag.start()])
        inside, at = not closes, tag.end()
    return "".join((*kept, "" if inside else text[at:]))


def said_with_calls(text: str, arguments: Sequence[Any]) -> str:
    """Return what a reply says that has tool calls: their arguments, behind what was said beside them.

    Arguments of several calls become one list, in which those that are no JSON, or JSON in a string, stay strings.
    """
    spoken = without_thoughts(text).strip() if arguments else text
    if not arguments:
        return spoken
    (one, *more) = arguments
    said = json.dumps(list(arguments)) if more else one if isinstance(one, str) else json.dumps(one)
    return f"{spoken}\n{said}" if spoken else said


def readings(text: str) -> Iterator[str]:
    """Yield the ways to read an answer, the likeliest first: as it is; what a string in it holds; with plain quotes.

    The last two are for JSON that was encoded twice, whole or cut off, and for typographic quotes.
    """
    yield text
    for start in itertools.islice(_ENCODED.finditer(text), _MOST_STRINGS):
        cut_off = False
        try:
            value, _ = _DECODER.raw_decode(text, start.start())
        except ValueError:
            cut_off, value = True, _without_end(text[start.start() :])
        if value:
            yield value
        if cut_off:
            break
    if (plain := text.translate(_QUOTES)) != text:
        yield plain


def _without_end(text: str) -> str:
    """What a string says whose closing quote is missing; "" where it is broken for another reason."""
    try:
        return str(_DECODER.decode(text.rstrip("\\") + '"'))
    except ValueError:
        return ""


def json_values(text: str) -> Iterator[Any]:
    """Yield the outermost JSON objects and arrays of a text, in order; what cannot be decoded is searched within."""
    at, failures = 0, 0
    while failures < _MOST_FAILURES and (start := _OPENING.search(text, at)) is not None:
        try:
            value, at = _DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            failures += 1
            at = start.end()
        else:
            yield value


def items_from(text: str, at: int) -> Iterator[Any]:
    """Yield the whole items of a JSON list that may be cut off; its first one begins at `at`, or behind blanks."""
    while True:
        try:
            value, at = _DECODER.raw_decode(text, _SEPARATOR.match(text, at).end())  # type: ignore[union-attr]
        except (ValueError, RecursionError):
            return
        yield value

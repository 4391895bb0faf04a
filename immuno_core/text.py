"""Untrusted text is cleaned here before anything else sees it; and texts are put into templates and words."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

from immuno_core.errors import SetupError

MARKUP = frozenset("<>{}[]\\|`")
"""Characters of markup, templates and chat-model control tokens; no description of a picture needs them."""


def clean_text(text: str, most: int | None = None) -> str:
    """Return one line of plain text: NFKC, control and invisible characters gone, whitespace collapsed.

    Control characters become spaces; format characters (zero-width, bidirectional, tags), lone surrogates and
    unassigned code points vanish. `most` cuts at that many characters, at the end of a word where there is one.
    """
    # NFKC can multiply the length (one ligature becomes 18 letters), so a hostile text is cut before it and after it.
    head = text if most is None else text[: 4 * most + 64]
    kept = []
    for char in unicodedata.normalize("NFKC", head):
        category = unicodedata.category(char)
        if category == "Cc":
            kept.append(" ")
        elif category[0] != "C":
            kept.append(char)
    line = " ".join("".join(kept).split())
    if most is None or len(line) <= most:
        return line
    cut = line[: most + 1].rsplit(" ", 1)[0]
    return cut if len(cut) <= most else line[:most]


_JOINERS = "\u200c\u200d"
"""Harmless, and some scripts and emoji are not legible without them."""


def printable(text: str, *, lines: bool = False) -> str:
    """Return the text with everything invisible (control and direction characters, lone surrogates) written out.

    For terminals, and all that is shown there of texts from outside. Line breaks too; with `lines` they stay.
    """
    return "".join(
        character
        if (lines and character == "\n")
        or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        or character in _JOINERS
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def composed(name: str) -> str:
    """Return a name in Unicode's composed form (NFC): of two ways to write an é, file systems have either."""
    return unicodedata.normalize("NFC", name)


def without_markup(text: str) -> str:
    """Return the text with every markup character replaced by a space, whitespace collapsed."""
    return " ".join("".join(" " if char in MARKUP else char for char in text).split())


def text_key(text: str) -> str:
    """Return what two texts share when they differ only in case, spacing or closing punctuation."""
    return clean_text(text).casefold().rstrip(" .!?,;:")


def storable_text(text: str, most: int) -> str:
    """Return the text as said, but such that any database takes it: no NUL, no lone surrogate, at most `most` long."""
    return "".join(c for c in text[:most] if c != "\0" and not "\ud800" <= c <= "\udfff")


def read_json(raw: str | bytes, **options: Any) -> Any:
    """Return what a JSON text says (`options` of json.loads).

    Raises ValueError for what is none, and for what is nested too deep to be read.
    """
    try:
        return json.loads(raw, **options)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def strict_json(raw: str | bytes) -> Any:
    """Return what a JSON text says, as `read_json`.

    Raises ValueError also for NaN and Infinity, and for a key that comes twice (one of the two would be lost).
    """

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"the key {next(one for one in names if names.count(one) > 1)!r} comes twice")
        return found

    return read_json(raw, parse_constant=refuse, object_pairs_hook=once)


_FORMULA = ("=", "+", "-", "@")


def safe_cell(value: Any) -> Any:
    """Return the value; a text that a spreadsheet would run as a formula is prefixed with an apostrophe.

    Also one whose sign is full-width, or stands behind blanks, line breaks or invisible characters: some drop those. A
    tab or a carriage return at the start counts as a sign.
    """
    if not isinstance(value, str):
        return value
    start = clean_text(value)
    return f"'{value}" if start.startswith(_FORMULA) or value[:1] in ("\t", "\r") else value


def fill_template(template: str, texts: Sequence[str]) -> list[str]:
    """Return the prompts: the template with each text in place of its `{}`.

    Other braces stay as they are, in the template and in the texts. Raises SetupError for a template without `{}`, with
    more than one, and with a control character.
    """
    if template.count("{}") != 1 or not template.isprintable():
        wrong = (
            "has no {} where the text goes"
            if "{}" not in template
            else "has more than one {}, and one text to put there"
            if template.isprintable()
            else "has a control character"
        )
        raise SetupError(f"the template {template!r} {wrong}; write e.g. 'a photo of a {{}}.'")
    return [template.replace("{}", text) for text in texts]


def count(number: int, what: str) -> str:
    """Return "1 image", "2,000 images"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return "8.2 s", "3 min 5 s", "2 h 10 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"

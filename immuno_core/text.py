"""Untrusted text is cleaned here before anything else sees it; and texts are put into templates and words."""

from __future__ import annotations

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


def without_markup(text: str) -> str:
    """Return the text with every markup character replaced by a space, whitespace collapsed."""
    return " ".join("".join(" " if char in MARKUP else char for char in text).split())


def text_key(text: str) -> str:
    """Return what two texts share when they differ only in case, spacing or closing punctuation."""
    return clean_text(text).casefold().rstrip(" .!?,;:")


def storable_text(text: str, most: int) -> str:
    """Return the text as said, but such that any database takes it: no NUL, no lone surrogate, at most `most` long."""
    return "".join(c for c in text[:most] if c != "\0" and not "\ud800" <= c <= "\udfff")


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def safe_cell(value: Any) -> Any:
    """Return the value; a text that a spreadsheet would run as a formula is prefixed with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


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

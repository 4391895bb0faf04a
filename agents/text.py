"""Untrusted text: what a chat model, a class list or a word list says is cleaned here before anything else sees it."""

from __future__ import annotations

import unicodedata

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

"""The files in which people keep and share the texts of a bank: our own JSONL, EOE's JSON, plain lists.

They are told apart by their ending:

- `.jsonl`, our own: one object per line with `text`, `kind` ("look_alike" or "contextual") and `guards` (a known class,
  or "" for all of them), and optionally `rationale`. Other keys are ignored, so an export with measurements can be read
  back.
- `.json`, as EOE (Cao et al., ICML 2024) publishes them: `{class: [text, ...]}`. Every text is a look-alike of
  its class.
- `.txt`: one text per line, a look-alike that guards no class in particular. Blank lines are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from evaluation.antibodies.wording import ClassNames, words
from immuno_core.errors import SetupError, did_you_mean
from immuno_core.files import read_text, write_atomically
from immuno_core.records import Antibody, TextKind
from immuno_core.text import strict_json

_KINDS: tuple[TextKind, ...] = get_args(TextKind)


def read_bank_file(path: Path) -> list[Antibody]:
    """Read the texts of a bank from a .jsonl, .json (EOE) or .txt file; see the module for the formats.

    Raises SetupError naming the file, and the line or the class, of whatever is not as it should be.
    """
    readers = {".jsonl": _read_jsonl, ".json": _read_eoe, ".txt": _read_lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise SetupError(f"{path}: a bank is a .jsonl, an EOE .json or a .txt file, not '{path.suffix}'")
    antibodies = reader(path, read_text(path, "bank of antibodies", hint="put [antibodies] file right"))
    if not antibodies:
        raise SetupError(f"{path} holds no antibody; leave out [antibodies] to measure without a bank")
    return antibodies


def without_known(
    antibodies: Iterable[Antibody], classes: Sequence[str], synonyms: Mapping[str, Sequence[str]]
) -> tuple[list[Antibody], list[Antibody]]:
    """Return the texts of others that name no known class, and those left out, turned down with the reason.

    EOE's code drops what is a class name, in any case, and what was said before; here a plural, a synonym and an
    attribute hide no name ("two old sharks"). Look-alikes alone are compared with what was said before: a place is one
    for the class that it guards.
    """
    names, said = ClassNames(classes, synonyms), set[tuple[str, ...]]()
    kept, left_out = [], []
    for antibody in antibodies:
        text = words(antibody.text)
        if (known := names.named_only(text)) is not None:
            left_out.append(antibody.turned_down(f"names a known class: '{known}'"))
        elif antibody.kind == "look_alike" and text and text in said:
            left_out.append(antibody.turned_down("repeated: said before"))
        else:
            kept.append(antibody)
            said.add(text)
    return kept, left_out


def told_left_out(left_out: Sequence[Antibody], of: int, source: object) -> str:
    """Return in one line how many texts of a file were left out, and why."""
    known = [one for one in left_out if one.reason.startswith("names")]
    named = f"{len(known)} name a known class" + (f" ('{known[0].text}' for one)" if known else "")
    repeated = len(left_out) - len(known)
    return f"{len(left_out)} of {of} texts of {source} were left out: {named}, {repeated} were said before"


def write_bank_jsonl(path: Path, antibodies: Iterable[Antibody]) -> None:
    """Write antibodies as .jsonl, whole or not at all, with the folder. Raises SetupError where it cannot be."""
    try:
        write_atomically(path, bank_jsonl(antibodies))
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}") from None


def bank_jsonl(antibodies: Iterable[Antibody]) -> str:
    """Return antibodies as the lines of a .jsonl."""
    lines = []
    for antibody in antibodies:
        entry = {"text": antibody.text, "kind": antibody.kind, "guards": antibody.guards}
        if antibody.rationale:
            entry["rationale"] = antibody.rationale
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    return "".join(lines)


def _read_jsonl(path: Path, content: str) -> list[Antibody]:
    antibodies = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            entry = strict_json(line)
        except ValueError as error:
            raise SetupError(f"{where}: not JSON ({error})") from None
        if not isinstance(entry, dict):
            raise SetupError(f"{where}: not an object with text, kind and guards")
        antibodies.append(_from_entry(entry, where))
    return antibodies


def _from_entry(entry: dict[str, Any], where: str) -> Antibody:
    for key in ("text", "kind", "guards"):
        if key not in entry:
            raise SetupError(f"{where}: the key '{key}' is missing")
    for key in ("text", "kind", "guards", "rationale"):
        if not isinstance(entry.get(key, ""), str):
            raise SetupError(f"{where}: '{key}' is not a text")
    if entry["kind"] not in _KINDS:
        raise SetupError(f"{where}: unknown kind '{entry['kind']}'{did_you_mean(entry['kind'], _KINDS)}")
    return Antibody(
        text=_checked(entry["text"], where),
        kind=entry["kind"],
        guards=_checked(entry["guards"], where, may_be_empty=True),
        rationale=_checked(entry.get("rationale", ""), where, may_be_empty=True),
    )


def _read_eoe(path: Path, content: str) -> list[Antibody]:
    try:
        classes = strict_json(content)
    except json.JSONDecodeError as error:
        raise SetupError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    except ValueError as error:
        raise SetupError(f"{path}: not JSON ({error})") from None
    if not isinstance(classes, dict):
        raise SetupError(f"{path}: not an object {{class: [text, ...]}}, as EOE writes it")
    antibodies = []
    for name, texts in classes.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise SetupError(f"{path}: the value of '{name}' is not a list of texts")
        where = f"{path}, class '{name}'"
        antibodies += [Antibody(_checked(text, where), "look_alike", guards=name) for text in texts]
    return antibodies


def _read_lines(path: Path, content: str) -> list[Antibody]:
    return [
        Antibody(_checked(line, f"{path}, line {number}"), "look_alike", guards="")
        for number, line in enumerate(content.split("\n"), start=1)
        if line.strip()
    ]


def _checked(text: str, where: str, *, may_be_empty: bool = False) -> str:
    """Return the text without surrounding blanks."""
    if not text.strip() and not may_be_empty:
        raise SetupError(f"{where}: an empty text")
    try:
        text.encode()
    except UnicodeEncodeError:
        # JSON allows it, but it can be neither stored nor embedded.
        raise SetupError(f"{where}: a text with half a character (a lone surrogate)") from None
    return text.strip()

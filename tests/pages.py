"""The pages of the documentation as Sybil reads them: what the tests check and run is what a reader copies."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from sybil import Document, Example
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/reference/*.md"))
)
_PROMPT = re.compile(r"^(?:\w*)\$ ")
_NAMED_FILE = re.compile(r"# (\w+\.py)\n")


class Block(NamedTuple):
    """A fenced block of one of `LANGUAGES`."""

    language: str
    text: str
    line: int


LANGUAGES = ("console", "sh", "python", "toml")


def blocks(page: str, *languages: str) -> list[Block]:
    """The blocks of a page in these languages (default: all), in order."""

    def parser(language: str) -> CodeBlockParser:
        return CodeBlockParser(language, lambda _: None)

    found: list[Block] = []
    for language in languages or LANGUAGES:
        document = Document.parse(str(ROOT / page), parser(language))
        found += [Block(language, str(one.parsed), one.line) for one in document.examples()]
    return sorted(found, key=lambda one: one.line)


def lines(block: str, *, prompts: bool) -> Iterator[list[str]]:
    """The words of each command of a block; with `prompts` lines without one are output."""
    for line in block.replace("\\\n", " ").splitlines():
        if (_PROMPT.match(line) or not prompts) and (words := shlex.split(_PROMPT.sub("", line), comments=True)):
            yield words


def commands(page: str) -> list[list[str]]:
    """The words of every command of a page that a reader types, in order."""
    typed = blocks(page, "console", "sh")
    return [words for block in typed for words in lines(block.text, prompts=block.language == "console")]


def run(page: str, folder: Path, change: Callable[[list[str]], list[str]] = lambda words: words) -> list[Path]:
    """Run a page in this process, from top to bottom, as it stands: blocks of Python in one namespace, and `immuno`.

    A block that begins with "# NAME.py" is written as that file into `folder`, and returned. `change` makes of the
    words of a command what is run, nothing of one that is not.
    """
    from immuno.cli import main

    files: list[Path] = []
    evaluate = PythonEvaluator()

    def program(example: Example) -> None:
        if (named := _NAMED_FILE.match(str(example.parsed))) is None:
            evaluate(example)
        else:
            files.append(folder / named[1])
            files[-1].write_text(str(example.parsed))

    def typed(example: Example, *, prompts: bool) -> None:
        for words in lines(str(example.parsed), prompts=prompts):
            if words[0] == "immuno" and (arguments := change(words[1:])):
                with pytest.raises(SystemExit) as stopped:
                    main(arguments)
                assert not stopped.value.code, (words, stopped.value.code)

    document = Document.parse(
        str(ROOT / page),
        CodeBlockParser("python", program),
        CodeBlockParser("console", lambda example: typed(example, prompts=True)),
        CodeBlockParser("sh", lambda example: typed(example, prompts=False)),
    )
    document.namespace["__name__"] = "example"
    for example in document.examples():
        example.evaluate()
    return files

"""Every page of the documentation: its commands are commands, its configurations valid, its programs Python."""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec

import click
import pytest

from immuno.cli import cli
from tests.configs import make_config
from tests.pages import PAGES, ROOT, blocks, commands

LEAST = {"id": "miniworld", "fit": "miniworld", "ood": {"near": "miniworld"}}
_SHELL = {".", "cd", "export", "ls", "git", "pip", "kubectl", "ray", "pytest", "open", "curl", "openssl", "serve"}
_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def parse(arguments: list[str]) -> None:
    """Let the command line read what is typed, and run nothing. Raises click.UsageError for what it would refuse."""
    command: click.Command = cli
    with cli.make_context("immuno", list(arguments)) as context:
        while isinstance(command, click.Group):
            _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            assert inner is not None
            command, context = inner, inner.make_context(inner.name, rest, parent=context)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_what_a_page_has_the_reader_type_can_be_typed(page: str) -> None:
    for first, *rest in commands(page):
        if first == "immuno":
            parse(rest)
            if "--" in rest and rest[0] == "submit":
                parse(rest[rest.index("--") + 1 :])
        elif first == "make":
            assert {word for word in rest if "=" not in word} <= _TARGETS, rest
        elif first == "python" and rest[0] == "-m":
            assert find_spec(rest[1]) is not None, rest
            if rest[1] == "immuno":
                parse(rest[2:])
        elif first == "python":
            assert (ROOT / rest[0]).is_file(), rest
        else:
            assert first in _SHELL or "=" in first, first


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python", "toml")])
def test_a_page_holds_valid_configurations_and_python(page: str) -> None:
    for _, program, line in blocks(page, "python"):
        compile(program, f"{page}, line {line}", "exec")
    for _, piece, _ in blocks(page, "toml"):
        sections = tomllib.loads(piece if "[" in piece.split("#")[0].split("=")[0] else f"[llm_server]\n{piece}")
        if "project" not in sections:  # a package's
            sections["data"] = LEAST | sections.get("data", {})
            make_config(**({"refine": {"llm": "openai:x"}} if "llm_server" in sections else {}) | sections)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_to_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"(?:\]\(|src=\"|srcset=\")([^)#\s\"]+)", text):
        assert "://" in link or link.startswith("mailto:") or ((ROOT / page).parent / link).exists(), link

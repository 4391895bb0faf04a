"""The family tree of a session's guideline, for the terminal and as JSON (`immuno refine prompts`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.text import Text
from rich.tree import Tree

from agents.prompt_tree import PromptVersion
from immuno.tables import print_table


def prompt_rows(tree: Sequence[PromptVersion]) -> list[dict[str, Any]]:
    """Return what `--json` prints."""
    return [asdict(one) | {"kept": one.kept, "measured": one.measured} for one in tree]


def print_prompts(tree: Sequence[PromptVersion]) -> None:
    """Print the versions as a tree, each with its trials and with what it changed in its parent."""
    if not tree:
        return print_table(Text("no prompt yet: the session has no generation"))
    branches: dict[int, Tree] = {}
    roots: list[Tree] = []
    for one in tree:
        label = Text("\n").join(_label(one))
        if one.parent is None:
            branches[one.version] = Tree(label)
            roots.append(branches[one.version])
        else:
            branches[one.version] = branches[one.parent].add(label)
    for root in roots:
        print_table(root)
    return None


def _label(one: PromptVersion) -> Iterator[Text]:
    if not one.trials:
        state, style = "not tried yet", "dim"
    else:
        tried = ", ".join(str(trial.generation) for trial in one.trials)
        change = "" if one.measured is None else f", change {100 * one.measured:+.1f} points"
        state, style = f"{'kept' if one.kept else 'not kept'}: generation {tried}{change}", "bold" if one.kept else ""
    yield Text(f"version {one.version}: {state}", style)
    if one.reason:
        yield Text(one.reason, "dim")
    # A model wrote these: Text shows what looks like markup, and the line breaks are the only control characters.
    for line in (one.diff or one.guideline).splitlines():
        yield Text(line, "green" if line.startswith("+") else "red" if line.startswith("-") else "")

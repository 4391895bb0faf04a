"""`--approve`: proposals shown in the terminal, to keep, drop or edit before anything is measured."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agents import Proposal, Review, Ruling, edited
from immuno_core.errors import SetupError
from immuno_core.text import printable

_KEEP = Ruling(action="keep")
_DROP = Ruling(action="drop")
_HELP = "Enter keeps all; d 2 5 drops; e 3 edits; x drops all; a keeps everything from here on; q pauses the session"


def terminal_review() -> Review:
    """Return the review of a person at the terminal. Raises SetupError where there is none to ask."""
    if not sys.stdin.isatty():
        raise SetupError("--approve asks for your decision in the terminal, and stdin is none; leave --approve out")
    # On standard error, so that --json leaves nothing but JSON on standard output.
    console = Console(stderr=True)

    def ask(question: str) -> str:
        try:
            return console.input(Text(question))
        except EOFError:  # Ctrl-D: nobody is there any more
            raise KeyboardInterrupt from None

    return Approval(console, ask)


class Approval:
    """Asks about one class after another."""

    def __init__(self, console: Console, ask: Callable[[str], str]) -> None:
        self._console = console
        self._ask = ask
        self._keep_everything = False

    def __call__(self, subject: str, proposals: Sequence[Proposal]) -> Sequence[Ruling]:
        """Return one ruling for each proposal. Raises KeyboardInterrupt where the person wants to pause."""
        rulings = [_KEEP] * len(proposals)
        if self._keep_everything:
            return rulings
        self._console.print(Text(_HELP, "dim"))
        while True:
            self._show(subject, proposals, rulings)
            order, *rest = self._ask("> ").split() or [""]
            if order in ("", "a"):
                self._keep_everything = order == "a"
                return rulings
            if order == "x":
                return [_DROP] * len(proposals)
            if order == "q":
                raise KeyboardInterrupt
            numbers = [int(one) for one in rest if one.isdecimal() and 1 <= int(one) <= len(proposals)]
            if order not in ("d", "e") or not numbers or len(numbers) < len(rest):
                self._console.print(Text(f"not understood. {_HELP}", "yellow"))
                continue
            for number in numbers:
                i = number - 1
                rulings[i] = _DROP if order == "d" else self._edited(proposals[i], rulings[i])

    def _edited(self, proposal: Proposal, before: Ruling) -> Ruling:
        """Ask for another text until it is fit; nothing typed leaves it as it was."""
        while text := self._ask(f"instead of '{printable(proposal.text)}': ").strip():
            try:
                return Ruling(action="edit", text=edited(proposal, text).text)
            except ValueError as error:
                self._console.print(Text(f"not fit for an antibody: {error}", "yellow"))
        return before

    def _show(self, subject: str, proposals: Sequence[Proposal], rulings: Sequence[Ruling]) -> None:
        table = Table(title=Text(f"proposals for {printable(subject)}"), title_justify="left", box=None)
        for head in ("", "kind", "text", "why", ""):
            table.add_column(head, overflow="fold")
        for number, (one, ruling) in enumerate(zip(proposals, rulings, strict=True), start=1):
            text = ruling.text or one.text
            mark = {"keep": "", "drop": "dropped", "edit": "edited"}[ruling.action]
            style = "dim strike" if ruling.action == "drop" else ""
            cells = (str(number), one.kind.replace("_", "-"), printable(text), printable(one.rationale), mark)
            table.add_row(*(Text(cell, style) for cell in cells))
        self._console.print(table)

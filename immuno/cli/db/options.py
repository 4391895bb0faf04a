"""What the commands of `immuno db` share: the option that names the database, how to print, which rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from immuno.cli import options
from immuno.cli.options import whole
from immuno.terminal.output import print_json
from immuno_core.text import printable

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Callable[..., None]], Callable[..., None]]


def database_option(function: Command) -> Command:
    """Add `--db URL` and `--json` (as_json), for commands that do something."""
    return options.database_option(options.json_option(function))


def query(*given: Option) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command that lists something, with these options and `--db`, `--json` and `--csv`.

    The function gets the open store, the form in which to print (`immuno.terminal.output.show`), and the options by
    name; of a `session` its id.
    """
    as_json = click.option("--json", "form", flag_value="json", help="Print JSON on stdout, and nothing else there.")
    as_csv = click.option("--csv", "form", flag_value="csv", help="Print CSV on stdout, and nothing else there.")

    added: tuple[Option, ...] = (*given, options.database_option, as_json, as_csv)

    def made(function: Callable[..., None]) -> click.Command:
        @wraps(function)
        def run(database: str | None, form: str | None, **values: Any) -> None:
            with options.open_database(database) as store:
                if values.get("session") is not None:
                    values["session"] = store.session(values["session"]).id
                function(store, form, **values)

        command: Callable[..., None] = run
        for add in reversed(added):
            command = add(command)
        return click.command()(command)

    return made


def answer(as_json: bool, row: dict[str, Any], words: str) -> None:
    """Say what a command did: as a JSON array of one row, or in words."""
    return print_json([row]) if as_json else click.echo(printable(words))


def first_option(count: int) -> Option:
    """Add `--limit N`, of which the default is `count`."""
    return click.option(
        "--limit", type=whole(1), default=count, show_default=True, metavar="N", help="The first N only."
    )


verbose_option = options.verbose_option
limit_option = click.option("--limit", type=whole(1), metavar="N", help="The first N only. Default: all.")
session_argument = click.argument("session", required=False)
generation_option = click.option("--generation", type=whole(), metavar="N", help="Of this generation only.")
class_option = click.option("--class", "guards", metavar="NAME", help="That guard this known class only.")
kind_option = click.option(
    "--kind", type=click.Choice(["look_alike", "contextual", "visual"]), help="Of this kind only."
)
status_option = click.option("--status", type=click.Choice(["accepted", "rejected"]), help="With this status only.")
set_option = click.option("--set", "outlier_set", metavar="NAME", help="On this outlier set only.")

"""What the commands of `immuno db` share: how to print, which rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from immuno.cli import options

if TYPE_CHECKING:
    from db import AntibodyStore


Command = TypeVar("Command", bound=Callable[..., Any])


def database_option(function: Command) -> Command:
    """Add `--db URL` and `--json` (as_json), for commands that do something."""
    return options.database_option(options.json_option(function))


def query_options(function: Command) -> Command:
    """Add `--db URL`, `--json` and `--csv` (form), for commands that list something. Of the two the last one counts."""
    as_csv = click.option("--csv", "form", flag_value="csv", help="Print CSV on stdout, and nothing else there.")
    as_json = click.option("--json", "form", flag_value="json", help="Print JSON on stdout, and nothing else there.")
    return options.database_option(as_json(as_csv(function)))


limit_option = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N only. Default: all.")


def first_option(count: int) -> Callable[[Command], Command]:
    """Add `--limit N`, of which the default is `count`."""
    return click.option(
        "--limit", type=click.IntRange(min=1), default=count, show_default=True, metavar="N", help="The first N only."
    )


generation_option = click.option("--generation", type=int, metavar="N", help="Of this generation only.")
class_option = click.option("--class", "guards", metavar="NAME", help="That guard this known class only.")
kind_option = click.option("--kind", type=click.Choice(["look_alike", "contextual"]), help="Of this kind only.")
status_option = click.option("--status", type=click.Choice(["accepted", "rejected"]), help="With this status only.")
set_option = click.option("--set", "outlier_set", metavar="NAME", help="On this outlier set only.")


def session_id(store: AntibodyStore, name: str | None) -> str | None:
    """Return the id of the session of that name, None for None. Raises SetupError where there is none."""
    return None if name is None else store.session(name).id

"""What the commands of `immuno db` share: which database, how to print, which rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from immuno.cli.options import json_option
from immuno.paths import DEFAULT_DATABASE, RUNS

if TYPE_CHECKING:  # SQLAlchemy and rich are loaded by the commands: `--help` is immediate
    from db.store import AntibodyStore

Command = TypeVar("Command", bound=Callable[..., Any])

DEMO_DATABASE = RUNS / "demo" / "immuno.db"

_database = click.option(
    "--db",
    "database",
    metavar="URL",
    envvar="IMMUNO_DB",
    help="Database: an SQLAlchemy URL or a SQLite file. "
    f"Default: $IMMUNO_DB, else {DEFAULT_DATABASE}, else {DEMO_DATABASE}.",
)


def database_option(function: Command) -> Command:
    """Add `--db URL` and `--json` (as_json), for commands that do something."""
    return _database(json_option(function))


def query_options(function: Command) -> Command:
    """Add `--db URL`, `--json` and `--csv` (form), for commands that list something. Of the two the last one counts."""
    as_csv = click.option("--csv", "form", flag_value="csv", help="Print CSV on stdout, and nothing else there.")
    as_json = click.option("--json", "form", flag_value="json", help="Print JSON on stdout, and nothing else there.")
    return _database(as_json(as_csv(function)))


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


def default_database() -> Path:
    """Return the file that is meant where none is named: the one that exists."""
    return DEFAULT_DATABASE if DEFAULT_DATABASE.exists() else DEMO_DATABASE


def open_database(database: str | None, *, read_only: bool = True) -> AntibodyStore:
    """Open the database that is meant."""
    from db.store import open_store

    return open_store(database, default=default_database(), read_only=read_only)


def session_id(store: AntibodyStore, name: str | None) -> str | None:
    """Return the id of the session of that name, None for None. Raises SetupError where there is none."""
    return None if name is None else store.session(name).id

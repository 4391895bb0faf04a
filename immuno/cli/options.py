"""Options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def database_option(command: Command) -> Command:
    """Add `--db URL`."""
    return click.option(
        "--db",
        "database",
        metavar="URL",
        envvar="IMMUNO_DB",
        help="Database: an SQLAlchemy URL or an SQLite file. Default: $IMMUNO_DB, else runs/immuno.db.",
    )(command)


def ray_option(command: Command) -> Command:
    """Add `--ray ADDRESS`."""
    return click.option(
        "--ray",
        "ray_address",
        metavar="ADDRESS",
        envvar="RAY_ADDRESS",
        help="Ray cluster to join: host:port, ray://host:port, auto. Default: $RAY_ADDRESS, else a private local one.",
    )(command)


def json_option(command: Command) -> Command:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else there.")(
        command
    )


def print_json(value: Any) -> None:
    """Print strict JSON on stdout, in ASCII: model texts may hold what a terminal would obey, or cannot show."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))

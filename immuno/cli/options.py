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


def progress_option(command: Command) -> Command:
    """Add `--progress MODE` and `--quiet` (progress). Of the two the last one counts."""
    mode = click.option(
        "--progress",
        type=click.Choice(["rich", "plain", "json", "quiet"]),
        envvar="IMMUNO_PROGRESS",
        help="How progress is shown on stderr: a bar, lines, a JSON object per line, or not at all. "
        "Default: $IMMUNO_PROGRESS, else rich on a terminal and plain elsewhere.",
    )
    quiet = click.option("--quiet", "-q", "progress", flag_value="quiet", help="The same as --progress quiet.")
    return mode(quiet(command))


def json_option(command: Command) -> Command:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else there.")(
        command
    )


def print_json(value: Any) -> None:
    """Print strict JSON on stdout, in ASCII: model texts may hold what a terminal would obey, or cannot show."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))

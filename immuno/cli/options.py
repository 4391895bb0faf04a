"""Options that several commands share."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from immuno_core.errors import SetupError
from immuno_core.paths import DEFAULT_DATABASE, DEMO_DATABASE, default_database, lasting

if TYPE_CHECKING:
    from db import AntibodyStore


Command = TypeVar("Command", bound=Callable[..., Any])
_SQLITE = "sqlite:///"
_SERVING = ("starlette", "uvicorn", "prometheus_client", "python_multipart")


class _OutputFolder(click.Path):
    """A folder that is written: in a Ray job not within the copy of the checkout, which Ray deletes."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return lasting(Path(os.fsdecode(super().convert(value, param, ctx))))


OUTPUT_FOLDER = _OutputFolder()
LARGEST_WHOLE = 2**31 - 1
"""The largest whole number that every database takes."""
LONGEST_SECONDS = 86_400.0


class _Real(click.FloatRange):
    """A number within bounds. NaN, which is not beyond any bound, is refused too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


def whole(least: int = 0, most: int = LARGEST_WHOLE) -> click.IntRange:
    """Return the type of an option that is a whole number from `least` to `most`."""
    return click.IntRange(least, most)


def real(least: float, most: float, *, above: bool = False) -> click.FloatRange:
    """Return the type of an option that is a number from `least` (`above`: more than that) to `most`, both finite."""
    return _Real(least, most, min_open=above)


def database_option(command: Command) -> Command:
    """Add `--db URL`."""
    return click.option(
        "--db",
        "database",
        metavar="URL",
        envvar="IMMUNO_DB",
        callback=lambda _context, _parameter, url: _lasting_database(url),
        help="Database: an SQLAlchemy URL or an SQLite file. "
        f"Default: $IMMUNO_DB, else {DEFAULT_DATABASE}, else (where only that exists) the demo's {DEMO_DATABASE}.",
    )(command)


def open_database(database: str | None, *, read_only: bool = True) -> AntibodyStore:
    """Open the database that is meant by the value of `--db`."""
    from db import open_store

    return open_store(database, default=default_database(), read_only=read_only)


def _lasting_database(url: str | None) -> str | None:
    """The URL, an SQLite file's path so that it outlives a Ray job."""
    if url is None or ("://" in url and not url.startswith(_SQLITE)):
        return url
    if not (named := url.removeprefix(_SQLITE)):
        return url
    path = lasting(Path(named))
    return f"{_SQLITE}{path}" if url.startswith(_SQLITE) else str(path)


@contextmanager
def needs_serving() -> Iterator[None]:
    """Raise SetupError where what is imported here needs a package of the extra `serve` that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _SERVING:
            raise
        raise SetupError("serving needs packages that are not installed: pip install 'immuno-vlm[serve]'") from None


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


verbose_option = click.option("-v", "--verbose", is_flag=True, help="Show all that is recorded, sentences too.")


def print_json(value: Any) -> None:
    """Print strict JSON on stdout, in ASCII: model texts may hold what a terminal would obey, or cannot show."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))

"""`immuno refine`: run or resume a session of the refinement loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from immuno.cli.options import database_option, json_option, print_json, progress_option, ray_option

if TYPE_CHECKING:
    from immuno.workflow import RefineOutcome


@click.group(name="refine")
def command() -> None:
    """Run or resume a session of the refinement loop.

    A session proposes antibodies, measures them on the feedback split, keeps what helps, and revises its prompt, one
    generation after another. Everything is stored as it happens: Ctrl-C loses at most the generation in progress, and
    `resume` goes on from there.
    """


@command.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--session", required=True, metavar="NAME", help="What the session is called in the database.")
@click.option("--seed", type=click.IntRange(min=0), help="Overrides the configuration's seed.")
@click.option("--generations", type=click.IntRange(min=1), help="Overrides refine.generations.")
@database_option
@ray_option
@progress_option
@json_option
def start(
    config: Path,
    session: str,
    seed: int | None,
    generations: int | None,
    database: str | None,
    ray_address: str | None,
    progress: str | None,
    as_json: bool,
) -> None:
    """Start session NAME as CONFIG says."""
    from immuno.config import read_config
    from immuno.workflow import Workplace, refine, with_overrides

    chosen = with_overrides(read_config(config), seed=seed, generations=generations)
    with Workplace.open(chosen, database=database, ray_address=ray_address, progress=progress) as place:
        _show(refine(place, session=session, resume=False), as_json)


@command.command()
@click.argument("session")
@click.option("--generations", type=click.IntRange(min=1), help="Go on to this many generations in all.")
@database_option
@ray_option
@progress_option
@json_option
def resume(
    session: str,
    generations: int | None,
    database: str | None,
    ray_address: str | None,
    progress: str | None,
    as_json: bool,
) -> None:
    """Go on with SESSION where it stopped, with the configuration it was started with."""
    from immuno.workflow import Workplace, refine, stored_config, with_overrides

    chosen = with_overrides(stored_config(session, database=database), generations=generations)
    with Workplace.open(chosen, database=database, ray_address=ray_address, progress=progress) as place:
        _show(refine(place, session=session, resume=True), as_json)


def _show(outcome: RefineOutcome, as_json: bool) -> None:
    from immuno.tables import generations_table, print_table

    if as_json:
        print_json(outcome.as_dict())
    else:
        print_table(generations_table(outcome.generations))

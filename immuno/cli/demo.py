"""`immuno demo`: the whole system on the embedded mini-world."""

from __future__ import annotations

from pathlib import Path

import click

from immuno.cli.options import OUTPUT_FOLDER, json_option, print_json, progress_option, ray_option
from immuno_core.paths import RUNS, shipped_configs


@click.command(name="demo")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the world and of the loop.")
@click.option(
    "--out",
    type=OUTPUT_FOLDER,
    default=RUNS / "demo",
    show_default=True,
    help="Folder for immuno.db, results.json and report.html.",
)
@ray_option
@progress_option
@json_option
def command(seed: int, out: Path, ray_address: str | None, progress: str | None, as_json: bool) -> None:
    """Draw the mini-world, embed it on Ray actors, refine antibodies, then open the sealed test and measure.

    Everything is kept as it happens: stop it with Ctrl-C and run it again, and it goes on where it was.
    """
    from immuno.bench import bench
    from immuno.refine import refine
    from immuno.terminal.results import print_bench, print_table
    from immuno.terminal.sessions import generations_table
    from immuno.workplace import Workplace, with_overrides
    from immuno_core.config.run import read_config

    session = f"demo-seed{seed}"
    config = with_overrides(read_config(shipped_configs() / "miniworld.toml"), seed=seed, session=session)
    database = f"sqlite:///{out / 'immuno.db'}"
    with Workplace.open(config, database=database, ray_address=ray_address, progress=progress) as place:
        refined = refine(place, session=session, resume=None)
        if not as_json:
            print_table(generations_table(refined.generations))
        measured = bench(place, out=out)
    if as_json:
        print_json(measured.results.model_dump())
        return
    print_bench(measured.results)
    click.echo(f"report:   {measured.report}")
    click.echo(f"database: immuno db antibodies {session} --db {out / 'immuno.db'}")

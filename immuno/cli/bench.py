"""`immuno bench`: measure methods on sealed test sets."""

from __future__ import annotations

from pathlib import Path

import click

from immuno.cli.options import database_option, json_option, print_json, ray_option


@click.command(name="bench")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for results.json and report.html. Default: runs/NAME."
)
@click.option("--seed", type=click.IntRange(min=0), help="Overrides the configuration's seed.")
@click.option("--session", metavar="NAME", help="Overrides antibodies.session: the bank of this session is measured.")
@database_option
@ray_option
@json_option
def command(
    config: Path,
    out: Path | None,
    seed: int | None,
    session: str | None,
    database: str | None,
    ray_address: str | None,
    as_json: bool,
) -> None:
    """Measure the methods of CONFIG on its sealed test sets; write results.json and report.html.

    Each run that opens the sealed test is a row in the table test_reads. A run that was measured before, with the same
    configuration, bank and data, is shown again without opening it.
    """
    from immuno.bench import bench
    from immuno.config import read_config
    from immuno.tables import print_table, results_table
    from immuno.workflow import Workplace, with_overrides

    chosen = with_overrides(read_config(config), seed=seed, session=session)
    folder = out or Path("runs") / config.stem
    with Workplace.open(chosen, database=database, ray_address=ray_address) as place:
        outcome = bench(place, out=folder)
    if as_json:
        print_json(outcome.results)
    else:
        print_table(results_table(outcome.rows))
        click.echo(f"report: {outcome.report}", err=True)

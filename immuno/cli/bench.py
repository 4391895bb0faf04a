"""`immuno bench`: measure methods on sealed sets; `demo`, which refines before; `report` and `plot`, drawn again."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

import click

from immuno.cli.options import (
    OUTPUT_FOLDER,
    database_option,
    json_option,
    print_json,
    progress_option,
    ray_option,
    whole,
)
from immuno_core.config.numbers import MOST_SEED
from immuno_core.errors import SetupError
from immuno_core.paths import RUNS

_tell = functools.partial(click.echo, err=True)
_table = click.option(
    "--table", "form", type=click.Choice(["latex", "markdown"]), help="Print the results as a table for a paper."
)


@click.command(name="bench")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", type=OUTPUT_FOLDER, help="Folder for results.json and report.html. Default: runs/NAME.")
@click.option("--seed", type=whole(0, MOST_SEED), help="Overrides the configuration's seed.")
@click.option(
    "--seeds",
    metavar="N,N,...",
    callback=lambda _context, _parameter, text: _seeds(text),
    help="Run once per seed, into OUT/seed-N, and write mean and deviation. {seed} in --session is filled in.",
)
@click.option("--settle", is_flag=True, help="Measure the controls too, and give the verdict on the antibodies.")
@click.option("--session", metavar="NAME", help="Overrides antibodies.session: the bank of this session is measured.")
@click.option("--fresh", is_flag=True, help="Measure anew what OUT holds already. Opens the sealed test once more.")
@_table
@database_option
@ray_option
@progress_option
@json_option
def command(
    config: Path,
    out: Path | None,
    seed: int | None,
    seeds: tuple[int, ...] | None,
    settle: bool,
    session: str | None,
    fresh: bool,
    form: Literal["latex", "markdown"] | None,
    database: str | None,
    ray_address: str | None,
    progress: str | None,
    as_json: bool,
) -> None:
    """Measure the methods of CONFIG on its sealed test sets; write results.json, results.csv and report.html.

    Each run that opens the sealed test is a row in the table test_reads. A run that was measured before, with the same
    configuration, bank, data and code, is shown again without opening it.
    """
    from immuno.bench import SUMMARY_FILE, bench, bench_seeds
    from immuno.terminal.output import print_table
    from immuno.terminal.results import print_bench, seeds_table
    from immuno.workplace import Workplace, with_overrides
    from immuno_core.config.run import read_config

    if seed is not None and seeds is not None:
        raise SetupError("give --seed or --seeds, not both")
    if form is not None and (as_json or seeds is not None):
        raise SetupError(f"give --table or {'--json' if as_json else '--seeds'}, not both")
    chosen, folder = read_config(config), out or RUNS / config.stem
    if seeds is not None:
        summary, runs = bench_seeds(
            chosen,
            seeds,
            session=session,
            out=folder,
            to_settle=settle,
            fresh=fresh,
            tell=_tell,
            database=database,
            ray_address=ray_address,
            progress=progress,
        )
        if as_json:
            verdicts = {number: run.model_dump(include={"verdict"})["verdict"] for number, run in runs.items()}
            print_json({**summary.model_dump(), "verdicts": verdicts})
            return
        print_table(seeds_table(summary))
        for number, run in runs.items():
            if run.verdict.status:
                click.echo(f"verdict, seed {number}: {run.verdict.status}")
        click.echo(f"summary: {folder / SUMMARY_FILE}", err=True)
        return
    chosen = with_overrides(chosen, seed=seed, session=session)
    with Workplace.open(chosen, database=database, ray_address=ray_address, progress=progress) as place:
        results = bench(place, out=folder, to_settle=settle, fresh=fresh, tell=_tell)
    if as_json:
        print_json(results.model_dump())
        return
    if form is not None:
        click.echo(results.table(form))
    else:
        print_bench(results)
    click.echo(f"report: {results.page}", err=True)


def _seeds(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) < 2 or len(set(found)) < len(found) or min(found) < 0 or max(found) > MOST_SEED:
        raise SetupError(f"--seeds {text}: give two or more different seeds from 0 to {MOST_SEED}, such as 0,1,2")
    return found


@click.command(name="demo")
@click.option("--seed", type=whole(0, MOST_SEED), default=0, show_default=True, help="Of the world and of the loop.")
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
def demo(seed: int, out: Path, ray_address: str | None, progress: str | None, as_json: bool) -> None:
    """Draw the mini-world, embed it on Ray actors, refine antibodies, then open the sealed test and measure.

    Everything is kept as it happens: stop it with Ctrl-C and run it again, and it goes on where it was.
    """
    from immuno.bench import bench
    from immuno.refine import refine
    from immuno.terminal.generations import print_generations
    from immuno.terminal.results import print_bench
    from immuno.workplace import Workplace, with_overrides
    from immuno_core.config.run import read_config
    from immuno_core.paths import shipped_configs

    session = f"demo-seed{seed}"
    config = with_overrides(read_config(shipped_configs() / "miniworld.toml"), seed=seed, session=session)
    database = f"sqlite:///{out / 'immuno.db'}"
    with Workplace.open(config, database=database, ray_address=ray_address, progress=progress) as place:
        refined = refine(place, session=session, resume=None)
        if not as_json:
            print_generations(refined.generations)
        results = bench(place, out=out, tell=_tell)
    if as_json:
        print_json(results.model_dump())
        return
    print_bench(results)
    click.echo(f"report:   {results.page}")
    click.echo(f"database: immuno db antibodies {session} --db {out / 'immuno.db'}")


@click.command(name="report")
@click.argument("folder", type=click.Path(path_type=Path))
@_table
@json_option
def report(folder: Path, form: Literal["latex", "markdown"] | None, as_json: bool) -> None:
    """Draw FOLDER/report.html again from FOLDER/results.json and FOLDER/scores.npz.

    With --table nothing is drawn: the results are printed.
    """
    from evaluation.report import render_report
    from immuno.results import Results

    if form is not None:
        click.echo(Results.read(folder).table(form))
        return
    page = render_report(folder)
    if as_json:
        print_json({"report": str(page)})
    else:
        click.echo(page)


@click.command(name="plot")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=OUTPUT_FOLDER, help="Folder for the files. Default: FOLDER/plots.")
@click.option(
    "--format",
    "forms",
    type=click.Choice(["png", "svg", "pdf"]),
    multiple=True,
    help="Of this format only; may be given again. Default: all three.",
)
@json_option
def plot(folder: Path, out: Path | None, forms: tuple[Literal["png", "svg", "pdf"], ...], as_json: bool) -> None:
    """Draw the figures of FOLDER (where `bench` wrote its results) as files, for papers and slides.

    FPR95 by generation, ROC curves, gain and harm of the antibodies, and a map of classes, antibodies and images; as
    far as the run has them.
    """
    from evaluation.report import write_plots
    from evaluation.report.plots import FORMS

    written = write_plots(folder, out, forms or FORMS)
    if as_json:
        print_json({name: [str(path) for path in paths] for name, paths in written.items()})
        return
    for paths in written.values():
        for path in paths:
            click.echo(path)

"""`immuno embed`: fill the embedding store, check it, prune it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from immuno.cli.options import database_option, json_option, print_json, progress_option, ray_option, whole
from immuno_core.config.numbers import MOST_SEED
from immuno_core.errors import SetupError

if TYPE_CHECKING:
    from cluster.store.upkeep import Problem
    from immuno_core.config.run import RunConfig


_MOST_SHOWN = 10


@click.command(name="embed")
@click.argument("configs", metavar="[CONFIG]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--test", is_flag=True, help="Embed the sealed test sets too; opening them is recorded in test_reads.")
@click.option("--check", is_flag=True, help="Verify what is stored, of CONFIG or of the whole store; embed nothing.")
@click.option("--gc", is_flag=True, help="Delete what no CONFIG needs; without CONFIG, what nobody can need.")
@click.option("--dry-run", is_flag=True, help="With --gc: only show it.")
@click.option("--yes", is_flag=True, help="With --gc: do not ask.")
@click.option("--store", metavar="PLACE", help="With --check or --gc and no CONFIG: the store's folder or URL.")
@click.option("--seed", type=whole(0, MOST_SEED), help="Overrides the configuration's seed.")
@database_option
@ray_option
@progress_option
@json_option
def command(
    configs: tuple[Path, ...],
    test: bool,
    check: bool,
    gc: bool,
    dry_run: bool,
    yes: bool,
    store: str | None,
    seed: int | None,
    database: str | None,
    ray_address: str | None,
    progress: str | None,
    as_json: bool,
) -> int:
    """Embed the images of CONFIG's fit and feedback sets into the embedding store (docs/store.md).

    What is stored is not embedded again; after a stop or an error the same command goes on from there. With --check the
    exit status is 1 where something is damaged; the next run embeds it again.
    """
    from immuno.workplace import with_overrides
    from immuno_core.config.run import read_config

    _agree(configs, test=test, check=check, gc=gc, only_gc=dry_run or yes, store=store)
    read = [(path, with_overrides(read_config(path), seed=seed)) for path in configs]
    if gc:
        return _prune([config for _, config in read], store, dry_run=dry_run, yes=yes, as_json=as_json)
    if check:
        return _check(read, as_json) if read else _check_store(store, as_json)
    return _fill(read, test, database, ray_address, progress, as_json)


def _agree(configs: Sequence[Path], *, test: bool, check: bool, gc: bool, only_gc: bool, store: str | None) -> None:
    if check and gc:
        raise SetupError("give --check or --gc, not both")
    if test and (check or gc):
        raise SetupError("--test goes with embedding; --check and --gc look at the stored test sets in any case")
    if only_gc and not gc:
        raise SetupError("--dry-run and --yes go with --gc")
    if store is not None and (configs or not (check or gc)):
        raise SetupError("--store goes with --check or --gc without CONFIG; else set [cluster] store in CONFIG")
    if not configs and not (check or gc):
        raise SetupError("name a configuration, as in: immuno embed configs/miniworld.toml")


def _fill(
    read: Sequence[tuple[Path, RunConfig]],
    test: bool,
    database: str | None,
    ray_address: str | None,
    progress: str | None,
    as_json: bool,
) -> int:
    from immuno.embed import fill
    from immuno.terminal.output import print_rows

    sets = []
    for path, config in read:
        filled = fill(config, test=test, database=database, ray_address=ray_address, progress=progress)
        sets += [(path, one) for one in filled]
    embedded = sum(one.embedded for _, one in sets)
    if as_json:
        rows = [{"config": str(path), **asdict(one)} for path, one in sets]
        print_json({"embedded": embedded, "sets": rows})
        return 0
    heads = ("set", "split", "images", "stored", "embedded", "quarantined", "size")
    cells = [
        (
            one.name,
            one.split,
            one.images,
            one.images - one.embedded,
            one.embedded,
            len(one.quarantined),
            _size(one.bytes),
        )
        for _, one in sets
    ]
    print_rows(heads, cells, "sets")
    click.echo(f"{embedded} image(s) embedded" if embedded else "nothing to do: every image was stored", err=True)
    return 0


def _check(read: Sequence[tuple[Path, RunConfig]], as_json: bool) -> int:
    from immuno.embed import check
    from immuno.terminal.output import print_rows

    sets = [(path, one) for path, config in read for one in check(config)]
    if as_json:
        rows = [
            {"config": str(path), "name": one.name, "split": one.split, "images": one.images, "shards": one.shards}
            | asdict(one.found)
            for path, one in sets
        ]
        damaged = any(one.found.damaged for _, one in sets)
        print_json({"damaged": damaged, "sets": rows})
        return int(damaged)
    cells = []
    for _, one in sets:
        states = [problem.state for problem in one.found.problems]
        counts = [states.count("missing"), states.count("damaged"), states.count("foreign")]
        cells.append((one.name, one.split, one.images, one.shards, one.found.files, *counts, _size(one.found.bytes)))
    heads = ("set", "split", "images", "shards", "whole", "missing", "damaged", "foreign", "size")
    print_rows(heads, cells, "sets")
    # What is missing is counted by the table.
    return _tell([problem for _, one in sets for problem in one.found.problems if problem.state != "missing"])


def _check_store(place: str | None, as_json: bool) -> int:
    from immuno.embed import check_all

    store, found = check_all(place)
    if as_json:
        print_json({"damaged": found.damaged, "store": store.place, **asdict(found)})
        return int(found.damaged)
    click.echo(f"{store.place}: {found.files} file(s) are whole, {_size(found.bytes)}")
    return _tell(found.problems)


def _tell(problems: Sequence[Problem]) -> int:
    """Name what is wrong on standard error; return the exit status: 1 where something is damaged."""
    for state in ("damaged", "foreign", "missing"):
        found = [problem for problem in problems if problem.state == state]
        for problem in found[:_MOST_SHOWN]:
            click.echo(f"{state}: {problem.name} ({problem.reason})", err=True)
        if len(found) > _MOST_SHOWN:
            click.echo(f"... and {len(found) - _MOST_SHOWN} more that are {state} (--json has all)", err=True)
    damaged = any(problem.state == "damaged" for problem in problems)
    if damaged:
        click.echo("what is damaged is never used: the next immuno embed CONFIG embeds it again", err=True)
    return int(damaged)


def _prune(configs: Sequence[RunConfig], place: str | None, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    from cluster.store.upkeep import delete
    from immuno.embed import prunable
    from immuno.terminal.output import print_rows

    store, found = prunable(configs, place)
    size = sum(one.size for one in found)
    what = f"{len(found)} file(s), {_size(size)}"
    if not as_json:
        sizes: dict[str, list[int]] = {}
        for one in found:
            sizes.setdefault(one.why, []).append(one.size)
        rows = [(why, len(of_why), _size(sum(of_why))) for why, of_why in sorted(sizes.items())]
        print_rows(("why", "files", "size"), rows, "files to delete")
    if found and not (dry_run or yes):
        if as_json or not sys.stdin.isatty():
            raise SetupError("--gc deletes: give --yes, or --dry-run to see what it would delete")
        click.confirm(f"delete {what}, from {store.place}?", abort=True)
    if not dry_run:
        delete(store, found)
    if as_json:
        files = [one._asdict() for one in found]
        print_json({"store": store.place, "deleted": not dry_run, "bytes": size, "files": files})
    else:
        click.echo(f"{'would delete' if dry_run else 'deleted'} {what}, of {store.place}", err=True)
    return 0


def _size(count: int) -> str:
    """Write a number of bytes as people read it, in decimal units."""
    from rich.filesize import decimal

    return decimal(count)

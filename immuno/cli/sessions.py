"""`immuno refine list`, `show`, `stop`, `prompts`, `compare`, `record`: sessions looked at, stopped and taken along."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Group
from rich.text import Text

from immuno.cli.options import database_option, json_option, open_database, print_json, ray_option, verbose_option
from immuno.terminal.output import cell, percentage, plain_table, print_table

if TYPE_CHECKING:
    from immuno.compare import Comparison


def print_comparison(found: Comparison) -> None:
    """Print what `immuno refine compare` found: the banks, their spread, and the pairs."""
    measures = ("antibodies", "mean FPR95", "worst FPR95", "AUROC", "ID accuracy")
    banks = plain_table("Banks, on the same feedback images (per cent)", ("session", "model"), measures)
    for one in found.banks:
        shares = (one.mean_fpr95, one.worst_fpr95, one.mean_auroc, one.id_accuracy)
        banks.add_row(cell(one.session), cell(one.llm or ""), str(one.antibodies), *map(percentage, shares))
    banks.add_section()
    banks.add_row("mean ± sd", "", "", *(_spread(one) for one in found.spread.values()))
    likenesses = ("texts", "embeddings", "nearest cosine", "outliers hit", "known hit")
    pairs = plain_table("How alike they are (per cent)", ("pair",), likenesses)
    for pair in found.pairs:
        alike = pair.alikeness
        overlaps = (alike.text, alike.embedding, alike.nearest, alike.firing_outliers, alike.firing_known)
        pairs.add_row(cell(f"{pair.one} / {pair.other}"), *map(percentage, overlaps))
    print_table(Group(banks, Text(""), pairs))


def _spread(values: tuple[float, float | None]) -> str:
    mean, sd = values
    return percentage(mean) + ("" if sd is None else f" ± {100 * sd:.1f}")


@click.command(name="list")
@database_option
@json_option
def list_sessions(database: str | None, as_json: bool) -> None:
    """List the sessions: model, generations, best result, cost."""
    from immuno.terminal.sessions import print_sessions, session_lines

    with open_database(database) as store:
        lines = session_lines(store.sessions(), store.generations())
    if as_json:
        print_json([line.as_dict() for line in lines])
    else:
        print_sessions(lines)


@click.command()
@click.argument("session")
@verbose_option
@database_option
@json_option
def show(session: str, verbose: bool, database: str | None, as_json: bool) -> None:
    """Show SESSION: its generations, what they cost, and what helped and harmed most.

    One line a generation; with -v also each feedback set, the cost of each, and the decisions in full.
    """
    from immuno.terminal.sessions import print_session, session_view

    with open_database(database) as store:
        view = session_view(store, store.session(session))
    if as_json:
        print_json(view.as_dict())
    else:
        print_session(view, verbose=verbose)


@click.command()
@click.argument("session")
@database_option
@json_option
def stop(session: str, database: str | None, as_json: bool) -> None:
    """Ask SESSION to end after the generation in progress.

    It may run on another machine: the request goes through the database.
    """
    from db.claims import ask_to_stop, session_work
    from immuno_core.errors import SetupError

    with open_database(database) as store:
        record = store.session(session)
    if record.status != "running":
        raise SetupError(f"session '{session}' is {record.status}, not running: there is nothing to stop")
    # To write only now: to a database that is not there, no empty one is made.
    with open_database(database, read_only=False) as store:
        ask_to_stop(store.engine, session_work(record.id))
    if as_json:
        print_json({"session": session, "asked": True})
    else:
        click.echo(f"session '{session}' is asked to end after its generation; then: immuno refine resume {session}")


@click.command()
@click.argument("session")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@database_option
@json_option
def record(session: str, file: Path, database: str | None, as_json: bool) -> None:
    """Write the calls of SESSION into FILE, a .jsonl that `llm = "replay:FILE"` answers from.

    A session with that model, the same configuration, seed and data repeats SESSION without any server. The file holds
    prompts and replies, no key and no address.
    """
    from agents import REVIEW_STEP, RecordedCall, write_recording
    from immuno_core.errors import SetupError

    with open_database(database) as store:
        calls = store.llm_calls(store.session(session).id)
    recorded = [RecordedCall.of(one) for one in calls if one.reply_text is not None and one.step != REVIEW_STEP]
    if not recorded:
        raise SetupError(f"session '{session}' has made no call yet")
    write_recording(file, recorded)
    if as_json:
        print_json({"file": str(file), "calls": len(recorded)})
    else:
        click.echo(f"{len(recorded)} calls of '{session}' written to {file}; replay with: llm = \"replay:{file}\"")


@click.command()
@click.argument("session")
@verbose_option
@database_option
@json_option
def prompts(session: str, verbose: bool, database: str | None, as_json: bool) -> None:
    """Show how the prompt of SESSION evolved: each version of its guideline, what it changed, and what it measured.

    `change` is that of the mean FPR95 on the half of the feedback that confirms, over the generations that tried the
    version: below 0 is better. Lines that differ by numbers alone are left out; -v shows the whole of each change.
    """
    from agents import prompt_tree, reflection_pays
    from immuno.terminal.sessions import print_prompts, prompt_rows

    with open_database(database) as store:
        found = store.session(session)
        generations = store.generations(found.id)
        tree = prompt_tree(generations, store.prompts(found.id))
    if as_json:
        print_json(prompt_rows(tree))
    else:
        print_prompts(tree, verbose=verbose)
        if not reflection_pays(generations):
            click.echo("no better guideline is asked for any more: those that were tried brought nothing that was kept")


@click.command()
@click.argument("sessions", nargs=-1, required=True, metavar="SESSION SESSION...")
@database_option
@ray_option
@json_option
def compare(sessions: tuple[str, ...], database: str | None, ray_address: str | None, as_json: bool) -> None:
    """Compare the best banks of two or more sessions, on the same feedback images.

    How alike they are in words, in embeddings and in the images they fire on, what each does, and how much that varies:
    whether it matters which chat model wrote a bank. Measured with the score of the first session that is no imported
    bank, on its data.
    """
    from immuno.compare import compare as measure_all
    from immuno.workplace import Workplace, stored_config
    from immuno_core.errors import SetupError

    if len(set(sessions)) < max(2, len(sessions)):
        raise SetupError("name two different sessions or more, as in: immuno refine compare FIRST SECOND")
    chosen = stored_config(*sessions, database=database)
    with Workplace.open(chosen, database=database, ray_address=ray_address) as place:
        found = measure_all(place, [place.store.session(name) for name in sessions])
    if as_json:
        print_json(found.as_dict())
    else:
        print_comparison(found)


COMMANDS = (list_sessions, show, prompts, stop, record, compare)

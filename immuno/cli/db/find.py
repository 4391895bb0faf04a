"""`immuno db top`, `nearest`, `lineage`, `diff`, `verdicts`, `stats`: questions to the database."""

from __future__ import annotations

from typing import Any

import click

from immuno.cli.db.options import (
    class_option,
    first_option,
    generation_option,
    kind_option,
    query_options,
    session_id,
    set_option,
    status_option,
)
from immuno.cli.options import open_database
from immuno.terminal.output import Form, decimals, print_records, print_rows, show


@click.command()
@click.argument("session", required=False)
@click.option(
    "--scope",
    type=click.Choice(["solo", "leave_one_out"]),
    default="solo",
    show_default=True,
    help="Its effect alone, or what the bank loses without it.",
)
@generation_option
@set_option
@class_option
@kind_option
@click.option("--min-gain", type=float, metavar="SHARE", help="With at least this mean gain.")
@click.option("--max-harm", type=float, metavar="SHARE", help="With at most this mean harm.")
@first_option(20)
@query_options
def top(
    session: str | None,
    scope: Any,
    generation: int | None,
    outlier_set: str | None,
    guards: str | None,
    kind: Any,
    min_gain: float | None,
    max_harm: float | None,
    limit: int,
    database: str | None,
    form: Form,
) -> None:
    """List the antibodies with the most gain.

    Of SESSION, or of all sessions. Of equal gain, the one with the least harm comes first. Gain and harm are means over
    the outlier sets and generations in which the antibody was measured (--generation: in that one only).
    """
    from db.questions.ranking import RankedAntibody, top

    with open_database(database) as store:
        found = top(
            store,
            session_id(store, session),
            scope=scope,
            generation=generation,
            outlier_set=outlier_set,
            guards=guards,
            kind=kind,
            min_gain=min_gain,
            max_harm=max_harm,
            limit=limit,
        )
    heads = ("session", "generation", "kind", "guards", "text", "gain", "harm", "dFPR95", "measured", "id")

    def cells(a: RankedAntibody) -> tuple[Any, ...]:
        means = decimals(a.gain), decimals(a.harm), decimals(a.d_fpr95, "+")
        return a.session, a.generation, a.kind, a.guards, a.text, *means, a.measured, a.id

    return show(form, RankedAntibody, found, heads, cells, "measured antibodies")


@click.command()
@click.argument("antibody", metavar="TEXT|ID")
@click.option("--session", metavar="NAME", help="Among those of this session only.")
@class_option
@kind_option
@status_option
@first_option(10)
@query_options
def nearest(
    antibody: str,
    session: str | None,
    guards: str | None,
    kind: Any,
    status: Any,
    limit: int,
    database: str | None,
    form: Form,
) -> None:
    """List the antibodies nearest to one that is stored.

    It is named by its whole text, or by its id. Nearest by the cosine of their text embeddings, as they were proposed,
    of one encoder. No model is loaded: a text that is not stored cannot be embedded here.
    """
    from db.questions.nearest import Among, Neighbour, nearest

    with open_database(database) as store:
        among = Among(session_id=session_id(store, session), guards=guards, kind=kind, status=status)
        found = nearest(store, antibody, among, limit=limit)
    heads = ("similarity", "session", "generation", "status", "kind", "guards", "text", "id")

    def cells(n: Neighbour) -> tuple[Any, ...]:
        return decimals(n.similarity), n.session, n.generation, n.status, n.kind, n.guards, n.text, n.id

    return show(form, Neighbour, found, heads, cells, "other antibodies with an embedding")


@click.command()
@click.argument("what", metavar="SESSION:N|ID|TEXT")
@query_options
def lineage(what: str, database: str | None, form: Form) -> None:
    """Show where something comes from, and what came of it.

    A generation (SESSION:N, SESSION for its best one, or its id), a prompt (its id) or an antibody (its id or its whole
    text): its parents up to the root, at distances below 0, and its children, above 0.
    """
    from db.questions.lineage import Relative, lineage

    with open_database(database) as store:
        found = lineage(store, what)
    heads = ("distance", "what", "session", "number", "text", "id")

    def cells(r: Relative) -> tuple[Any, ...]:
        return f"{r.distance:+d}" if r.distance else "0", r.what, r.session, r.number, r.text, r.id

    return show(form, Relative, found, heads, cells, "relatives")


@click.command()
@click.argument("before")
@click.argument("after")
@query_options
def diff(before: str, after: str, database: str | None, form: Form) -> None:
    """Show what changed between two generations.

    BEFORE and AFTER are SESSION:N, or SESSION for its best generation. Antibodies in force that were added, removed and
    kept (the same text for the same class), then the metrics.
    """
    from db.questions.diff import diff

    with open_database(database) as store:
        found = diff(store, before, after)
    columns = ("change", "name", "kind", "guards", "id", "before", "after")
    changes = (("added", found.added), ("removed", found.removed), ("kept", found.kept))
    rows: list[tuple[Any, ...]] = [
        (change, one.text, one.kind, one.guards, one.id, None, None) for change, some in changes for one in some
    ]
    rows += [("metric", one.name, None, None, None, one.before, one.after) for one in found.metrics]
    if form is not None:
        return print_records(form, columns, (dict(zip(columns, row, strict=True)) for row in rows))
    first, second = (f"{one.session}:{one.number}" for one in (found.before, found.after))
    counts = ", ".join(f"{len(some)} {change}" for change, some in changes)
    click.echo(f"{first} to {second}: {counts}")
    shown = [(*row[:4], decimals(row[5]), decimals(row[6])) for row in rows]
    return print_rows(("change", "name", "kind", "guards", "before", "after"), shown, "differences")


@click.command()
@click.argument("sample")
@click.argument("session", required=False)
@click.option("--set", "set_name", metavar="NAME", help="In this feedback set only.")
@query_options
def verdicts(sample: str, session: str | None, set_name: str | None, database: str | None, form: Form) -> None:
    """List which generations accepted SAMPLE.

    SAMPLE is its path in its set. By the generations of SESSION, or of all sessions; with its score, the known class it
    is nearest to, and the antibody that spoke loudest against it.
    """
    from db.questions.judging import Judgement, judgements

    with open_database(database) as store:
        found = judgements(store, sample, session_id(store, session), set_name=set_name)
    heads = ("session", "generation", "set", "accepted", "score", "nearest class", "nearest antibody")

    def cells(j: Judgement) -> tuple[Any, ...]:
        accepted = "yes" if j.accepted else "no"
        return j.session, j.generation, j.set_name, accepted, decimals(j.score), j.nearest_class, j.nearest_antibody

    return show(form, Judgement, found, heads, cells, "verdicts")


@click.command()
@click.argument("session", required=False)
@query_options
def stats(session: str | None, database: str | None, form: Form) -> None:
    """Count what is stored.

    In the whole database, or for SESSION.
    """
    from db.questions.stats import Stat, stats

    with open_database(database) as store:
        found = stats(store, session_id(store, session))
    return show(form, Stat, found, ("what", "number"), lambda one: (one.name, one.number), "numbers")


COMMANDS = (top, nearest, lineage, diff, verdicts, stats)

"""`immuno db top`, `nearest`, `lineage`, `diff`, `verdicts`, `stats`, `sql`: questions to the database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from immuno.cli.db.options import (
    class_option,
    first_option,
    generation_option,
    kind_option,
    query,
    session_argument,
    set_option,
    status_option,
    verbose_option,
)
from immuno.cli.options import LONGEST_SECONDS, real
from immuno.terminal.output import Form, decimals, print_records, print_rows, show

if TYPE_CHECKING:
    from db import AntibodyStore


@query(
    session_argument,
    click.option(
        "--scope",
        type=click.Choice(["solo", "leave_one_out"]),
        default="solo",
        show_default=True,
        help="Its effect alone, or what the bank loses without it.",
    ),
    generation_option,
    set_option,
    class_option,
    kind_option,
    click.option("--min-gain", type=real(0, 1), metavar="SHARE", help="With at least this mean gain."),
    click.option("--max-harm", type=real(0, 1), metavar="SHARE", help="With at most this mean harm."),
    first_option(20),
)
def top(store: AntibodyStore, form: Form, session: str | None, **which: Any) -> None:
    """List the antibodies with the most gain.

    Of SESSION, or of all sessions. Of equal gain, the one with the least harm comes first. Gain and harm are means over
    the outlier sets and generations in which the antibody was measured (--generation: in that one only).
    """
    from db.questions.ranking import RankedAntibody, top

    columns = "session, generation, kind, guards, text, gain, harm, dFPR95: d_fpr95, measured, id"
    show(
        form,
        "measured antibodies",
        RankedAntibody,
        top(store, session, **which),
        columns,
        text=lambda one: one.described,
    )


@query(
    click.argument("antibody", metavar="TEXT|ID"),
    click.option("--session", metavar="NAME", help="Among those of this session only; its encoder embeds TEXT."),
    click.option(
        "--config", type=click.Path(path_type=Path), metavar="FILE", help="Whose encoder embeds a TEXT not stored."
    ),
    class_option,
    kind_option,
    status_option,
    first_option(10),
)
def nearest(
    store: AntibodyStore,
    form: Form,
    antibody: str,
    session: str | None,
    config: Path | None,
    limit: int,
    **which: Any,
) -> None:
    """List the antibodies nearest to one that is stored, or to any text.

    By the cosine of their embeddings, as they were proposed, of one encoder. A stored one is named by its whole text or
    its id, and no model is loaded. Any other text is embedded by the encoder of --config, else of --session.
    """
    from db.questions.nearest import Among, Neighbour, is_stored, nearest, nearest_to_vector

    among = Among(session, **which)
    if (config is None and session is None) or is_stored(store, antibody):
        found = nearest(store, antibody, among, limit=limit)
    else:
        from db.questions.listing import session_by_id
        from immuno.meaning import Meaning, config_of
        from immuno_core.config.run import read_config

        sessions = store.sessions() if session is None else (session_by_id(store, session),)
        meaning = Meaning(config_of(sessions[0]) if config is None else read_config(config))
        digest = meaning.digest_in(tuple(one.encoder.digest for one in sessions))
        found = nearest_to_vector(store, meaning.vector(antibody), digest, among, limit=limit)
    columns = "similarity, session, generation, status, kind, guards, text, id"
    show(form, "other antibodies with an embedding", Neighbour, found, columns)


@query(click.argument("what", metavar="SESSION:N|ID|TEXT"), verbose_option)
def lineage(store: AntibodyStore, form: Form, what: str, verbose: bool) -> None:
    """Show where something comes from, and what came of it.

    A generation (SESSION:N, SESSION for its best one, or its id), a prompt (its id) or an antibody (its id or its whole
    text): its parents up to the root, at distances below 0, and its children, above 0. -v adds why a generation was
    kept or not.
    """
    from db.questions.lineage import Relative, lineage
    from immuno.terminal.generations import cells

    def distance(r: Relative) -> str:
        return f"{r.distance:+d}" if r.distance else "0"

    def text(r: Relative) -> str:
        # Of a generation: what was decided, and by which prompt; the sentence that follows is its reason.
        return r.text.partition(": ")[0] if r.what == "generation" and not verbose else r.text

    found = lineage(store, what)
    figures: dict[str, dict[str, str]] = {}
    for name in dict.fromkeys(r.session for r in found if r.what == "generation"):
        figures |= {one.id: cells(one) for one in store.generations(store.session(name).id)}

    def figure(head: str) -> Callable[[Relative], str | None]:
        return lambda r: figures.get(r.id, {}).get(head)

    columns = "distance, what, session, number, text, FPR95, AUROC, id"
    shown: dict[str, Callable[[Relative], str | None]] = {head: figure(head) for head in ("FPR95", "AUROC")}
    show(form, "relatives", Relative, found, columns, distance=distance, text=text, **shown)


@query(click.argument("before"), click.argument("after"))
def diff(store: AntibodyStore, form: Form, before: str, after: str) -> None:
    """Show what changed between two generations.

    BEFORE and AFTER are SESSION:N, or SESSION for its best generation. Antibodies in force that were added, removed and
    kept (the same text for the same class, or the same samples), then the metrics.
    """
    from db.questions.diff import diff

    found = diff(store, before, after)
    columns = ("change", "name", "kind", "guards", "id", "before", "after")
    changes = (("added", found.added), ("removed", found.removed), ("kept", found.kept))
    rows: list[tuple[Any, ...]] = [
        (change, one.described, one.kind, one.guards, one.id, None, None) for change, some in changes for one in some
    ]
    rows += [("metric", one.name, None, None, None, one.before, one.after) for one in found.metrics]
    if form is not None:
        return print_records(form, columns, (dict(zip(columns, row, strict=True)) for row in rows))
    first, second = (f"{one.session}:{one.number}" for one in (found.before, found.after))
    counts = ", ".join(f"{len(some)} {change}" for change, some in changes)
    click.echo(f"{first} to {second}: {counts}")
    shown = [(*row[:4], decimals(row[5]), decimals(row[6])) for row in rows]
    return print_rows(("change", "name", "kind", "guards", "before", "after"), shown, "differences")


@query(
    click.argument("sample"),
    session_argument,
    click.option("--set", "set_name", metavar="NAME", help="In this feedback set only."),
)
def verdicts(store: AntibodyStore, form: Form, sample: str, session: str | None, set_name: str | None) -> None:
    """List which generations accepted SAMPLE.

    SAMPLE is its path in its set. By the generations of SESSION, or of all sessions; with its score, the known class it
    is nearest to, and the antibody that spoke loudest against it.
    """
    from db.questions.judging import Judgement, judgements

    found = judgements(store, sample, session, set_name=set_name)
    columns = (
        "session, generation, set: set_name, accepted, score, nearest class: nearest_class, "
        "nearest antibody: nearest_antibody"
    )
    show(form, "verdicts", Judgement, found, columns)


@query(session_argument)
def stats(store: AntibodyStore, form: Form, session: str | None) -> None:
    """Count what is stored.

    In the whole database, or for SESSION.
    """
    from db.questions.stats import Stat, stats

    show(form, "numbers", Stat, stats(store, session), "what: name, number")


@query(
    click.argument("query"),
    first_option(1000),
    click.option(
        "--seconds",
        type=real(0, LONGEST_SECONDS, above=True),
        default=10.0,
        show_default=True,
        help="Stop a query that takes longer.",
    ),
)
def sql(store: AntibodyStore, form: Form, query: str, limit: int, seconds: float) -> None:
    """Run one SELECT, read-only.

    The tables are in docs/schema.md. Nothing but reading is let through: no write, no ATTACH, no PRAGMA.
    """
    from db.questions.sql import run_sql

    answer = run_sql(store, query, seconds=seconds, limit=limit)
    if form is None:
        print_rows(answer.columns, answer.rows, "rows")
    else:
        print_records(form, answer.columns, (dict(zip(answer.columns, row, strict=True)) for row in answer.rows))
    if answer.more:
        click.echo(f"there are more rows; --limit {limit} shows the first only", err=True)


COMMANDS = (top, nearest, lineage, diff, verdicts, stats, sql)

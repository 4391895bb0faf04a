"""`immuno db sql`: any question that can be asked in SQL, and none that changes anything."""

from __future__ import annotations

import click

from immuno.cli.db.options import first_option, query_options
from immuno.cli.options import open_database
from immuno.terminal.output import Form, print_records, print_rows


@click.command()
@click.argument("query")
@first_option(1000)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Stop a query that takes longer.",
)
@query_options
def sql(query: str, limit: int, seconds: float, database: str | None, form: Form) -> None:
    """Run one SELECT, read-only.

    The tables are in docs/schema.md. Nothing but reading is let through: no write, no ATTACH, no PRAGMA.
    """
    from db.questions.sql import run_sql

    with open_database(database) as store:
        answer = run_sql(store, query, seconds=seconds, limit=limit)
    if form is None:
        print_rows(answer.columns, answer.rows, "rows")
    else:
        print_records(form, answer.columns, (dict(zip(answer.columns, row, strict=True)) for row in answer.rows))
    if answer.more:
        click.echo(f"there are more rows; --limit {limit} shows the first only", err=True)

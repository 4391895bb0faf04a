"""How `immuno db` prints its answers: tables for people, strict JSON, and CSV that a spreadsheet may open.

The texts come from language models and file names: in tables and CSV, whatever could steer a terminal is written out;
JSON is ASCII, and loses nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

import click

from immuno_core.text import printable, safe_cell

if TYPE_CHECKING:
    from rich.text import Text

Form = Literal["json", "csv"] | None
"""What a query prints: None is a table."""
_WIDTH_OF_PIPES = 160
_NARROWEST_COLUMN = 9


def show(
    form: Form, what: str, record: type, records: Sequence[Any], columns: str, **cells: Callable[[Any], Any]
) -> None:
    """Print records (dataclasses of type `record`): all their fields, or a table.

    `columns` lists the table's as "head, head: field, ..."; `cells` has functions for heads that are no plain field.
    """
    if form is not None:
        return print_records(form, [field.name for field in fields(record)], (asdict(one) for one in records))
    places = [(head, path or head) for head, _, path in (part.partition(": ") for part in columns.split(", "))]
    rows = [
        [cells[head](one) if head in cells else _cell(attrgetter(path)(one), path) for head, path in places]
        for one in records
    ]
    return print_rows([head for head, _ in places], rows, what)


def _cell(value: Any, field: str) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return decimals(value, "+" if field.startswith("d_") else "")
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else value


def print_records(form: Literal["json", "csv"], columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Print rows, whose keys are the columns, as JSON or CSV."""
    return print_json(rows) if form == "json" else _print_csv(columns, rows)


def print_json(rows: Iterable[dict[str, Any]]) -> None:
    """Print strict JSON in ASCII: whatever a model wrote, it is valid, and cannot steer a terminal."""
    from db.schema.types import to_json

    click.echo(json.dumps([to_json(_with_text_times(row)) for row in rows], indent=2, allow_nan=False))


def _with_text_times(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in row.items()}


def _print_csv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Print one line for each row, whatever is in its texts; lists and mappings as JSON, nothing for None."""
    from db.schema.types import to_json

    def written(value: Any) -> Any:
        if isinstance(value, dict | list | tuple):
            return json.dumps(to_json(value), allow_nan=False)
        return safe_cell(printable(value)) if isinstance(value, str) else value

    content = io.StringIO(newline="")
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow([written(column) for column in columns])
    writer.writerows([written(row[column]) for column in columns] for row in map(_with_text_times, rows))
    click.echo(content.getvalue(), nl=False)


def print_rows(heads: Sequence[str], rows: Sequence[Sequence[Any]], what: str) -> None:
    """Print a table; where the terminal is too narrow for its columns, a block of lines for each row.

    Columns with nothing in them are left out; one session that all rows share becomes the title.
    """
    if not rows:
        return click.echo(f"no {what}", err=True)
    columns = {
        printable(head): ["" if cell is None else printable(str(cell)) for cell in cells]
        for head, cells in zip(heads, zip(*rows, strict=True), strict=True)
    }
    title = None
    if what != "sessions" and len(columns) > 1 and len(set(columns.get("session", []))) == 1:
        title = f"session {columns.pop('session')[0]}"
    return _print_columns(title, {head: cells for head, cells in columns.items() if any(cells)})


def _print_columns(title: str | None, columns: Mapping[str, Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_OF_PIPES)
    if console.width < _NARROWEST_COLUMN * len(columns):
        click.echo(title or "")
        for row in zip(*columns.values(), strict=True):
            click.echo("\n" + "\n".join(f"{head}: {cell}" for head, cell in zip(columns, row, strict=True) if cell))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=Text(title) if title else None, title_justify="left")
    for head in columns:
        table.add_column(Text(head), overflow="fold")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, row))  # Text: what looks like rich's markup is shown, not obeyed
    console.print(table)


def cell(text: str) -> Text:
    """Return a text from outside as rich is to show it: nothing in it is markup, or steers the terminal."""
    from rich.text import Text

    return Text(printable(text))


def is_number(value: Any) -> bool:
    """Whether the value is a number (True and False are none)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def decimals(value: float | None, sign: str = "") -> str:
    """Return three decimals; with sign "+", of a change."""
    return "" if value is None else f"{value:{sign}.3f}"


def percentage(share: float | None) -> str:
    """Return a share in per cent, a dash for None."""
    return "–" if share is None else f"{100 * share:.1f}"

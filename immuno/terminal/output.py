"""How commands print: tables of one style that fit the terminal, strict JSON, and CSV that a spreadsheet may open.

The texts come from language models and file names: in tables and CSV, whatever could steer a terminal is written out;
JSON is ASCII, and loses nothing.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

import click

from immuno_core.text import printable, safe_cell

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

Form = Literal["json", "csv"] | None
"""What a query prints: None is a table."""
WIDTH = 100
"""Columns where there is no terminal, and COLUMNS does not say how many."""
_WIDTH_OF_RECORDS = 160
"""The same for lists of records, whose texts are long."""
_NARROWEST_COLUMN = 9
_LONG = 12
"""Characters from which a column of words may fold."""
GAP = 2
"""Blanks between two columns."""


def console(otherwise: int = WIDTH) -> Console:
    """Return what prints on stdout, as wide as the terminal or as COLUMNS says, else `otherwise` columns."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal or os.environ.get("COLUMNS", "").isdigit() else Console(width=otherwise)


def print_table(table: RenderableType) -> None:
    """Print on stdout, as wide as the terminal."""
    console().print(table)


def plain_table(title: str | None = None, words: Sequence[str] = (), numbers: Sequence[str] = ()) -> Table:
    """Return an empty table of the one style, with columns of words, which fold, and then of numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    # The divider between two columns is the second blank.
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, GAP - 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        title=Text(title, "italic") if title else None,
        title_justify="left",
    )
    for name in words:
        table.add_column(Text(name), overflow="fold")
    for name in numbers:
        table.add_column(Text(name), justify="right", no_wrap=True)
    return table


def fitting(titles: Sequence[str], widths: Sequence[int], room: int) -> list[Sequence[str]]:
    """Split columns into as many tables as their widths need; at least one."""
    parts: list[list[str]] = [[]]
    left = room
    for title, width in zip(titles, widths, strict=True):
        if width > left and parts[-1]:
            parts.append([])
            left = room
        parts[-1].append(title)
        left -= width
    return list(parts)


def stacked(columns: Mapping[str, Sequence[str]], *, words: Collection[str] = (), room: int) -> list[Table]:
    """Return tables, each at most `room` wide, of columns by heading; the first of them begins each table.

    Columns without anything in them are left out; those in `words` are aligned left. Nothing is folded.
    """
    names = [name for name, cells in columns.items() if any(cells)]
    widths = {
        name: GAP + max(len(line) for text in (name, *columns[name]) for line in text.split("\n")) for name in names
    }
    key, others = names[0], names[1:]
    tables = []
    for part in fitting(others, [widths[name] for name in others], room + GAP - widths[key]):
        table = plain_table()
        for name in (key, *part):
            table.add_column(cell(name, lines=True), justify="left" if name in words else "right", no_wrap=True)
        for row in zip(*(columns[name] for name in (key, *part)), strict=True):
            table.add_row(*map(cell, row))
        tables.append(table)
    return tables


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
    return print_json(rows) if form == "json" else click.echo(csv_text(columns, rows), nl=False)


def print_json(rows: Iterable[dict[str, Any]]) -> None:
    """Print strict JSON in ASCII: whatever a model wrote, it is valid, and cannot steer a terminal."""
    click.echo(json_text(rows))


def json_text(rows: Iterable[dict[str, Any]]) -> str:
    """Return what `print_json` prints."""
    from db.schema.types import to_json

    return json.dumps([to_json(_with_text_times(row)) for row in rows], indent=2, allow_nan=False)


def _with_text_times(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in row.items()}


def csv_text(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """Return one line for each row, whatever is in its texts; lists and mappings as JSON, nothing for None."""
    from db.schema.types import to_json

    def written(value: Any) -> Any:
        if isinstance(value, dict | list | tuple):
            return json.dumps(to_json(value), allow_nan=False)
        return safe_cell(printable(value)) if isinstance(value, str) else value

    content = io.StringIO(newline="")
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow([written(column) for column in columns])
    writer.writerows([written(row[column]) for column in columns] for row in map(_with_text_times, rows))
    return content.getvalue()


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
    from rich.text import Text

    out = console(_WIDTH_OF_RECORDS)
    figures = {head for head, cells in columns.items() if all(map(_is_figure, cells))}
    # The headings of figures stand on several lines: figures are narrow.
    headings = {head: "\n".join(re.split(r" |(?<=_)", head)) if head in figures else head for head in columns}
    widths = {head: max(map(len, [*headings[head].split("\n"), *cells])) for head, cells in columns.items()}
    folded = {head for head in columns if head not in figures and widths[head] > _LONG}
    if out.width >= sum(GAP + (_NARROWEST_COLUMN if head in folded else width) for head, width in widths.items()):
        table = plain_table(title)
        for head in columns:
            table.add_column(Text(headings[head]), overflow="fold", justify="right" if head in figures else "left")
        for row in zip(*columns.values(), strict=True):
            table.add_row(*map(Text, row))  # Text: what looks like rich's markup is shown, not obeyed
        return out.print(table)
    click.echo(title or "")
    if not folded:
        shown = {headings[head]: cells for head, cells in columns.items()}
        words = [headings[head] for head in columns if head not in figures]
        for table in stacked(shown, words=words, room=out.width):
            out.print(table, "")
        return None
    for row in zip(*columns.values(), strict=True):
        click.echo("\n" + "\n".join(f"{head}: {cell}" for head, cell in zip(columns, row, strict=True) if cell))
    return None


def _is_figure(text: str) -> bool:
    """Whether a cell holds a number, a change with its error, or nothing."""
    return not text or text.translate(_IN_FIGURES).isdigit()


_IN_FIGURES = str.maketrans("", "", "+-.,:/ ±%$–")


def cell(text: str, *, lines: bool = False) -> Text:
    """Return a text from outside as rich is to show it: nothing in it is markup, or steers the terminal.

    With `lines` it may have several.
    """
    from rich.text import Text

    return Text("\n".join(map(printable, text.split("\n"))) if lines else printable(text))


def is_number(value: Any) -> bool:
    """Whether the value is a number (True and False are none)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def decimals(value: float | None, sign: str = "") -> str:
    """Return three decimals; with sign "+", of a change."""
    return "" if value is None else f"{value:{sign}.3f}"


def percentage(share: float | None) -> str:
    """Return a share in per cent, a dash for None."""
    return "–" if share is None else f"{100 * share:.1f}"

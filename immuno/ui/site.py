"""What every page is made of, and how it may be had: as a page, as CSV, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from immuno.terminal.output import csv_text, json_text
from immuno_core.errors import SetupError

if TYPE_CHECKING:
    from db import AntibodyStore
    from immuno.ui.encoders import Encoders
    from immuno.ui.images import Pictures

LARGEST = 2**31 - 1


class Site(NamedTuple):
    """The record, the pictures of its images, and the encoders that were loaded to search it."""

    store: AntibodyStore
    pictures: Pictures
    encoders: Encoders


def asked(request: Request, name: str) -> str | None:
    """Return what the address asks for under a name; None for nothing. Half a character is asked for by nobody."""
    value = request.query_params.get(name, "").strip()
    return value.encode("utf-8", "replace").decode("utf-8").replace("\x00", "") or None


def asked_number(request: Request, name: str) -> int | None:
    """Return the whole number that the address asks for. Raises SetupError for what is none."""
    value = asked(request, name)
    if value is None:
        return None
    if not value.isdecimal() or not value.isascii() or int(value[:12]) > LARGEST:
        raise SetupError(f"{name} = {value[:60]!r} is no whole number")
    return int(value)


def exported(request: Request, name: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> Response | None:
    """Return the rows as the file that `?as=csv` or `?as=json` asks for; None where a page is wanted."""
    match asked(request, "as"):
        case "csv":
            return file(csv_text(columns, rows), f"{name}.csv", "text/csv")
        case "json":
            return file(json_text(rows), f"{name}.json", "application/json")
    return None


def file(content: str, name: str, media_type: str) -> Response:
    """Return a file to be saved; `name` is one of ours."""
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content.encode("utf-8", "replace"), headers=headers, media_type=media_type)

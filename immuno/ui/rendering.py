"""Pages from templates. Whatever is put into one is shown as text: escaped, and with what is invisible written out."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from immuno.ui import drawing
from immuno_core.records import VISUAL
from immuno_core.text import printable

PAGES: Final = Path(__file__).with_name("pages")
NOTHING: Final = "\N{EN DASH}"


def page(name: str, status: int = 200, **values: Any) -> Response:
    """Return the page of a template."""
    html = _environment().get_template(f"{name}.html.j2").render(**values)
    return HTMLResponse(html, status)


def link(path: str, **query: Any) -> str:
    """Return an address of this site; what is None or empty is left out of its query."""
    asked = urlencode({key: value for key, value in query.items() if value not in (None, "")}, errors="replace")
    return f"{path}?{asked}" if asked else path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.globals.update(
        link=link, sparkline=drawing.sparkline, curve=drawing.curve, strip=drawing.strip, step=drawing.step
    )
    environment.filters.update(percent=percent, points=points, count=count, money=money, moment=moment)
    environment.tests["visual"] = lambda kind: kind == VISUAL
    return environment


def _shown(value: Any) -> Any:
    """What is printed of a value: a text of whomever cannot turn its surroundings around, or hide."""
    if value is None:
        return ""
    return printable(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


def percent(share: float | None, digits: int = 1) -> str:
    """A share in per cent: 0.251 -> "25.1"; a dash where there is none."""
    return NOTHING if share is None or share != share else f"{100 * share:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def points(change: float | None) -> str:
    """A change of a share, with its sign: -0.012 -> "−1.2"."""
    return NOTHING if change is None or change != change else f"{100 * change:+.1f}".replace("-", "\N{MINUS SIGN}")


def count(number: int) -> str:
    """A whole number with its thousands told apart."""
    return f"{number:,}"


def money(dollars: float) -> str:
    """A price; a dash where nothing was paid, or no price is known."""
    return f"${dollars:,.4f}" if dollars else NOTHING


def moment(when: datetime | None) -> Markup:
    """A time, in UTC."""
    if when is None:
        return escape(NOTHING)
    return Markup('<time datetime="{}">{}</time>').format(when.isoformat(), f"{when:%Y-%m-%d %H:%M}")

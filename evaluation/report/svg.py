"""Matplotlib figures as inline SVG: deterministic, without text from the results, in the colours of the page.

Colours are drawn as stand-ins and replaced by CSS variables, so one figure serves light, dark and print. Nothing that
a user or a model wrote is ever drawn: names stand in HTML, where they are escaped and can wrap.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#010101"
MUTED = "#020202"
GRID = "#030303"
BEFORE = "#040404"
AFTER = "#050505"
KNOWN = "#060606"
OUTLIER = "#070707"
OTHER = "#080808"
PAPER = "#090909"

_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    BEFORE: "var(--before)",
    AFTER: "var(--after)",
    KNOWN: "var(--known)",
    OUTLIER: "var(--outlier)",
    OTHER: "var(--other)",
    PAPER: "var(--card)",
}
_STYLE: Final[dict[str, Any]] = {
    "font.size": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "immuno-vlm",
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with the report's own style, whatever the user's matplotlibrc says."""
    with style.context(["default", _STYLE]):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches. Place axes by hand: layout engines depend on the fonts installed."""
    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    return figure


def percent_axis(axes: Axes, which: str) -> None:
    """Label an axis from 0 to 1 in per cent, with room for a line on the edge."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100"])
    (axes.set_xlim if which == "x" else axes.set_ylim)(-0.015, 1.015)


def inline_svg(figure: Figure, prefix: str) -> Markup:
    """The figure as an `<svg>` element whose ids all begin with `prefix`, so that figures on one page cannot clash."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    # A global `*` rule: inside a page it would reach every element. The page's own style sheet says the same for svg.
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    text = re.sub(r'font-family: [^;"]+; ?', "", text)  # the page's font is inherited
    text = re.sub(
        r'<svg [^>]*?(viewBox="[^"]+")[^>]*>', r'<svg \1 aria-hidden="true" focusable="false">', text, count=1
    )
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, variable)
    return Markup(re.sub(r"\n\s*", "\n", text).strip())  # noqa: S704 - no text from the results is in it

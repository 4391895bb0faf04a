"""The figures of a run as files for papers and slides: PNG, SVG, PDF, in the page's light colours.

generations   FPR95 by generation, the mean and each feedback set
roc           the ROC curves of every outlier set
effects       gain and harm of the antibodies
map           classes, antibodies, known images and outliers in two dimensions

Names stand in these figures, as plain text: nothing in them is markup or mathematics.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.benchmark.results import Results
from evaluation.effects.plane import Plane
from evaluation.report import figures
from evaluation.report.curves import read_scores
from evaluation.report.figures import PRINT, figure_in
from evaluation.report.panels import curves_of, series_of
from immuno_core.errors import SetupError
from immuno_core.text import printable

Form = Literal["png", "svg", "pdf"]
_Draw = Callable[[Axes], None]
FORMS: Final[tuple[Form, ...]] = ("png", "svg", "pdf")
_TIMELESS: Final[dict[Form, dict[str, Any]]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}
_DPI = 300
_COLUMNS = 3
_PANEL = (2.4, 2.4)
"""Inches of one of several panels."""
_LONGEST_NAME = 36
_MARKERS = "oDPXv<>*hp"
_MOST_MARKED = len(_MARKERS)
"""Outlier sets that can be told apart on the map; more share one marker."""


def write_plots(folder: Path, out: Path | None = None, forms: Sequence[Form] = FORMS) -> dict[str, tuple[Path, ...]]:
    """Draw the figures of a results folder into `out` (default: its folder `plots`), and return them by name.

    What a run does not have, such as generations or scores, has no figure. Raises SetupError where there is nothing to
    draw at all, where results.json is missing or broken, and where a file cannot be written.
    """
    results, target = Results.read(folder), out or folder / "plots"
    written = {}
    for name, draw in _figures(results, folder).items():
        files = []
        with warnings.catch_warnings():
            # A glyph that the font lacks is drawn as a box.
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            figure = draw()
            for form in forms:
                path = target / f"{name}.{form}"
                try:
                    target.mkdir(parents=True, exist_ok=True)
                    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "immuno-vlm", "pdf.fonttype": 42}):
                        figure.savefig(path, format=form, dpi=_DPI, facecolor=PRINT.card, metadata=_TIMELESS[form])
                except OSError as error:
                    raise SetupError(f"cannot write {path}: {error.strerror}; choose another folder") from None
                files.append(path)
        written[name] = tuple(files)
    if not written:
        raise SetupError(f"{folder} has no generations, scores, measured antibodies or map to draw")
    return written


def _figures(results: Results, folder: Path) -> dict[str, Callable[[], Figure]]:
    """What there is to draw, by the name of its file."""
    measured = results.measured
    headline = measured.headline(results.before, results.after)
    scores = read_scores(folder)
    found: dict[str, Callable[[], Figure]] = {}
    series = series_of(results.session.generations if results.session else ())
    if series:
        highest = max(value for steps in series.values() for _, value in steps)
        panels: dict[str, _Draw] = {
            name or "mean": partial(figures.draw_generations, steps=steps, highest=highest, palette=PRINT)
            for name, steps in series.items()
        }
        found["generations"] = partial(_grid, panels)
    curves: dict[str, _Draw] = {
        name: partial(figures.draw_roc, curves=[(part, curve) for part, _, curve in of_set], palette=PRINT)
        for name in measured.sets
        if (of_set := curves_of(measured, headline, scores, name))
    }
    if curves:
        keys = []
        if headline.before:
            label = _named(measured.title(headline.before))
            keys.append(Line2D([], [], color=PRINT.before, linestyle="--", label=label))
        if headline.after:
            keys.append(Line2D([], [], color=PRINT.after, label=_named(measured.title(headline.after))))
        found["roc"] = partial(_grid, curves, keys)
    effects = [one for one in results.antibodies if one.gain is not None]
    if effects:
        drawn: dict[str, _Draw] = {
            "gain above, harm below": partial(figures.draw_effects, antibodies=effects, palette=PRINT)
        }
        found["effects"] = partial(_grid, drawn, size=(3.4, 2.4))
    if (plane := results.plane) is not None:
        found["map"] = partial(_map, plane)
    return found


def _named(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= _LONGEST_NAME else shown[: _LONGEST_NAME - 1] + "…"


def _grid(panels: Mapping[str, _Draw], keys: Sequence[Line2D] = (), size: tuple[float, float] = _PANEL) -> Figure:
    """Panels side by side, each under its name, and a legend below."""
    columns = 2 if len(panels) == 4 else min(_COLUMNS, len(panels))
    rows, below = math.ceil(len(panels) / columns), 0.25 * bool(keys)
    width, height = size[0] * columns, size[1] * rows + below
    with figure_in(PRINT, height, width) as figure:
        for k, (name, draw) in enumerate(panels.items()):
            row, column = divmod(k, columns)
            left = (column * size[0] + 0.52) / width
            bottom = (height - (row + 1) * size[1] + 0.42) / height
            axes = figure.add_axes((left, bottom, (size[0] - 0.7) / width, (size[1] - 0.7) / height))
            draw(axes)
            axes.set_title(_named(name), fontsize=9, parse_math=False)
        if keys:
            _plain(figure.legend(handles=keys, loc="lower center", ncols=len(keys)))
    return figure


def _map(plane: Plane) -> Figure:
    markers = dict(zip(plane.outliers, _MARKERS, strict=False)) if len(plane.outliers) <= _MOST_MARKED else {}
    with figure_in(PRINT, 4.2, 5.6) as figure:
        axes = figure.add_axes((0.01, 0.01, 0.68, 0.98))
        figures.draw_plane(axes, plane, PRINT, markers)
        _plain(axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=1.6))
    return figure


def _plain(legend: Any) -> None:
    """Names in a legend are no mathematics, and short."""
    for text in legend.get_texts():
        text.set_parse_math(False)
        text.set_text(_named(text.get_text()))

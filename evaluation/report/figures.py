"""The figures of the page and of `immuno plot`: one drawing of each, in the colours of a palette.

On the page colours are stand-ins that are replaced by CSS variables, so one figure serves light, dark and print; and
nothing that a user or a model wrote is drawn: names stand in HTML, where they are escaped and can wrap.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from evaluation.benchmark.results import Generation, ListedAntibody
from evaluation.effects.plane import Plane, Points
from evaluation.metrics import ACCEPTANCE
from evaluation.report.curves import Curve, Histogram
from immuno_core.records import VISUAL


class Palette(NamedTuple):
    """The colours of a figure, as hexadecimal; the names are those of the variables in templates/style.css."""

    ink: str
    muted: str
    line: str
    before: str
    after: str
    known: str
    outlier: str
    other: str
    card: str


PAGE: Final = Palette(*(f"#{10101 * k:06d}" for k in range(1, 10)))
"""Stand-ins of the CSS variables."""
PRINT: Final = Palette(
    *("#1c2127", "#5d6671", "#e2e0db", "#bd5200", "#0068a8", "#5a6b7c", "#b04a86", "#a7adb5", "#ffffff")
)
"""The page's light colours."""
_WIDTH: Final = 3.2
"""Inches of a panel: at 270 pixels, the narrowest on a phone, its smallest text has 11."""


@contextmanager
def figure_in(palette: Palette, height: float, width: float = _WIDTH) -> Iterator[Figure]:
    """An empty figure, its size in inches, in the report's own style, whatever the user's matplotlibrc says.

    Place axes by hand: layout engines depend on the fonts installed.
    """
    colours = {
        "text.color": palette.ink,
        "axes.edgecolor": palette.muted,
        "axes.labelcolor": palette.muted,
        "grid.color": palette.line,
        "xtick.color": palette.muted,
        "ytick.color": palette.muted,
    }
    with style.context(["default", Path(__file__).with_name("figures.mplstyle"), colours]):
        yield Figure(figsize=(width, height))


def inline_svg(figure: Figure, prefix: str) -> Markup:
    """A figure in the palette PAGE as an `<svg>` element.

    Its ids all begin with `prefix`, so that figures on one page cannot clash.
    """
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
    for variable, stand_in in PAGE._asdict().items():
        text = text.replace(stand_in, f"var(--{variable})")
    text = re.sub(r"(\d\.\d\d)\d+", r"\1", text)  # a hundredth of a point is less than anybody sees
    return Markup(re.sub(r"\n\s*", "\n", text).strip())  # noqa: S704 - no text from the results is in it


Part = Literal["before", "after", "other"]
Steps = Sequence[tuple[Generation, float]]
"""Generations with their FPR95 in one panel, a share."""


def draw_roc(axes: Axes, curves: Iterable[tuple[Part, Curve]], palette: Palette) -> None:
    """One outlier set: the methods before and after in colour with their FPR95 marked, all others thin and grey."""
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100"])
    # 95 % is the line that the dots lie on; 100 would stand upon it.
    axes.set_yticks([0, 0.25, 0.5, 0.75, ACCEPTANCE], labels=["0", "25", "50", "75", "95"])
    # With room for a line on the edge.
    axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015))
    axes.set_xlabel("outliers accepted, %", labelpad=3)
    axes.set_ylabel("known images accepted, %", labelpad=3)
    axes.axhline(ACCEPTANCE, color=palette.muted, linewidth=0.7, dashes=(3, 3))
    for part, curve in sorted(curves, key=lambda pair: pair[0] != "other"):
        width, dash = 0.8 if part == "other" else 1.9, "--" if part == "before" else "-"
        colour = getattr(palette, part)
        axes.plot(curve.outliers, curve.known, dash, color=colour, linewidth=width)
        if part != "other":
            axes.plot([curve.at_95], [ACCEPTANCE], "o", color=colour, **_dot(palette), markersize=6)


def _dot(palette: Palette) -> dict[str, Any]:
    return {"markeredgecolor": palette.card, "zorder": 4}


def draw_histogram(axes: Axes, name: str, data: Histogram, palette: Palette) -> None:
    """The scores of one outlier set against those of the known images, with the threshold; captions stand above."""
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.set_ylim(0, max(data.known.max(), data.outliers.max()) * 1.04)
    axes.set_xlim(data.edges[0], data.edges[-1])
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.axvspan(data.threshold, data.edges[-1], color=palette.line, alpha=0.35, linewidth=0)
    for values, colour in ((data.known, palette.known), (data.outliers, palette.outlier)):
        axes.stairs(values, data.edges, fill=True, color=colour, alpha=0.28)
        axes.stairs(values, data.edges, color=colour, linewidth=1.0)
    axes.axvline(data.threshold, color=palette.ink, linewidth=1.0)
    accepted = f"{100 * data.accepted_outliers:.1f} % of outliers accepted"
    above: dict[str, Any] = {"transform": axes.transAxes, "color": palette.ink, "va": "bottom"}
    axes.text(0.0, 1.04, name, fontweight="bold", ha="left", **above)
    axes.text(1.0, 1.04, accepted, ha="right", **above)


def draw_generations(axes: Axes, steps: Steps, highest: float, palette: Palette) -> None:
    """FPR95 by generation: a line through the accepted ones, crosses for rejected ones. `highest` scales the axis."""
    kept = [(one.number, fpr95) for one, fpr95 in steps if one.accepted]
    lost = [(one.number, fpr95) for one, fpr95 in steps if not one.accepted]
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("generation", labelpad=3)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    numbers = [one.number for one, _ in steps]
    axes.set_xlim(min(numbers) - 0.4, max(numbers) + 0.4)
    axes.set_ylim(0, highest * 1.12 or 1)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    if kept:
        axes.plot(*zip(*kept, strict=True), color=palette.after, linewidth=1.7, zorder=3)
        axes.plot(*zip(*kept, strict=True), "o", color=palette.after, **_dot(palette), markersize=5.5)
    if lost:
        axes.plot(*zip(*lost, strict=True), "x", color=palette.before, markersize=5.5, markeredgewidth=1.6, zorder=5)


def draw_effects(axes: Axes, antibodies: Sequence[ListedAntibody], palette: Palette) -> None:
    """The measured antibodies, largest gain first: what each gains above the line, and what it harms below."""
    gain = np.sort([100 * (one.gain or 0.0) for one in antibodies])[::-1]
    harm = np.sort([100 * (one.harm or 0.0) for one in antibodies])[::-1]
    edges = np.arange(len(gain) + 1) + 0.5
    axes.grid(axis="x", visible=False)
    axes.stairs(gain, edges, fill=True, color=palette.after, alpha=0.85)
    axes.stairs(-harm, edges, fill=True, color=palette.before, alpha=0.85)
    axes.axhline(0, color=palette.muted, linewidth=0.6)
    # By the logarithm of the rank: few matter.
    axes.set_xscale("log")
    axes.set_xlim(0.5, max(len(gain), 1) + 0.5)
    axes.xaxis.set_major_formatter(lambda rank, _: f"{rank:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g} %")
    axes.set_xlabel("rank, by gain and by harm", labelpad=3)


def draw_plane(axes: Axes, plane: Plane, palette: Palette, sets: Mapping[str, str] | None = None) -> None:
    """Classes, antibodies, known images and outliers in two dimensions. `sets` gives outlier sets markers of their own.

    Of a legend's labels none is from the results but the names in `sets`.
    """
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)

    def points(found: Points, marker: str, colour: str, size: float, label: str, alpha: float = 1.0) -> None:
        if found:
            x, y = zip(*found, strict=True)
            axes.scatter(x, y, marker=marker, c=colour, s=size, linewidths=0, label=label, alpha=alpha)

    points(plane.known, "o", palette.known, 5, alpha=0.45, label="known images")
    for name, found in plane.outliers.items():
        marker = sets.get(name, "o") if sets else "o"
        points(found, marker, palette.outlier, 6, alpha=0.55, label=name if sets else "outliers")
    texts = [at for at, kind in zip(plane.antibodies, plane.kinds, strict=True) if kind != VISUAL]
    seen = [at for at, kind in zip(plane.antibodies, plane.kinds, strict=True) if kind == VISUAL]
    points(tuple(texts), "^", palette.after, 9, alpha=0.75, label="antibodies")
    points(tuple(seen), "v", palette.before, 14, label="visual antibodies")
    points(plane.classes, "s", palette.ink, 15, label="classes")


def roc_panel(curves: Sequence[tuple[Part, Curve]], prefix: str) -> Markup:
    """The ROC curves of one outlier set."""
    with figure_in(PAGE, 2.75) as figure:
        draw_roc(figure.add_axes((0.155, 0.155, 0.825, 0.83)), curves, PAGE)
        return inline_svg(figure, prefix)


def histogram_panel(before: Histogram | None, after: Histogram | None, prefix: str) -> Markup:
    """One outlier set: its scores against those of the known images, before above after, each with its threshold."""
    shown = [(name, data) for name, data in (("before", before), ("after", after)) if data is not None]
    with figure_in(PAGE, 1.4 * len(shown)) as figure:
        for k, (name, data) in enumerate(shown):
            height = 1 / len(shown)
            axes = figure.add_axes((0.03, 1 - (k + 1) * height + 0.16 * height, 0.94, 0.66 * height))
            draw_histogram(axes, name, data, PAGE)
        return inline_svg(figure, prefix)


def generation_panel(steps: Steps, highest: float, prefix: str) -> Markup:
    """FPR95 by generation, on one or more sets."""
    with figure_in(PAGE, 2.2) as figure:
        draw_generations(figure.add_axes((0.135, 0.19, 0.845, 0.775)), steps, highest, PAGE)
        return inline_svg(figure, prefix)


def effects_panel(antibodies: Sequence[ListedAntibody], prefix: str) -> Markup:
    """Gain and harm of the antibodies."""
    with figure_in(PAGE, 2.2) as figure:
        draw_effects(figure.add_axes((0.155, 0.19, 0.825, 0.775)), antibodies, PAGE)
        return inline_svg(figure, prefix)


def plane_panel(plane: Plane, prefix: str) -> Markup:
    """The map of classes, antibodies and images."""
    with figure_in(PAGE, 2.6) as figure:
        draw_plane(figure.add_axes((0.01, 0.01, 0.98, 0.98)), plane, PAGE)
        return inline_svg(figure, prefix)

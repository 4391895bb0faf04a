"""The figures of the page, as inline SVG: ROC curves, score histograms, and FPR95 by generation.

Colours are drawn as stand-ins and replaced by CSS variables, so one figure serves light, dark and print. Nothing that
a user or a model wrote is ever drawn: names stand in HTML, where they are escaped and can wrap.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from evaluation.benchmark.order import Headline, Measured
from evaluation.benchmark.results import Generation
from evaluation.metrics import ACCEPTANCE, Scores, fpr95_id, rank_of_share, threshold_at

STAND_INS: Final = ("#010101", "#020202", "#030303", "#040404", "#050505", "#060606", "#070707", "#080808", "#090909")
"""Those of the CSS variables below, in turn. figures.mplstyle draws with some of them too."""
INK, MUTED, GRID, BEFORE, AFTER, KNOWN, OUTLIER, OTHER, PAPER = STAND_INS
_VARIABLES: Final = ("ink", "muted", "line", "before", "after", "known", "outlier", "other", "card")


@contextmanager
def _figure(height: float) -> Iterator[Figure]:
    """An empty figure, its height in inches, in the report's own style, whatever the user's matplotlibrc says.

    Place axes by hand: layout engines depend on the fonts installed.
    """
    with style.context(["default", Path(__file__).with_name("figures.mplstyle")]):
        yield Figure(figsize=(_WIDTH, height))


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
    for stand_in, variable in zip(STAND_INS, _VARIABLES, strict=True):
        text = text.replace(stand_in, f"var(--{variable})")
    return Markup(re.sub(r"\n\s*", "\n", text).strip())  # noqa: S704 - no text from the results is in it


SCORES_FILE = "scores.npz"
KNOWN_SET = "id"
"""The name under which the known test images are stored."""
_BINS = 44
_CURVE_POINTS = 200


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores that are usable, by "method|set". `problem` says in one sentence why there are none, or is None."""

    arrays: dict[str, Scores]
    problem: str | None = None

    def pair(self, method: str, outlier_set: str) -> tuple[Scores, Scores] | None:
        """Scores (n,) of the known images and (m,) of the outliers; None unless both are there."""
        known, outliers = (self.arrays.get(f"{method}|{name}") for name in (KNOWN_SET, outlier_set))
        return None if known is None or outliers is None else (known, outliers)


def read_scores(folder: Path) -> ScoreTable:
    """Read `scores.npz`; a missing or broken file gives an empty table that says so. Never raises for what is in it."""
    path = folder / SCORES_FILE
    if not path.is_file():
        return ScoreTable({}, f"there is no {SCORES_FILE} in the results folder")
    arrays: dict[str, Scores] = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            for name in stored.files:
                scores = _usable(stored[name])
                if scores is not None:
                    arrays[name] = scores
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        return ScoreTable({}, f"{SCORES_FILE} could not be read ({type(error).__name__})")
    return ScoreTable(arrays)


def _usable(array: NDArray[np.generic]) -> Scores | None:
    """The array as scores (n,) float64, or None: a NaN can be neither ranked nor drawn."""
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "fiu":
        return None
    scores = array.astype(np.float64)
    return None if np.isnan(scores).any() else scores


@dataclass(frozen=True, slots=True)
class Curve:
    """A ROC curve: for a falling threshold, the share of outliers (k,) and of known images (k,) that are accepted."""

    outliers: Scores
    known: Scores
    at_95: float
    """Share of outliers accepted at the threshold that accepts 95 % of known images: fpr95_id."""


def roc_curve(known: Scores, outliers: Scores) -> Curve:
    """Trace the ROC curve through the thresholds that accept 0.5 %, 1 %, ... 100 % of known images."""
    ranks = [rank_of_share(k / _CURVE_POINTS, known.size) for k in range(1, _CURVE_POINTS + 1)]
    thresholds = np.sort(known)[known.size - np.array(ranks)]
    x, y = (np.concatenate([[0.0], _accepted(scores, thresholds), [1.0]]) for scores in (outliers, known))
    return Curve(x, y, at_95=fpr95_id(known, outliers))


def _accepted(scores: Scores, thresholds: Scores) -> Scores:
    """Shares (k,) of the scores (n,) at or above the thresholds (k,)."""
    rejected: Scores = np.searchsorted(np.sort(scores), thresholds, side="left") / scores.size
    return 1 - rejected


@dataclass(frozen=True, slots=True)
class Histogram:
    """Known images and outliers by score: shares per bin (k,), bin edges (k + 1,), and the 95 % threshold."""

    edges: Scores
    known: Scores
    outliers: Scores
    threshold: float
    """At an edge where it is infinite."""
    accepted_outliers: float


def histogram(known: Scores, outliers: Scores) -> Histogram:
    """Count scores in equal bins; the outermost 0.2 % on either side are counted in the outermost bins."""
    threshold = threshold_at(known)
    pooled = np.concatenate([known, outliers])
    finite = pooled[np.isfinite(pooled)]
    low, high = np.quantile(finite, [0.002, 0.998]) if finite.size else (0.0, 0.0)
    if math.isfinite(threshold):
        low, high = min(low, threshold), max(high, threshold)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    shares = [np.histogram(np.clip(s, low, high), edges)[0] / s.size for s in (known, outliers)]
    drawn = float(np.clip(threshold, low, high))
    return Histogram(edges, shares[0], shares[1], drawn, fpr95_id(known, outliers))


Part = Literal["before", "after", "other"]
_WIDTH = 3.4
_COLOURS = {"before": BEFORE, "after": AFTER, "other": OTHER}
_DOT: Final[dict[str, Any]] = {"markeredgecolor": PAPER, "zorder": 4}


def roc_panel(curves: Sequence[tuple[Part, Curve]], prefix: str) -> Markup:
    """One outlier set: the methods before and after in colour with their FPR95 marked, all others thin and grey."""
    with _figure(2.9) as figure:
        axes = figure.add_axes((0.145, 0.145, 0.825, 0.825))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100"])
        # With room for a line on the edge.
        axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015))
        axes.set_xlabel("outliers accepted, %", labelpad=3)
        axes.set_ylabel("known images accepted, %", labelpad=3)
        axes.axhline(ACCEPTANCE, color=MUTED, linewidth=0.7, dashes=(3, 3))
        axes.text(0.995, ACCEPTANCE - 0.018, "95 %", color=MUTED, fontsize=7.5, ha="right", va="top")
        for part, curve in sorted(curves, key=lambda pair: pair[0] != "other"):
            width, dash = 0.8 if part == "other" else 1.9, "--" if part == "before" else "-"
            axes.plot(curve.outliers, curve.known, dash, color=_COLOURS[part], linewidth=width)
            if part != "other":
                axes.plot([curve.at_95], [ACCEPTANCE], "o", color=_COLOURS[part], **_DOT, markersize=6)
        return inline_svg(figure, prefix)


def histogram_panel(before: Histogram | None, after: Histogram | None, prefix: str) -> Markup:
    """One outlier set: its scores against those of the known images, before above after, each with its threshold."""
    shown = [(name, data) for name, data in (("before", before), ("after", after)) if data is not None]
    with _figure(1.45 * len(shown) + 0.1) as figure:
        for k, (name, data) in enumerate(shown):
            height = 1 / len(shown)
            axes = figure.add_axes((0.03, 1 - (k + 1) * height + 0.15 * height, 0.94, 0.72 * height))
            _draw_histogram(axes, name, data)
        return inline_svg(figure, prefix)


def _draw_histogram(axes: Axes, name: str, data: Histogram) -> None:
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    top = max(data.known.max(), data.outliers.max()) * 1.28
    axes.set_ylim(0, top)
    axes.set_xlim(data.edges[0], data.edges[-1])
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.axvspan(data.threshold, data.edges[-1], color=GRID, alpha=0.35, linewidth=0)
    for values, colour in ((data.known, KNOWN), (data.outliers, OUTLIER)):
        axes.stairs(values, data.edges, fill=True, color=colour, alpha=0.28)
        axes.stairs(values, data.edges, color=colour, linewidth=1.0)
    axes.axvline(data.threshold, color=INK, linewidth=1.0)
    accepted = f"{100 * data.accepted_outliers:.1f} % of outliers accepted"
    corner: dict[str, Any] = {"transform": axes.transAxes, "color": INK, "va": "top"}
    axes.text(0.0, 1.0, name, fontweight="bold", ha="left", **corner)
    axes.text(1.0, 1.0, accepted, fontsize=8, ha="right", **corner)


Steps = Sequence[tuple[Generation, float]]
"""Generations with their FPR95 in one panel, a share."""


def generation_panel(steps: Steps, highest: float, prefix: str) -> Markup:
    """FPR95 by generation: a line through the accepted ones, crosses for rejected ones. `highest` scales the axis."""
    kept = [(one.number, fpr95) for one, fpr95 in steps if one.accepted]
    lost = [(one.number, fpr95) for one, fpr95 in steps if not one.accepted]
    with _figure(2.1) as figure:
        axes = figure.add_axes((0.125, 0.19, 0.85, 0.775))
        axes.grid(axis="x", visible=False)
        axes.set_xlabel("generation", labelpad=3)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        numbers = [one.number for one, _ in steps]
        axes.set_xlim(min(numbers) - 0.4, max(numbers) + 0.4)
        axes.set_ylim(0, highest * 1.12 or 1)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        if kept:
            axes.plot(*zip(*kept, strict=True), color=AFTER, linewidth=1.7, zorder=3)
            axes.plot(*zip(*kept, strict=True), "o", color=AFTER, **_DOT, markersize=5.5)
        if lost:
            axes.plot(*zip(*lost, strict=True), "x", color=BEFORE, markersize=5.5, markeredgewidth=1.6, zorder=5)
        return inline_svg(figure, prefix)


_ROUNDING = 5e-4
"""Half of what the table prints: a larger difference between table and scores would be seen."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One small figure under its name. `unseen`: the set is unlike the feedback."""

    title: str
    svg: Markup
    unseen: bool = False


@dataclass(frozen=True, slots=True)
class ScorePanels:
    """ROC curves and histograms by outlier set; `mismatches` names sets whose scores disagree with the table."""

    roc: list[Panel] = field(default_factory=list)
    histograms: list[Panel] = field(default_factory=list)
    without_scores: list[str] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)


def score_panels(measured: Measured, headline: Headline, scores: ScoreTable) -> ScorePanels:
    """Draw every outlier set for which there are scores."""
    panels = ScorePanels()
    for number, name in enumerate(measured.sets):
        curves = [
            (_part(method, headline), method, roc_curve(*pair))
            for method in measured.methods
            if (pair := scores.pair(method, name)) is not None
        ]
        if not curves:
            panels.without_scores.append(name)
            continue
        unseen = name in measured.unseen_sets
        svg = roc_panel([(part, curve) for part, _, curve in curves], f"roc{number}")
        panels.roc.append(Panel(name, svg, unseen))
        if any(_disagrees(measured, method, name, curve) for _, method, curve in curves):
            panels.mismatches.append(name)
        pairs = [scores.pair(m, name) if m else None for m in (headline.before, headline.after)]
        before, after = (histogram(*pair) if pair is not None else None for pair in pairs)
        if before or after:
            panels.histograms.append(Panel(name, histogram_panel(before, after, f"hist{number}"), unseen))
    return panels


def _part(method: str, headline: Headline) -> Part:
    if method == headline.after:
        return "after"
    return "before" if method == headline.before else "other"


def _disagrees(measured: Measured, method: str, outlier_set: str, curve: Curve) -> bool:
    """Whether the scores give another FPR95 than the row. A row averaged over seeds has no single set of scores."""
    cell = measured.cell(method, outlier_set)
    share = cell.metrics.get("fpr95_id") if cell else None
    return share is not None and measured.seeds == 1 and abs(share - curve.at_95) > _ROUNDING


def generation_panels(generations: Sequence[Generation]) -> list[Panel]:
    """FPR95 by generation: the mean first, then each feedback set, all on one scale."""
    names = list(dict.fromkeys(name for one in generations for name in one.fpr95))
    values = {"": [one.mean for one in generations]}
    if len(names) > 1:
        values |= {name: [one.fpr95.get(name) for one in generations] for name in names}
    series = {
        name: [(one, value) for one, value in zip(generations, of_set, strict=True) if value is not None]
        for name, of_set in values.items()
    }
    series = {name: steps for name, steps in series.items() if steps}
    highest = max((fpr95 for steps in series.values() for _, fpr95 in steps), default=0.0)
    return [
        Panel(name, generation_panel(steps, highest, f"gen{number}"))
        for number, (name, steps) in enumerate(series.items())
    ]

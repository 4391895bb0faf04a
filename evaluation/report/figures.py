"""The report's figures: ROC curves, score histograms, and FPR95 by generation. Each is one small panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from evaluation.metrics import ACCEPTANCE
from evaluation.report.scores import Curve, Histogram
from evaluation.report.svg import (
    AFTER,
    BEFORE,
    GRID,
    INK,
    KNOWN,
    MUTED,
    OTHER,
    OUTLIER,
    PAPER,
    drawing,
    inline_svg,
    new_figure,
    percent_axis,
)

Part = Literal["before", "after", "other"]
_WIDTH = 3.4
_COLOURS = {"before": BEFORE, "after": AFTER, "other": OTHER}


def roc_panel(curves: Sequence[tuple[Part, Curve]], prefix: str) -> Markup:
    """One outlier set: the methods before and after in colour with their FPR95 marked, all others thin and grey."""
    with drawing():
        figure = new_figure(_WIDTH, 2.9)
        axes = figure.add_axes((0.145, 0.145, 0.825, 0.825))
        percent_axis(axes, "x")
        percent_axis(axes, "y")
        axes.set_xlabel("outliers accepted, %", labelpad=3)
        axes.set_ylabel("known images accepted, %", labelpad=3)
        axes.axhline(ACCEPTANCE, color=MUTED, linewidth=0.7, dashes=(3, 3))
        axes.text(0.995, ACCEPTANCE - 0.018, "95 %", color=MUTED, fontsize=7.5, ha="right", va="top")
        for part, curve in sorted(curves, key=lambda pair: pair[0] != "other"):
            main = part != "other"
            axes.plot(
                curve.outliers,
                curve.known,
                color=_COLOURS[part],
                linewidth=1.9 if main else 0.8,
                linestyle="--" if part == "before" else "-",
            )
            if main:
                axes.plot(
                    [curve.at_95],
                    [ACCEPTANCE],
                    "o",
                    color=_COLOURS[part],
                    markeredgecolor=PAPER,
                    markersize=6,
                    zorder=4,
                )
        return inline_svg(figure, prefix)


def histogram_panel(before: Histogram | None, after: Histogram | None, prefix: str) -> Markup:
    """One outlier set: its scores against those of the known images, before above after, each with its threshold."""
    shown = [(name, data) for name, data in (("before", before), ("after", after)) if data is not None]
    with drawing():
        figure = new_figure(_WIDTH, 1.45 * len(shown) + 0.1)
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
    axes.text(0.0, 1.0, name, transform=axes.transAxes, color=INK, fontweight="bold", ha="left", va="top")
    axes.text(
        1.0,
        1.0,
        f"{100 * data.accepted_outliers:.1f} % of outliers accepted",
        transform=axes.transAxes,
        color=INK,
        fontsize=8,
        ha="right",
        va="top",
    )


@dataclass(frozen=True, slots=True)
class Step:
    """A generation in one panel: its FPR95 (share) and whether its bank was taken over."""

    number: int
    fpr95: float
    accepted: bool


def generation_panel(steps: Sequence[Step], highest: float, prefix: str) -> Markup:
    """FPR95 by generation: a line through the accepted ones, crosses for rejected ones. `highest` scales the axis."""
    kept = [step for step in steps if step.accepted]
    lost = [step for step in steps if not step.accepted]
    with drawing():
        figure = new_figure(_WIDTH, 2.1)
        axes = figure.add_axes((0.125, 0.19, 0.85, 0.775))
        axes.grid(axis="x", visible=False)
        axes.set_xlabel("generation", labelpad=3)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        numbers = [step.number for step in steps]
        axes.set_xlim(min(numbers) - 0.4, max(numbers) + 0.4)
        axes.set_ylim(0, highest * 1.12 or 1)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        if kept:
            axes.plot([s.number for s in kept], [s.fpr95 for s in kept], color=AFTER, linewidth=1.7, zorder=3)
            axes.plot(
                [s.number for s in kept],
                [s.fpr95 for s in kept],
                "o",
                color=AFTER,
                markeredgecolor=PAPER,
                markersize=5.5,
                zorder=4,
            )
        if lost:
            axes.plot(
                [s.number for s in lost],
                [s.fpr95 for s in lost],
                "x",
                color=BEFORE,
                markersize=5.5,
                markeredgewidth=1.6,
                zorder=5,
            )
        return inline_svg(figure, prefix)

"""Puts scores and generations into panels: which sets are drawn, in what order, and what had to be left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from markupsafe import Markup

from evaluation.report.figures import Part, Step, generation_panel, histogram_panel, roc_panel
from evaluation.report.headline import Headline
from evaluation.report.measured import Measured
from evaluation.report.model import Generation
from evaluation.report.scores import Curve, ScoreTable, histogram, roc_curve

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
    if cell is None or cell.fpr95_id is None or cell.seeds > 1:
        return False
    return abs(cell.fpr95_id - curve.at_95) > _ROUNDING


def generation_panels(generations: Sequence[Generation]) -> list[Panel]:
    """FPR95 by generation: the mean first, then each feedback set, all on one scale."""
    means = [(g, mean_fpr95(g)) for g in generations]
    series: list[tuple[str, list[Step]]] = []
    if steps := [Step(g.number, mean, g.accepted) for g, mean in means if mean is not None]:
        series.append(("", steps))
    names = list(dict.fromkeys(name for g in generations for name in g.fpr95))
    for name in names if len(names) > 1 else []:
        steps = [Step(g.number, v, g.accepted) for g in generations if (v := g.fpr95.get(name)) is not None]
        if steps:
            series.append((name, steps))
    highest = max((step.fpr95 for _, steps in series for step in steps), default=0.0)
    return [
        Panel(name, generation_panel(steps, highest, f"gen{number}")) for number, (name, steps) in enumerate(series)
    ]


def mean_fpr95(generation: Generation) -> float | None:
    """A generation's mean FPR95 over the feedback sets: as recorded, else computed."""
    if generation.mean_fpr95 is not None:
        return generation.mean_fpr95
    values = [value for value in generation.fpr95.values() if value is not None]
    return fmean(values) if values else None

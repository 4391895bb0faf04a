"""The panels of the page: which figures there are for a folder's results, each under its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from evaluation.benchmark.order import Headline, Measured
from evaluation.benchmark.results import Generation
from evaluation.report import figures
from evaluation.report.curves import Curve, ScoreTable, histogram, roc_curve

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
        curves = curves_of(measured, headline, scores, name)
        if not curves:
            panels.without_scores.append(name)
            continue
        unseen = name in measured.unseen_sets
        svg = figures.roc_panel([(part, curve) for part, _, curve in curves], f"roc{number}")
        panels.roc.append(Panel(name, svg, unseen))
        if any(_disagrees(measured, method, name, curve) for _, method, curve in curves):
            panels.mismatches.append(name)
        pairs = [scores.pair(m, name) if m else None for m in (headline.before, headline.after)]
        before, after = (histogram(*pair) if pair is not None else None for pair in pairs)
        if before or after:
            panels.histograms.append(Panel(name, figures.histogram_panel(before, after, f"hist{number}"), unseen))
    return panels


def curves_of(
    measured: Measured, headline: Headline, scores: ScoreTable, name: str
) -> list[tuple[figures.Part, str, Curve]]:
    """The ROC curves of every method on one set, as far as there are scores."""
    return [
        (_part(method, headline), method, roc_curve(*pair))
        for method in measured.methods
        if (pair := scores.pair(method, name)) is not None
    ]


def _part(method: str, headline: Headline) -> figures.Part:
    if method == headline.after:
        return "after"
    return "before" if method == headline.before else "other"


def _disagrees(measured: Measured, method: str, outlier_set: str, curve: Curve) -> bool:
    """Whether the scores give another FPR95 than the row. A row averaged over seeds has no single set of scores."""
    cell = measured.cell(method, outlier_set)
    share = cell.metrics.get("fpr95_id") if cell else None
    return share is not None and measured.seeds == 1 and abs(share - curve.at_95) > _ROUNDING


def series_of(generations: Sequence[Generation]) -> dict[str, figures.Steps]:
    """FPR95 by generation: the mean, under "", then each feedback set; sets without a figure are left out."""
    names = list(dict.fromkeys(name for one in generations for name in one.fpr95))
    values = {"": [one.mean for one in generations]}
    if len(names) > 1:
        values |= {name: [one.fpr95.get(name) for one in generations] for name in names}
    found = {
        name: [(one, value) for one, value in zip(generations, of_set, strict=True) if value is not None]
        for name, of_set in values.items()
    }
    return {name: steps for name, steps in found.items() if steps}


def generation_panels(generations: Sequence[Generation]) -> list[Panel]:
    """FPR95 by generation, all on one scale."""
    series = series_of(generations)
    highest = max((fpr95 for steps in series.values() for _, fpr95 in steps), default=0.0)
    return [
        Panel(name, figures.generation_panel(steps, highest, f"gen{number}"))
        for number, (name, steps) in enumerate(series.items())
    ]

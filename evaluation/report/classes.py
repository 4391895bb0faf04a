"""How outliers fare class by class: a strip for each set and method, a dot for each class, and the worst by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from evaluation.benchmark.results import OutlierClass
from evaluation.report.verdict import svg

MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class ClassStrip:
    """The classes of one set under one method; `worst` are the classes with the highest FPR95, the highest first."""

    set: str
    method: str
    kind: Literal["before", "after"]
    classes: int
    strip: Markup
    worst: tuple[OutlierClass, ...]


def class_strips(classes: Sequence[OutlierClass], *, before: str, after: str) -> tuple[ClassStrip, ...]:
    """Return the strips of sets with several classes, for the two methods of the headline."""
    found = []
    for name in dict.fromkeys(one.set for one in classes):
        methods: tuple[tuple[str, Literal["before", "after"]], ...] = ((before, "before"), (after, "after"))
        for method, kind in dict(methods).items():
            of_set = [(share, one) for one in classes if one.set == name for share in [one.fpr95.get(method)]]
            ranked = sorted(((share, one) for share, one in of_set if share is not None), key=_worst_first)
            if len(ranked) > 1:
                dots = [f'<circle cx="{2 + 96 * share:.2f}%" cy="50%" r="4"/>' for share, _ in ranked]
                axis = '<line class="tick" x1="2%" x2="98%" y1="50%" y2="50%"/>'
                strip = svg(f"classes {kind}", [axis, *dots])
                worst = tuple(one for _, one in ranked[:MOST_NAMED])
                found.append(ClassStrip(name, method, kind, len(ranked), strip, worst))
    return tuple(found)


def _worst_first(ranked: tuple[float, OutlierClass]) -> tuple[float, str]:
    share, one = ranked
    return -share, one.name

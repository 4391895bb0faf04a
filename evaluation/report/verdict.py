"""The verdict in words and as a forest plot: the bank against every other arm, and the cost in ID accuracy.

The plot is drawn in SVG with lengths in per cent, one strip per table row: it stretches with its column, and the names
beside it stay text, which wraps, is read aloud and is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from evaluation.benchmark.settle import MARGIN, Accuracy, Estimated, Verdict

Finding = Literal["fewer", "more", "unclear"]
ARM_TITLES: Final = {
    "bank": "the bank",
    "bank_guarded": "the bank, each antibody acting for its class only",
    "none": "no texts",
    "noise": "noise: as many random directions",
    "random_words": "random words: as many nouns, drawn at random",
    "random_places": "random places: the guarded classes in places drawn at random",
    "random_texts": "random texts: a noun for each look-alike, the guarded class in a drawn place for the others",
    "shuffled": "shuffled: the right texts for the wrong classes",
    "pixels": "pixels: as many images made of known ones",
    "neglabel": "words mined as NegLabel does",
    "csp": "words mined as CSP does",
    "words": "the whole word list",
    "neutral": "prompts that name nothing",
}


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale in shares from `low` to `high`, which holds zero."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Where a value lies, in per cent of the width."""
        return 100 * (value - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class ForestLine:
    """One arm: what it accepts, and how much less or more the bank accepts."""

    title: str
    reference: str | None
    """What stands in the bank's place in this comparison; None for the bank itself."""
    acceptance: Estimated
    difference: Estimated
    finding: Finding | None
    """None where the difference has no interval to judge it by."""
    strip: Markup


@dataclass(frozen=True, slots=True)
class AccuracyLine:
    """What the bank costs the known images."""

    title: str
    accuracy: Accuracy
    strip: Markup


@dataclass(frozen=True, slots=True)
class VerdictView:
    """Everything that the verdict's section shows."""

    verdict: Verdict
    bank: Estimated
    lines: tuple[ForestLine, ...]
    axis: Markup
    margin: float
    accuracies: tuple[AccuracyLine, ...]
    accuracy_axis: Markup
    arms: tuple[str, ...]
    """The arms of the table by set, in the order of the forest plot, the bank first."""
    left_out: tuple[tuple[str, str], ...]


def verdict_view(verdict: Verdict) -> VerdictView | None:
    """Lay a verdict out; None where there is none."""
    if verdict.status is None:
        return None
    margin = MARGIN if verdict.margin is None else verdict.margin
    axis = _axis(list(verdict.bank_minus.values()), ())
    accuracies = {
        title: accuracy
        for title, accuracy in (
            ("ID accuracy", verdict.id_accuracy),
            ("accepted at the deployed threshold, and right", verdict.accepted_and_right),
        )
        if accuracy is not None and accuracy.difference.value is not None
    }
    accuracy_axis = _axis([accuracy.difference for accuracy in accuracies.values()], (-2 * margin, margin))
    return VerdictView(
        verdict=verdict,
        bank=verdict.acceptance.get("bank", Estimated()),
        lines=tuple(
            ForestLine(
                title=ARM_TITLES.get(arm, arm),
                reference=_reference(verdict, arm),
                acceptance=verdict.acceptance.get(arm, Estimated()),
                difference=estimate,
                finding=_finding(estimate),
                strip=_strip(axis, estimate, _finding(estimate)),
            )
            for arm in _in_order(verdict.bank_minus)
            for estimate in (verdict.bank_minus[arm],)
        ),
        axis=_scale(axis),
        margin=margin,
        accuracies=tuple(
            AccuracyLine(title, one, _strip(accuracy_axis, one.difference, _accuracy_finding(one), margin=margin))
            for title, one in accuracies.items()
        ),
        accuracy_axis=_scale(accuracy_axis),
        arms=_in_order(arm for shares in verdict.per_set.values() for arm in shares),
        left_out=tuple((ARM_TITLES.get(arm, arm), why) for arm, why in verdict.left_out.items()),
    )


def _in_order(arms: Iterable[str]) -> tuple[str, ...]:
    """Each arm once: the bank, no antibodies, the controls, and then whatever a later version may add."""
    found = dict.fromkeys(arms)
    return (*(arm for arm in ARM_TITLES if arm in found), *(arm for arm in found if arm not in ARM_TITLES))


def _finding(estimate: Estimated) -> Finding | None:
    if estimate.interval is None:
        return None
    low, high = estimate.interval
    return "fewer" if high < 0 else "more" if low > 0 else "unclear"


def _reference(verdict: Verdict, arm: str) -> str | None:
    reference = verdict.references.get(arm)
    return None if reference is None else ARM_TITLES.get(reference, reference)


def _accuracy_finding(accuracy: Accuracy) -> Finding:
    """In the words of acceptance, whose colours it shares: "fewer" is good, "more" is bad."""
    if accuracy.non_inferior is None:
        return "unclear"
    return "fewer" if accuracy.non_inferior else "more"


def _axis(estimates: Sequence[Estimated], also: Sequence[float]) -> Axis:
    """A scale around zero, every value and interval, and whatever else has to be seen."""
    values = [0.0, *also]
    for estimate in estimates:
        values += [] if estimate.value is None else [estimate.value]
        values += estimate.interval or ()
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.01
    low, high = low - room, high + room
    ticks = [float(tick) for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)]
    return Axis(low, high, tuple(tick for tick in ticks if low <= tick <= high))


def _strip(axis: Axis, estimate: Estimated, finding: Finding | None, *, margin: float | None = None) -> Markup:
    """An estimate as a dot with its interval as a line, over the line of no difference (and the margin, dashed)."""
    parts = [_upright("zero", axis.place(0))]
    if margin is not None:
        parts.append(_upright("margin", axis.place(-margin)))
    if estimate.interval is not None:
        low, high = (axis.place(bound) for bound in estimate.interval)
        parts.append(f'<line class="span" x1="{low:.2f}%" x2="{high:.2f}%" y1="50%" y2="50%"/>')
    if estimate.value is not None:
        parts.append(f'<circle cx="{axis.place(estimate.value):.2f}%" cy="50%" r="4.5"/>')
    return svg(f"strip {finding or 'unclear'}", parts)


def _scale(axis: Axis) -> Markup:
    """The ticks and their numbers, in percentage points."""
    parts = []
    for tick in axis.ticks:
        points = f"{100 * tick + 0.0:g}".replace("-", "\N{MINUS SIGN}")
        parts.append(f'<line class="tick" x1="{axis.place(tick):.2f}%" x2="{axis.place(tick):.2f}%" y1="0" y2="4"/>')
        parts.append(f'<text x="{axis.place(tick):.2f}%" y="16" text-anchor="middle">{points}</text>')
    return svg("scale", parts)


def _upright(kind: str, place: float) -> str:
    return f'<line class="{kind}" x1="{place:.2f}%" x2="{place:.2f}%" y1="0" y2="100%"/>'


def svg(kind: str, parts: Sequence[str]) -> Markup:
    """The parts, in which nothing may stand that somebody wrote, as a picture of a CSS class."""
    drawn = "".join(parts)
    return Markup(f'<svg class="{kind}" aria-hidden="true" focusable="false">{drawn}</svg>')  # noqa: S704 - numbers only

"""What the page says first: its title, what became of each outlier set, and the methods of the short table."""

from __future__ import annotations

from evaluation.benchmark.order import Headline, Measured
from evaluation.benchmark.results import Results

_ALIKE = (0.95, 1.05)
"""Ratios between which two methods accept about as many outliers."""


def headline_title(headline: Headline) -> str:
    """The result in one line: how many times fewer outliers are accepted, or what else there is to say."""
    main = headline.main
    if main.after is None:
        return "Nothing to compare" if main.best is None else f"{_percent(main.best)} of the outliers are accepted"
    if main.ratio is None:
        return f"{_percent(main.after)} of the outliers are accepted"
    if main.ratio >= _ALIKE[1]:
        return f"{main.ratio:.1f} times fewer outliers accepted"
    if main.ratio > _ALIKE[0]:
        return "About as many outliers accepted as without antibodies"
    return "More outliers accepted than without antibodies"


def compared_in_words(headline: Headline) -> str:
    """How the bank fares against the best method without antibodies: fewer, alike, more; "" where nothing is known."""
    ratio = headline.main.ratio
    if ratio is None:
        return ""
    return "fewer" if ratio >= _ALIKE[1] else "alike" if ratio > _ALIKE[0] else "more"


def subject(results: Results) -> str:
    """What was measured, under the title: the session or what else the run is called, unless that says nothing."""
    return "" if results.title == "benchmark" else results.title


def bank_given(results: Results, measured: Measured) -> bool:
    """Whether any antibodies were there to be measured."""
    return bool(results.antibodies) or any(measured.group(method) == "bank" for method in measured.methods)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"

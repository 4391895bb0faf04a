"""Pictures in SVG, drawn from numbers: nothing that somebody wrote is in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

_WIDE, _HIGH, _EDGE = 120.0, 28.0, 4.0
_CURVE_WIDE, _CURVE_HIGH, _LEFT, _BOTTOM, _TOP = 560.0, 220.0, 44.0, 28.0, 12.0
_TICKS: Final = 4


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _svg(kind: str, box: tuple[float, float], label: str, drawn: Sequence[str]) -> Markup:
    head = Markup('<svg class="{}" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">').format(kind, *box, label)
    return head + Markup("".join(drawn)) + Markup("</svg>")  # noqa: S704 - numbers only


def _line(places: Sequence[tuple[float, float]], kind: str = "line") -> str:
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'


def sparkline(values: Sequence[float | None], what: str) -> Markup:
    """A share by generation, on a scale of its own; the last one has a dot."""
    told = [(number, value) for number, value in enumerate(values) if value is not None and _is_number(value)]
    if not told:
        return Markup("")
    low, high = min(value for _, value in told), max(value for _, value in told)
    room, last = high - low, max(number for number, _ in told)
    places = [
        (
            _EDGE + (_WIDE - 2 * _EDGE) * (number / last if last else 0.5),
            _HIGH / 2 if room == 0 else _EDGE + (_HIGH - 2 * _EDGE) * (high - value) / room,
        )
        for number, value in told
    ]
    label = f"{what}, per cent: {', '.join(f'{100 * value:.1f}' for _, value in told[-12:])}"
    x, y = places[-1]
    return _svg("spark", (_WIDE, _HIGH), label, [_line(places), f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>'])


def curve(values: Sequence[float | None], accepted: Sequence[bool], what: str) -> Markup:
    """A share by generation, from 0 to above its largest; full dots are of generations that were accepted."""
    told = [(number, value) for number, value in enumerate(values) if value is not None and _is_number(value)]
    if not told:
        return Markup("")
    step = next((one for one in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25) if _TICKS * one >= max(v for _, v in told)), 0.25)
    most, last = _TICKS * step, max(len(values) - 1, 1)

    def place(number: float, value: float) -> tuple[float, float]:
        wide, high = _CURVE_WIDE - _LEFT - _TOP, _CURVE_HIGH - _BOTTOM - _TOP
        return _LEFT + wide * number / last, _TOP + high * (1 - value / most)

    drawn = []
    for tick in range(_TICKS + 1):
        _, y = place(0, tick * step)
        drawn.append(f'<line class="grid" x1="{_LEFT}" x2="{_CURVE_WIDE - _TOP}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{100 * tick * step:g}</text>')
    every = math.ceil(len(values) / 12)
    for number in range(0, len(values), every):
        x, _ = place(number, 0)
        drawn.append(f'<text x="{x:.1f}" y="{_CURVE_HIGH - 8}" text-anchor="middle">{number}</text>')
    drawn.append(_line([place(number, value) for number, value in told]))
    for number, value in told:
        x, y = place(number, value)
        drawn.append(f'<circle class="{"yes" if accepted[number] else "no"}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
    label = f"{what} by generation, per cent: {', '.join(f'{100 * value:.1f}' for _, value in told)}"
    return _svg("curve", (_CURVE_WIDE, _CURVE_HIGH), label, drawn)


def strip(accepted: Sequence[bool], what: str) -> Markup:
    """A square for each generation: full where it accepted, hollow where it rejected."""
    drawn = [
        f'<rect class="{"yes" if one else "no"}" x="{14 * place + 1}" y="1" width="11" height="11" rx="2"/>'
        for place, one in enumerate(accepted)
    ]
    words = ", ".join("accepted" if one else "rejected" for one in accepted)
    width = 14.0 * max(len(accepted), 1)
    return _svg("squares", (width, 13.0), f"{what}: {words}", drawn)


def step(kind: str, *, first: bool, last: bool) -> Markup:
    """A node of a lineage with the line to those above and below it; it stretches with its row."""
    top, bottom = ("50%" if first else "0"), ("50%" if last else "100%")
    drawn = f'<line x1="50%" x2="50%" y1="{top}" y2="{bottom}"/>'
    drawn += '<circle cx="50%" cy="50%" r="5.5"/></svg>'
    return Markup('<svg class="step {}" aria-hidden="true" focusable="false">').format(kind) + Markup(drawn)  # noqa: S704 - numbers only

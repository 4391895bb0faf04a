"""The drawing vocabulary of the mini-world: filled outlines and strokes, each with a role instead of a colour.

Shapes live in a square from -1 to 1, x to the right and y down. A role says which paint a part gets when the shape is
drawn: the scene's own colour and texture (MAIN), some other colour (ACCENT), or one of three fixed paints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

Point: TypeAlias = tuple[float, float]


class Role(IntEnum):
    """Which paint a part of a shape gets. 0 is left for "nothing drawn here"."""

    MAIN = 1
    ACCENT = 2
    DARK = 3
    WHITE = 4
    WOOD = 5


MAIN: Final = Role.MAIN
ACCENT: Final = Role.ACCENT
DARK: Final = Role.DARK
WHITE: Final = Role.WHITE
WOOD: Final = Role.WOOD


class Part(NamedTuple):
    """One part of a shape: a filled outline, or a stroke where `width` is given (in the units of the square)."""

    role: Role
    points: tuple[Point, ...]
    width: float | None = None


Shape: TypeAlias = list[Part]
"""Parts in the order in which they are painted."""


def polygon(role: Role, *points: Point) -> Part:
    """A filled polygon."""
    return Part(role, points)


def rectangle(role: Role, left: float, top: float, right: float, bottom: float) -> Part:
    """A filled upright rectangle."""
    return polygon(role, (left, top), (right, top), (right, bottom), (left, bottom))


def ellipse(
    role: Role,
    x: float,
    y: float,
    radius_x: float,
    radius_y: float,
    rotation: float = 0,
    start: float = 0,
    end: float = 360,
) -> Part:
    """A filled ellipse around (x, y), or the part of it from `start` to `end`; all angles in degrees, clockwise."""
    steps = 24
    cosine, sine = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    points = []
    for angle in _angles(start, end, steps - 1):
        along, across = radius_x * math.cos(angle), radius_y * math.sin(angle)
        points.append((x + along * cosine - across * sine, y + along * sine + across * cosine))
    return polygon(role, *points)


def half_disc(role: Role, x: float, y: float, radius_x: float, radius_y: float) -> Part:
    """The upper half of an ellipse: a dome."""
    return ellipse(role, x, y, radius_x, radius_y, start=180, end=360)


def line(role: Role, width: float, *points: Point) -> Part:
    """A stroke through the points."""
    return Part(role, points, width)


def ring(role: Role, x: float, y: float, radius: float, width: float, start: float = 0, end: float = 360) -> Part:
    """A circle drawn as a stroke, or the arc of it from `start` to `end` degrees."""
    angles = _angles(start, end, 20)
    return line(role, width, *[(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles])


def rays(role: Role, count: int, inner: float, outer: float, width: float, turn: float = 0) -> Shape:
    """Strokes pointing away from the centre, from radius `inner` to `outer`, turned by `turn` radians."""
    directions = [2 * math.pi * index / count + turn for index in range(count)]
    return [
        line(
            role,
            width,
            (inner * math.cos(angle), inner * math.sin(angle)),
            (outer * math.cos(angle), outer * math.sin(angle)),
        )
        for angle in directions
    ]


def road_wheel(x: float, y: float, radius: float) -> Shape:
    """A dark tyre with a white hub."""
    return [ellipse(DARK, x, y, radius, radius), ellipse(WHITE, x, y, radius * 0.4, radius * 0.4)]


def arc_points(x: float, radius_x: float, radius_y: float, start: float, end: float, step: float) -> tuple[Point, ...]:
    """Points on an ellipse around (x, 0), every `step` degrees from `start` up or down to `end`, both included."""
    count = round(abs(end - start) / abs(step))
    return tuple((x + radius_x * math.cos(angle), radius_y * math.sin(angle)) for angle in _angles(start, end, count))


def _angles(start: float, end: float, steps: int) -> Sequence[float]:
    return [math.radians(start + (end - start) * index / steps) for index in range(steps + 1)]

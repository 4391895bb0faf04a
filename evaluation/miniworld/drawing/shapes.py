"""The shapes of the mini-world: known classes, their look-alikes, fillers.

Those that are always the same stand in shapes.txt, in the drawing vocabulary of `primitives`; here is what a formula
draws, and what has parts that turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from evaluation.miniworld.drawing.primitives import (
    ACCENT,
    DARK,
    MAIN,
    WHITE,
    WOOD,
    Part,
    Point,
    Role,
    Shape,
    arc_points,
    ellipse,
    half_disc,
    line,
    polygon,
    rays,
    rectangle,
    ring,
    road_wheel,
)

_PARTS: Final[dict[str, Callable[..., Part | Shape]]] = {
    part.__name__: part for part in (ellipse, half_disc, line, polygon, rays, rectangle, ring, road_wheel)
}


def _read(path: Path) -> dict[str, Shape]:
    """The shapes of a file: a category on a line of its own, then its parts, indented, in the order of painting."""
    shapes: dict[str, Shape] = {}
    shape: Shape = []
    for text in path.read_text(encoding="utf-8").splitlines():
        if text.startswith(" "):
            kind, *words = text.split()
            options = dict(word.split("=") for word in words if "=" in word)
            arguments = [_argument(word) for word in words if "=" not in word]
            part = _PARTS[kind](*arguments, **{name: _argument(value) for name, value in options.items()})
            shape += [part] if isinstance(part, Part) else part
        elif text and not text.startswith("#"):
            shape = shapes.setdefault(text, [])
    return shapes


def _argument(word: str) -> Any:
    """A role, a point (x,y) or a number."""
    if word.isupper():
        return Role[word]
    if "," in word:
        return tuple(_argument(number) for number in word.split(","))
    return float(word) if "." in word else int(word)


def clock(hour: float, minute: float) -> Shape:
    """A dial with twelve marks and two hands; `hour` and `minute` turn the hands, as fractions of a round."""
    hour_angle, minute_angle = 2 * math.pi * hour, 2 * math.pi * minute
    return [
        ellipse(MAIN, 0, 0, 0.8, 0.8),
        ellipse(WHITE, 0, 0, 0.64, 0.64),
        *rays(DARK, 12, 0.5, 0.62, 0.05),
        line(DARK, 0.08, (0, 0), (0.3 * math.cos(hour_angle), 0.3 * math.sin(hour_angle))),
        line(DARK, 0.06, (0, 0), (0.48 * math.cos(minute_angle), 0.48 * math.sin(minute_angle))),
    ]


def compass(turn: float, _: float) -> Shape:
    """Looks like a clock, but with one two-coloured needle, which `turn` turns (a fraction of a round)."""
    angle = 2 * math.pi * turn
    cosine, sine = math.cos(angle), math.sin(angle)

    def turned(x: float, y: float) -> Point:
        return x * cosine - y * sine, x * sine + y * cosine

    return [
        ellipse(MAIN, 0, 0, 0.8, 0.8),
        ellipse(WHITE, 0, 0, 0.66, 0.66),
        polygon(DARK, turned(0.58, 0), turned(0, 0.17), turned(0, -0.17)),
        polygon(ACCENT, turned(-0.58, 0), turned(0, 0.17), turned(0, -0.17)),
        rectangle(MAIN, -0.1, -0.98, 0.1, -0.78),
    ]


def wheel(turn: float, _: float) -> Shape:
    """Looks like a clock, but with a tyre and six spokes, which `turn` turns (radians)."""
    return [
        ellipse(DARK, 0, 0, 0.82, 0.82),
        ellipse(MAIN, 0, 0, 0.64, 0.64),
        *rays(WHITE, 6, 0.1, 0.62, 0.09, turn),
        ellipse(DARK, 0, 0, 0.16, 0.16),
    ]


def _spiral(turns: float, steps: int) -> list[Point]:
    """A spiral around (0, -0.3), the sweet of the lollipop."""
    angles = [turns * index / (steps - 1) for index in range(steps)]
    return [(0.06 * angle * math.cos(angle), -0.3 + 0.06 * angle * math.sin(angle)) for angle in angles]


def _tentacle(x: float) -> list[Point]:
    return [(x + 0.07 * math.sin(1.6 * step + 9 * x), -0.05 + 0.13 * step) for step in range(8)]


def _palm_leaf(angle: float) -> tuple[float, float, float, float, float]:
    """Centre, radii and rotation of the leaf that points in a direction in degrees."""
    radians = math.radians(angle)
    return 0.42 * math.cos(radians), -0.35 + 0.4 * math.sin(radians), 0.48, 0.12, angle


def _star_point(index: int) -> Point:
    """Corners 0 to 9 of a five-pointed star, tips and notches in turn."""
    radius = 0.9 if index % 2 == 0 else 0.4
    angle = index * math.pi / 5
    return radius * math.sin(angle), -radius * math.cos(angle)


_BANANA_OUTER: Final = arc_points(0.1, 0.85, 0.85, 100, 260, 10)
_BANANA_INNER: Final = arc_points(0.35, 0.8, 0.68, 250, 110, 10)
_PETALS: Final = 7
FIXED_SHAPES: Final[dict[str, Shape]] = _read(Path(__file__).with_suffix(".txt")) | {
    # A crescent: the outer rim one way round, the inner rim back.
    "moon": [polygon(MAIN, *arc_points(0, 0.8, 0.8, 60, 300, 12), *arc_points(0.25, 0.62, 0.62, 290, 70, 12))],
    "lollipop": [
        rectangle(WHITE, -0.05, 0.2, 0.05, 0.95),
        ellipse(MAIN, 0, -0.3, 0.55, 0.55),
        line(ACCENT, 0.08, *_spiral(9, 20)),
    ],
    "palm": [
        polygon(WOOD, (-0.05, -0.3), (0.08, -0.3), (0.2, 0.9), (-0.05, 0.9)),
        *[ellipse(MAIN, *_palm_leaf(angle)) for angle in (-160, -120, -60, -20, 20, 160)],
    ],
    "jellyfish": [
        half_disc(MAIN, 0, -0.05, 0.65, 0.75),
        *[line(MAIN, 0.07, *_tentacle(x)) for x in (-0.45, -0.2, 0.05, 0.3, 0.5)],
        ellipse(DARK, -0.2, -0.3, 0.06, 0.06),
        ellipse(DARK, 0.2, -0.3, 0.06, 0.06),
    ],
    "flower": [
        *[
            ellipse(MAIN, 0.5 * math.cos(angle), 0.5 * math.sin(angle), 0.33, 0.2, rotation=math.degrees(angle))
            for angle in (2 * math.pi * petal / _PETALS for petal in range(_PETALS))
        ],
        ellipse(ACCENT, 0, 0, 0.28, 0.28),
    ],
    # A crescent like the moon's, but thinner at the ends, with a stalk and a dark tip.
    "banana": [
        polygon(MAIN, *_BANANA_OUTER, *_BANANA_INNER),
        line(DARK, 0.12, _BANANA_OUTER[-1], (_BANANA_OUTER[-1][0] + 0.12, _BANANA_OUTER[-1][1] - 0.08)),
        ellipse(DARK, _BANANA_OUTER[0][0] + 0.03, _BANANA_OUTER[0][1] - 0.02, 0.07, 0.07),
    ],
    "star": [polygon(MAIN, *[_star_point(index) for index in range(10)])],
}
TURNING_SHAPES: Final[dict[str, Callable[[float, float], Shape]]] = {
    "clock": clock,
    "compass": compass,
    "wheel": wheel,
}


def shape_of(category: str, first_turn: float, second_turn: float) -> Shape:
    """The shape of a category. The turns, from 0 to 1, move the parts of a shape that move; most have none.

    Raises KeyError for a name that is no category.
    """
    turning = TURNING_SHAPES.get(category)
    return turning(first_turn, second_turn) if turning else FIXED_SHAPES[category]

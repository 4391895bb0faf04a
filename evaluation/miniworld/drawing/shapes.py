"""The shapes of the mini-world in the drawing vocabulary of `primitives`: known classes, their look-alikes, fillers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from evaluation.miniworld.drawing.primitives import (
    ACCENT,
    DARK,
    MAIN,
    WHITE,
    WOOD,
    Point,
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


KNOWN_SHAPES: Final[dict[str, Shape]] = {
    "fish": [
        polygon(MAIN, (0.45, 0), (0.95, -0.45), (0.95, 0.45)),
        ellipse(MAIN, -0.1, 0, 0.75, 0.42),
        ellipse(WHITE, -0.5, -0.1, 0.1, 0.1),
        ellipse(DARK, -0.52, -0.1, 0.05, 0.05),
        line(DARK, 0.05, (-0.25, -0.25), (-0.2, 0), (-0.25, 0.25)),
    ],
    "sailboat": [
        polygon(WOOD, (-0.8, 0.45), (0.8, 0.45), (0.5, 0.85), (-0.5, 0.85)),
        line(DARK, 0.07, (0, 0.45), (0, -0.9)),
        polygon(MAIN, (0.06, -0.85), (0.06, 0.35), (0.75, 0.35)),
        polygon(WHITE, (-0.06, -0.6), (-0.06, 0.35), (-0.55, 0.35)),
    ],
    "car": [
        polygon(
            MAIN,
            (-0.95, 0.1),
            (-0.55, 0.05),
            (-0.3, -0.4),
            (0.35, -0.4),
            (0.6, 0.05),
            (0.95, 0.15),
            (0.95, 0.5),
            (-0.95, 0.5),
        ),
        polygon(WHITE, (-0.42, 0.03), (-0.24, -0.3), (0, -0.3), (0, 0.03)),
        polygon(WHITE, (0.08, 0.03), (0.08, -0.3), (0.3, -0.3), (0.46, 0.03)),
        *road_wheel(-0.5, 0.5, 0.22),
        *road_wheel(0.5, 0.5, 0.22),
    ],
    "house": [
        rectangle(MAIN, -0.65, -0.1, 0.65, 0.8),
        polygon(ACCENT, (-0.85, -0.1), (0, -0.85), (0.85, -0.1)),
        rectangle(DARK, -0.15, 0.3, 0.15, 0.8),
        rectangle(WHITE, -0.5, 0.1, -0.27, 0.35),
        rectangle(WHITE, 0.27, 0.1, 0.5, 0.35),
    ],
    "tree": [
        rectangle(WOOD, -0.12, 0.2, 0.12, 0.9),
        ellipse(MAIN, 0, -0.3, 0.6, 0.58),
        ellipse(MAIN, -0.4, 0, 0.3, 0.28),
        ellipse(MAIN, 0.4, 0, 0.3, 0.28),
    ],
    "mushroom": [
        rectangle(WHITE, -0.2, 0, 0.2, 0.8),
        half_disc(MAIN, 0, 0, 0.8, 0.7),
        ellipse(WHITE, -0.35, -0.25, 0.13, 0.1),
        ellipse(WHITE, 0.1, -0.45, 0.13, 0.1),
        ellipse(WHITE, 0.45, -0.2, 0.1, 0.08),
    ],
    "sun": [*rays(MAIN, 10, 0.5, 0.95, 0.09), ellipse(MAIN, 0, 0, 0.5, 0.5)],
    "cup": [
        ring(MAIN, 0.6, 0, 0.3, 0.13),
        polygon(MAIN, (-0.6, -0.55), (0.55, -0.55), (0.5, 0.6), (-0.55, 0.6)),
        ellipse(DARK, -0.02, -0.55, 0.57, 0.12),
    ],
    "bicycle": [
        ring(DARK, -0.58, 0.35, 0.36, 0.07),
        ring(DARK, 0.58, 0.35, 0.36, 0.07),
        line(MAIN, 0.1, (-0.58, 0.35), (-0.2, -0.25), (0.4, -0.25), (0, 0.35), (-0.58, 0.35)),
        line(MAIN, 0.1, (-0.2, -0.25), (0, 0.35)),
        line(MAIN, 0.1, (0.58, 0.35), (0.36, -0.5), (0.55, -0.55)),
        line(DARK, 0.1, (-0.35, -0.35), (-0.08, -0.35)),
    ],
    "plane": [
        polygon(MAIN, (-0.1, -0.05), (0.35, -0.85), (0.5, -0.85), (0.25, 0)),
        polygon(MAIN, (-0.1, 0.05), (0.35, 0.85), (0.5, 0.85), (0.25, 0)),
        ellipse(MAIN, 0, 0, 0.9, 0.17),
        polygon(ACCENT, (0.6, 0), (0.85, -0.38), (0.95, -0.38), (0.88, 0), (0.95, 0.38), (0.85, 0.38)),
        ellipse(WHITE, -0.7, 0, 0.1, 0.08),
    ],
    "butterfly": [
        ellipse(MAIN, -0.45, -0.35, 0.5, 0.36, rotation=35),
        ellipse(MAIN, 0.45, -0.35, 0.5, 0.36, rotation=-35),
        ellipse(MAIN, -0.38, 0.35, 0.36, 0.28, rotation=-30),
        ellipse(MAIN, 0.38, 0.35, 0.36, 0.28, rotation=30),
        ellipse(ACCENT, -0.5, -0.38, 0.17, 0.13),
        ellipse(ACCENT, 0.5, -0.38, 0.17, 0.13),
        ellipse(DARK, 0, 0, 0.08, 0.5),
        line(DARK, 0.04, (0, -0.45), (-0.2, -0.8)),
        line(DARK, 0.04, (0, -0.45), (0.2, -0.8)),
    ],
    "moon": [
        # A crescent: the outer rim one way round, the inner rim back.
        polygon(MAIN, *arc_points(0, 0.8, 0.8, 60, 300, 12), *arc_points(0.25, 0.62, 0.62, 290, 70, 12)),
    ],
    "bottle": [
        rectangle(MAIN, -0.35, -0.1, 0.35, 0.9),
        polygon(MAIN, (-0.35, -0.1), (-0.13, -0.45), (0.13, -0.45), (0.35, -0.1)),
        rectangle(MAIN, -0.13, -0.75, 0.13, -0.4),
        rectangle(DARK, -0.16, -0.92, 0.16, -0.75),
        rectangle(WHITE, -0.35, 0.2, 0.35, 0.6),
    ],
    "cat": [
        polygon(MAIN, (-0.7, -0.1), (-0.65, -0.9), (-0.15, -0.5)),
        polygon(MAIN, (0.7, -0.1), (0.65, -0.9), (0.15, -0.5)),
        ellipse(MAIN, 0, 0.1, 0.72, 0.62),
        ellipse(WHITE, -0.28, 0, 0.14, 0.12),
        ellipse(WHITE, 0.28, 0, 0.14, 0.12),
        ellipse(DARK, -0.28, 0, 0.06, 0.1),
        ellipse(DARK, 0.28, 0, 0.06, 0.1),
        polygon(ACCENT, (-0.08, 0.22), (0.08, 0.22), (0, 0.32)),
        line(DARK, 0.03, (-0.2, 0.32), (-0.75, 0.25)),
        line(DARK, 0.03, (0.2, 0.32), (0.75, 0.25)),
        line(DARK, 0.03, (-0.2, 0.4), (-0.7, 0.48)),
        line(DARK, 0.03, (0.2, 0.4), (0.7, 0.48)),
    ],
    "apple": [
        ellipse(MAIN, -0.25, 0.15, 0.48, 0.6),
        ellipse(MAIN, 0.25, 0.15, 0.48, 0.6),
        line(DARK, 0.09, (0, -0.3), (0.1, -0.75)),
        ellipse(ACCENT, 0.32, -0.65, 0.25, 0.1, rotation=-25),
    ],
}
"""The known classes that always look the same; `clock` has hands that turn."""


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


_BANANA_OUTER: Final = arc_points(0.1, 0.85, 0.85, 100, 260, 10)
_BANANA_INNER: Final = arc_points(0.35, 0.8, 0.68, 250, 110, 10)
_PETALS: Final = 7
LOOK_ALIKE_SHAPES: Final[dict[str, Shape]] = {
    "whale": [
        polygon(MAIN, (0.5, 0), (0.75, -0.55), (1, -0.6), (0.9, -0.3), (1, -0.05), (0.7, 0.2)),
        ellipse(MAIN, -0.15, 0.1, 0.8, 0.45),
        polygon(ACCENT, (-0.8, 0.3), (0.3, 0.48), (-0.2, 0.56)),
        ellipse(DARK, -0.55, 0.05, 0.06, 0.06),
        line(WHITE, 0.06, (-0.3, -0.35), (-0.3, -0.75)),
        line(WHITE, 0.06, (-0.3, -0.65), (-0.5, -0.85)),
        line(WHITE, 0.06, (-0.3, -0.65), (-0.1, -0.85)),
    ],
    "shark": [
        polygon(MAIN, (-0.1, -0.3), (0.15, -0.8), (0.3, -0.25)),
        polygon(MAIN, (0.5, 0), (1, -0.65), (0.8, 0), (1, 0.4)),
        polygon(MAIN, (-0.95, 0), (-0.4, -0.33), (0.3, -0.3), (0.8, -0.02), (0.3, 0.22), (-0.5, 0.25)),
        polygon(MAIN, (0, 0.2), (0.2, 0.6), (0.3, 0.2)),
        ellipse(DARK, -0.6, -0.08, 0.05, 0.05),
        line(DARK, 0.04, (-0.75, 0.12), (-0.5, 0.14)),
    ],
    "ship": [
        polygon(MAIN, (-0.95, 0.25), (0.95, 0.25), (0.7, 0.8), (-0.75, 0.8)),
        rectangle(WHITE, -0.5, -0.1, 0.5, 0.25),
        rectangle(ACCENT, -0.1, -0.7, 0.15, -0.1),
        rectangle(DARK, -0.1, -0.7, 0.15, -0.58),
        *[ellipse(DARK, x, 0.08, 0.06, 0.06) for x in (-0.3, 0, 0.3)],
    ],
    "submarine": [
        ellipse(MAIN, 0, 0.25, 0.95, 0.4),
        rectangle(MAIN, -0.2, -0.35, 0.25, 0.1),
        line(DARK, 0.07, (0.1, -0.35), (0.1, -0.8), (0.35, -0.8)),
        *[ellipse(WHITE, x, 0.25, 0.1, 0.1) for x in (-0.4, 0, 0.4)],
    ],
    "van": [
        polygon(MAIN, (-0.95, 0.5), (-0.95, 0.05), (-0.75, -0.5), (0.9, -0.5), (0.95, 0.5)),
        polygon(WHITE, (-0.82, 0.03), (-0.65, -0.38), (-0.4, -0.38), (-0.4, 0.03)),
        rectangle(WHITE, -0.25, -0.35, 0.15, -0.02),
        rectangle(WHITE, 0.3, -0.35, 0.75, -0.02),
        *road_wheel(-0.5, 0.52, 0.21),
        *road_wheel(0.55, 0.52, 0.21),
    ],
    "tractor": [
        rectangle(MAIN, -0.85, -0.05, 0.2, 0.4),
        rectangle(MAIN, 0.05, -0.65, 0.6, 0.3),
        rectangle(WHITE, 0.15, -0.55, 0.5, -0.15),
        line(DARK, 0.08, (-0.55, -0.05), (-0.55, -0.5)),
        *road_wheel(0.4, 0.4, 0.45),
        *road_wheel(-0.6, 0.55, 0.25),
    ],
    "barn": [
        polygon(MAIN, (-0.75, 0.8), (-0.75, -0.1), (-0.5, -0.55), (0, -0.8), (0.5, -0.55), (0.75, -0.1), (0.75, 0.8)),
        line(WHITE, 0.08, (-0.75, -0.1), (-0.5, -0.55), (0, -0.8), (0.5, -0.55), (0.75, -0.1)),
        rectangle(WHITE, -0.35, 0.1, 0.35, 0.8),
        rectangle(DARK, -0.28, 0.17, 0.28, 0.8),
        line(WHITE, 0.08, (-0.28, 0.17), (0.28, 0.8)),
        line(WHITE, 0.08, (0.28, 0.17), (-0.28, 0.8)),
    ],
    "church": [
        rectangle(MAIN, -0.3, 0.1, 0.8, 0.8),
        polygon(ACCENT, (-0.3, 0.1), (0.3, -0.3), (0.8, 0.1)),
        rectangle(MAIN, -0.75, -0.25, -0.3, 0.8),
        polygon(ACCENT, (-0.8, -0.25), (-0.52, -0.75), (-0.25, -0.25)),
        line(DARK, 0.07, (-0.52, -0.75), (-0.52, -1)),
        line(DARK, 0.07, (-0.63, -0.9), (-0.41, -0.9)),
        rectangle(DARK, -0.62, 0.45, -0.42, 0.8),
    ],
    "lollipop": [
        rectangle(WHITE, -0.05, 0.2, 0.05, 0.95),
        ellipse(MAIN, 0, -0.3, 0.55, 0.55),
        line(ACCENT, 0.08, *_spiral(9, 20)),
    ],
    "palm": [
        polygon(WOOD, (-0.05, -0.3), (0.08, -0.3), (0.2, 0.9), (-0.05, 0.9)),
        *[ellipse(MAIN, *_palm_leaf(angle)) for angle in (-160, -120, -60, -20, 20, 160)],
    ],
    "umbrella": [
        half_disc(MAIN, 0, 0, 0.85, 0.75),
        *[half_disc(ACCENT, x, 0, 0.28, 0.12) for x in (-0.57, 0, 0.57)],
        line(DARK, 0.07, (0, -0.9), (0, 0.7)),
        ring(DARK, 0.15, 0.7, 0.15, 0.07, start=180, end=0),
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
    "gear": [*rays(MAIN, 9, 0.5, 0.9, 0.24), ellipse(MAIN, 0, 0, 0.65, 0.65), ellipse(DARK, 0, 0, 0.25, 0.25)],
    "bucket": [
        ring(DARK, 0, -0.45, 0.6, 0.06, start=180, end=360),
        polygon(MAIN, (-0.7, -0.45), (0.7, -0.45), (0.45, 0.8), (-0.45, 0.8)),
        ellipse(DARK, 0, -0.45, 0.7, 0.14),
    ],
    "vase": [
        polygon(
            MAIN,
            (-0.3, -0.8),
            (0.3, -0.8),
            (0.18, -0.45),
            (0.55, 0.05),
            (0.5, 0.5),
            (0.25, 0.85),
            (-0.25, 0.85),
            (-0.5, 0.5),
            (-0.55, 0.05),
            (-0.18, -0.45),
        ),
        line(ACCENT, 0.1, (-0.5, 0.1), (0.5, 0.1)),
        ellipse(DARK, 0, -0.8, 0.3, 0.08),
    ],
    "motorbike": [
        *road_wheel(-0.58, 0.38, 0.36),
        *road_wheel(0.58, 0.38, 0.36),
        polygon(MAIN, (-0.6, 0.1), (-0.4, -0.2), (0.1, -0.25), (0.4, -0.1), (0.2, 0.35), (-0.35, 0.35)),
        polygon(DARK, (-0.6, -0.2), (-0.1, -0.25), (-0.1, -0.12), (-0.55, -0.1)),
        line(DARK, 0.09, (0.58, 0.38), (0.3, -0.45), (0.1, -0.5)),
        ellipse(WHITE, 0.4, -0.3, 0.1, 0.1),
    ],
    "glasses": [
        ring(MAIN, -0.5, 0, 0.36, 0.12),
        ring(MAIN, 0.5, 0, 0.36, 0.12),
        line(MAIN, 0.1, (-0.16, -0.05), (0, -0.13), (0.16, -0.05)),
        line(MAIN, 0.09, (-0.85, -0.1), (-0.98, -0.4)),
        line(MAIN, 0.09, (0.85, -0.1), (0.98, -0.4)),
    ],
    "bird": [
        polygon(MAIN, (0.4, 0), (0.95, -0.25), (0.95, 0.25)),
        ellipse(MAIN, 0, 0.05, 0.55, 0.28),
        polygon(MAIN, (-0.1, 0), (0.1, -0.85), (0.45, -0.75), (0.3, 0)),
        ellipse(MAIN, -0.5, -0.15, 0.24, 0.22),
        polygon(ACCENT, (-0.7, -0.2), (-0.95, -0.1), (-0.7, -0.05)),
        ellipse(DARK, -0.55, -0.2, 0.05, 0.05),
    ],
    "helicopter": [
        line(DARK, 0.07, (-0.85, -0.65), (0.75, -0.65)),
        line(DARK, 0.07, (-0.05, -0.65), (-0.05, -0.3)),
        ellipse(MAIN, -0.15, 0.05, 0.5, 0.38),
        ellipse(WHITE, -0.38, 0, 0.2, 0.2),
        line(MAIN, 0.13, (0.2, -0.02), (0.9, -0.1)),
        ring(DARK, 0.9, -0.1, 0.15, 0.06),
        line(DARK, 0.07, (-0.55, 0.62), (0.3, 0.62)),
        line(DARK, 0.05, (-0.3, 0.4), (-0.3, 0.62)),
        line(DARK, 0.05, (0.05, 0.4), (0.05, 0.62)),
    ],
    "bowtie": [
        polygon(MAIN, (0, 0), (-0.9, -0.5), (-0.9, 0.5)),
        polygon(MAIN, (0, 0), (0.9, -0.5), (0.9, 0.5)),
        rectangle(ACCENT, -0.17, -0.2, 0.17, 0.2),
    ],
    "dragonfly": [
        ellipse(MAIN, -0.5, -0.3, 0.5, 0.12, rotation=10),
        ellipse(MAIN, 0.5, -0.3, 0.5, 0.12, rotation=-10),
        ellipse(MAIN, -0.48, -0.05, 0.46, 0.11, rotation=-8),
        ellipse(MAIN, 0.48, -0.05, 0.46, 0.11, rotation=8),
        ellipse(DARK, 0, 0.3, 0.06, 0.65),
        ellipse(ACCENT, 0, -0.45, 0.15, 0.13),
    ],
    "banana": [
        # A crescent like the moon's, but thinner at the ends, with a stalk and a dark tip.
        polygon(MAIN, *_BANANA_OUTER, *_BANANA_INNER),
        line(DARK, 0.12, _BANANA_OUTER[-1], (_BANANA_OUTER[-1][0] + 0.12, _BANANA_OUTER[-1][1] - 0.08)),
        ellipse(DARK, _BANANA_OUTER[0][0] + 0.03, _BANANA_OUTER[0][1] - 0.02, 0.07, 0.07),
    ],
    "horseshoe": [
        ring(MAIN, 0, -0.1, 0.6, 0.3, start=130, end=410),
        *[ellipse(DARK, x, y, 0.05, 0.05) for x, y in ((-0.6, -0.2), (0.6, -0.2), (-0.35, -0.55), (0.35, -0.55))],
    ],
    "candle": [
        rectangle(MAIN, -0.28, -0.25, 0.28, 0.9),
        line(DARK, 0.05, (0, -0.25), (0, -0.45)),
        polygon(ACCENT, (0, -1), (0.17, -0.55), (0, -0.36), (-0.17, -0.55)),
        polygon(WHITE, (-0.28, -0.25), (-0.1, -0.25), (-0.16, 0.2)),
    ],
    "rocket": [
        polygon(ACCENT, (-0.3, 0.3), (-0.65, 0.85), (-0.3, 0.7)),
        polygon(ACCENT, (0.3, 0.3), (0.65, 0.85), (0.3, 0.7)),
        polygon(MAIN, (0, -1), (0.25, -0.6), (0.32, 0), (0.28, 0.7), (-0.28, 0.7), (-0.32, 0), (-0.25, -0.6)),
        ellipse(WHITE, 0, -0.25, 0.15, 0.15),
        polygon(WOOD, (-0.18, 0.7), (0.18, 0.7), (0, 1)),
    ],
    "fox": [
        polygon(MAIN, (-0.85, -0.2), (-0.75, -0.95), (-0.2, -0.5)),
        polygon(MAIN, (0.85, -0.2), (0.75, -0.95), (0.2, -0.5)),
        polygon(MAIN, (-0.85, -0.3), (-0.2, -0.55), (0.2, -0.55), (0.85, -0.3), (0, 0.85)),
        polygon(WHITE, (-0.7, -0.05), (-0.15, 0.1), (0, 0.85)),
        polygon(WHITE, (0.7, -0.05), (0.15, 0.1), (0, 0.85)),
        ellipse(DARK, -0.28, -0.15, 0.07, 0.07),
        ellipse(DARK, 0.28, -0.15, 0.07, 0.07),
        ellipse(DARK, 0, 0.78, 0.1, 0.1),
    ],
    "owl": [
        polygon(MAIN, (-0.6, -0.4), (-0.6, -0.9), (-0.2, -0.6)),
        polygon(MAIN, (0.6, -0.4), (0.6, -0.9), (0.2, -0.6)),
        ellipse(MAIN, 0, 0.1, 0.65, 0.8),
        ellipse(WHITE, -0.27, -0.2, 0.26, 0.26),
        ellipse(WHITE, 0.27, -0.2, 0.26, 0.26),
        ellipse(DARK, -0.27, -0.2, 0.12, 0.12),
        ellipse(DARK, 0.27, -0.2, 0.12, 0.12),
        polygon(ACCENT, (-0.1, 0), (0.1, 0), (0, 0.22)),
        ellipse(ACCENT, 0, 0.5, 0.35, 0.28),
    ],
    "pumpkin": [
        ellipse(MAIN, -0.5, 0.2, 0.38, 0.5),
        ellipse(MAIN, 0.5, 0.2, 0.38, 0.5),
        ellipse(MAIN, 0, 0.2, 0.4, 0.56),
        line(DARK, 0.05, (-0.2, -0.25), (-0.24, 0.2), (-0.2, 0.65)),
        line(DARK, 0.05, (0.2, -0.25), (0.24, 0.2), (0.2, 0.65)),
        rectangle(WOOD, -0.09, -0.65, 0.09, -0.3),
    ],
    "cherry": [
        ellipse(MAIN, -0.42, 0.4, 0.38, 0.38),
        ellipse(MAIN, 0.42, 0.45, 0.38, 0.38),
        line(DARK, 0.06, (-0.42, 0.1), (0.1, -0.8), (0.42, 0.15)),
        ellipse(ACCENT, 0.35, -0.72, 0.28, 0.11, rotation=-10),
    ],
}
"""The look-alikes that always look the same; `compass` and `wheel` have parts that turn."""


def _star_point(index: int) -> Point:
    """Corners 0 to 9 of a five-pointed star, tips and notches in turn."""
    radius = 0.9 if index % 2 == 0 else 0.4
    angle = index * math.pi / 5
    return radius * math.sin(angle), -radius * math.cos(angle)


FILLER_SHAPES: Final[dict[str, Shape]] = {
    "cactus": [
        rectangle(MAIN, -0.18, -0.8, 0.18, 0.9),
        ellipse(MAIN, 0, -0.8, 0.18, 0.15),
        line(MAIN, 0.22, (-0.18, 0.3), (-0.6, 0.3), (-0.6, -0.2)),
        line(MAIN, 0.22, (0.18, 0.05), (0.6, 0.05), (0.6, -0.45)),
    ],
    "tent": [
        polygon(MAIN, (-0.95, 0.7), (0, -0.7), (0.95, 0.7)),
        polygon(DARK, (-0.25, 0.7), (0, -0.1), (0.25, 0.7)),
    ],
    "snowman": [
        ellipse(WHITE, 0, 0.45, 0.5, 0.45),
        ellipse(WHITE, 0, -0.25, 0.34, 0.32),
        ellipse(DARK, -0.1, -0.3, 0.05, 0.05),
        ellipse(DARK, 0.1, -0.3, 0.05, 0.05),
        rectangle(MAIN, -0.3, -0.62, 0.3, -0.52),
        rectangle(MAIN, -0.2, -0.95, 0.2, -0.6),
    ],
    "key": [
        ring(MAIN, -0.55, 0, 0.3, 0.16),
        line(MAIN, 0.15, (-0.25, 0), (0.9, 0)),
        line(MAIN, 0.13, (0.85, 0), (0.85, 0.35)),
        line(MAIN, 0.13, (0.55, 0), (0.55, 0.28)),
    ],
    "star": [polygon(MAIN, *[_star_point(index) for index in range(10)])],
    "heart": [
        ellipse(MAIN, -0.38, -0.25, 0.42, 0.42),
        ellipse(MAIN, 0.38, -0.25, 0.42, 0.42),
        polygon(MAIN, (-0.76, -0.08), (0.76, -0.08), (0, 0.85)),
    ],
    "ladder": [
        line(MAIN, 0.12, (-0.4, -0.95), (-0.4, 0.95)),
        line(MAIN, 0.12, (0.4, -0.95), (0.4, 0.95)),
        *[line(MAIN, 0.1, (-0.4, y), (0.4, y)) for y in (-0.7, -0.35, 0, 0.35, 0.7)],
    ],
    "chair": [
        rectangle(MAIN, -0.5, -0.9, -0.32, 0.9),
        rectangle(MAIN, -0.5, 0.1, 0.5, 0.28),
        rectangle(MAIN, 0.33, 0.1, 0.5, 0.9),
        rectangle(ACCENT, -0.32, -0.75, -0.25, 0.1),
    ],
}


FIXED_SHAPES: Final[dict[str, Shape]] = KNOWN_SHAPES | LOOK_ALIKE_SHAPES | FILLER_SHAPES
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

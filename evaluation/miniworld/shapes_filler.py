"""The shapes of the fillers: things that look like no known class."""

import math
from typing import Final

from evaluation.miniworld.primitives import (
    ACCENT,
    DARK,
    MAIN,
    WHITE,
    Point,
    Shape,
    ellipse,
    line,
    polygon,
    rectangle,
    ring,
)


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

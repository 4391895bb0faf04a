"""The shapes of the 16 known classes, in the drawing vocabulary of `primitives`."""

import math
from typing import Final

from evaluation.miniworld.primitives import (
    ACCENT,
    DARK,
    MAIN,
    WHITE,
    WOOD,
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

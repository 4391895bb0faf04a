"""The ten contexts of the mini-world as painted backgrounds.

Each painter returns a picture of CANVAS x CANVAS pixels: a base of smooth colour, shifted as a whole by a random tint,
and a few details that make the place recognisable at 64 x 64 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

CANVAS: Final = 128
"""Side of the square that everything is painted on, in pixels: twice the side of a finished image."""
Pixels: TypeAlias = NDArray[np.float32]
Tint: TypeAlias = NDArray[np.float64]
"""A shift of the whole background, (3,), in grey levels."""
_ROWS, _COLUMNS = np.mgrid[0:CANVAS, 0:CANVAS].astype(np.float32) / CANVAS
# Standard deviation of the tint, in grey levels; snow, night and lava vary less, or they would not be told apart.
_TINT: Final = 10.0


def paint_background(context: str, rng: np.random.Generator) -> Image.Image:
    """A picture of a context, RGB, CANVAS x CANVAS. Raises KeyError for a name that is no context."""
    return _PAINTERS[context](rng, rng.normal(0, _TINT, 3))


def to_picture(pixels: NDArray[np.floating]) -> Image.Image:
    """Float pixels (height, width, 3), 0 to 255, as a picture; what is out of range is clipped."""
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _sky(rng: np.random.Generator, tint: Tint) -> Image.Image:
    picture = to_picture(_gradient((110, 170, 235), (190, 220, 250), tint))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(2, 5)):
        x, y = rng.uniform(0, CANVAS, 2)
        for _ in range(3):
            _blob(pen, x + rng.uniform(-14, 14), y + rng.uniform(-4, 4), rng.uniform(6, 12), (250, 250, 252), 0.6)
    return picture


def _sea(rng: np.random.Generator, tint: Tint) -> Image.Image:
    water = _gradient((60, 130, 190), (15, 60, 120), tint)
    bend_phase, wave_phase = rng.uniform(0, 6, 2)
    wave_count, bend_count = rng.uniform(7, 11), rng.uniform(1, 3)
    bend = 2 * np.sin(2 * np.pi * _COLUMNS * bend_count + bend_phase)
    waves = np.sin(2 * np.pi * _ROWS * wave_count + bend + wave_phase)
    return to_picture(water + 18 * waves[..., None])


def _meadow(rng: np.random.Generator, tint: Tint) -> Image.Image:
    sky = _gradient((150, 205, 240), (190, 225, 245), tint)
    horizon = rng.uniform(0.3, 0.5) + 0.04 * np.sin(6 * _COLUMNS + rng.uniform(0, 6))
    grass = np.array((95, 170, 70)) + tint + 25 * (rng.random((CANVAS, CANVAS, 1)) - 0.5)
    picture = to_picture(_below(horizon, grass, sky))
    pen = ImageDraw.Draw(picture)
    for _ in range(25):
        x, y = rng.uniform(0, CANVAS), rng.uniform(0.5 * CANVAS, CANVAS)
        pen.line((x, y, x + rng.uniform(-2, 2), y - rng.uniform(3, 7)), fill=(50, 120, 40), width=1)
    return picture


def _desert(rng: np.random.Generator, tint: Tint) -> Image.Image:
    haze = _gradient((240, 210, 150), (245, 225, 180), tint)
    dunes = rng.uniform(0.35, 0.55) + 0.1 * np.sin(4 * _COLUMNS + rng.uniform(0, 6))
    picture = to_picture(_below(dunes, np.array((225, 180, 110)) + tint, haze))
    pen = ImageDraw.Draw(picture)
    for _ in range(4):
        x, y = rng.uniform(0, CANVAS), rng.uniform(0.6 * CANVAS, CANVAS)
        pen.arc((x - 20, y - 5, x + 20, y + 5), 180, 360, fill=(195, 150, 85), width=2)
    return picture


def _snow(rng: np.random.Generator, tint: Tint) -> Image.Image:
    picture = to_picture(_gradient((200, 215, 230), (245, 248, 252), 0.4 * tint))
    pen = ImageDraw.Draw(picture)
    for _ in range(35):
        (x, y), radius = rng.uniform(0, CANVAS, 2), rng.uniform(0.7, 2.2)
        _blob(pen, x, y, radius, (255, 255, 255) if rng.random() < 0.5 else (170, 190, 215))
    return picture


def _night(rng: np.random.Generator, tint: Tint) -> Image.Image:
    picture = to_picture(_gradient((8, 10, 35), (30, 30, 70), 0.4 * tint))
    pen = ImageDraw.Draw(picture)
    for _ in range(22):
        (x, y), radius = rng.uniform(0, CANVAS, 2), rng.uniform(0.6, 1.6)
        _blob(pen, x, y, radius, (250, 250, 210))
    return picture


def _road(rng: np.random.Generator, tint: Tint) -> Image.Image:
    haze = _gradient((170, 175, 180), (150, 155, 160), tint)
    horizon = np.full((CANVAS, CANVAS), rng.uniform(0.4, 0.55))
    picture = to_picture(_below(horizon, np.array((85, 85, 90)) + tint, haze))
    pen = ImageDraw.Draw(picture)
    for index in range(4):
        x = index * CANVAS / 3.5 + rng.uniform(-4, 4)
        pen.rectangle((x, 0.76 * CANVAS, x + 16, 0.79 * CANVAS), fill=(235, 225, 140))
    for _ in range(3):
        x, width, height = rng.uniform(0, CANVAS), rng.uniform(10, 22), rng.uniform(15, 40)
        pen.rectangle((x, 0.42 * CANVAS - height, x + width, 0.44 * CANVAS), fill=_random_colour(rng, 110, 190))
    return picture


def _forest(rng: np.random.Generator, tint: Tint) -> Image.Image:
    picture = to_picture(_gradient((35, 75, 40), (60, 85, 45), tint))
    pen = ImageDraw.Draw(picture)
    for _ in range(6):
        x, width = rng.uniform(0, CANVAS), rng.uniform(3, 8)
        pen.rectangle((x, 0, x + width, CANVAS), fill=(60, 42, 28))
    for _ in range(10):
        x, y, radius = rng.uniform(0, CANVAS), rng.uniform(0, 0.4 * CANVAS), rng.uniform(6, 14)
        _blob(pen, x, y, radius, (25, int(rng.uniform(70, 110)), 30))
    return picture


def _kitchen(rng: np.random.Generator, tint: Tint) -> Image.Image:
    wall = np.broadcast_to(np.array((225, 215, 200)) + tint, (CANVAS, CANVAS, 3)).copy()
    tiles = rng.integers(5, 8)
    joints = ((_COLUMNS * tiles) % 1 < 0.06) | ((_ROWS * tiles) % 1 < 0.06)
    wall[joints] -= 30
    table_edge = np.full((CANVAS, CANVAS), rng.uniform(0.6, 0.75))
    return to_picture(_below(table_edge, np.array((165, 115, 70)) + tint, wall))


def _lava(rng: np.random.Generator, tint: Tint) -> Image.Image:
    picture = to_picture(_gradient((60, 15, 10), (110, 25, 10), 0.5 * tint))
    pen = ImageDraw.Draw(picture)
    for _ in range(5):
        x, y = rng.uniform(0, CANVAS, 2)
        stream = [(x, y)]
        for _ in range(5):
            x, y = x + rng.uniform(-16, 16), y + rng.uniform(2, 14)
            stream.append((x, y))
        pen.line(stream, fill=(250, int(rng.uniform(90, 180)), 20), width=int(rng.uniform(2, 6)))
    return picture


_PAINTERS: Final[dict[str, Callable[[np.random.Generator, Tint], Image.Image]]] = {
    painter.__name__[1:]: painter
    for painter in (_sky, _sea, _meadow, _desert, _snow, _night, _road, _forest, _kitchen, _lava)
}


def _gradient(top: tuple[int, int, int], bottom: tuple[int, int, int], tint: Tint) -> NDArray[np.float64]:
    """Colour that runs from top to bottom, (CANVAS, CANVAS, 3)."""
    share = _ROWS[..., None].astype(np.float64)
    colour: NDArray[np.float64] = np.array(top) * (1 - share) + np.array(bottom) * share + tint
    return colour


def _below(edge: NDArray[np.floating], ground: NDArray[np.float64], above: NDArray[np.float64]) -> NDArray[np.float64]:
    """`ground` under an edge given as a height per pixel, (CANVAS, CANVAS), 0 at the top to 1; `above` elsewhere."""
    return np.where((edge < _ROWS)[..., None], ground, above)


def _blob(
    pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: tuple[int, int, int], flatness: float = 1.0
) -> None:
    pen.ellipse((x - radius, y - radius * flatness, x + radius, y + radius * flatness), fill=colour)


def _random_colour(rng: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in rng.integers(low, high, 3))
    return red, green, blue

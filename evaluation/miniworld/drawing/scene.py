"""Draws images of the mini-world: a category in a context, or one of the far things that show no category at all.

An image is painted on a canvas of twice its size in three layers (background, clutter, object), halved, and then varied
in contrast, brightness and noise. Every random choice comes from the generator that is passed in, so an image is a
function of that generator's state.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from evaluation.miniworld.drawing.backgrounds import CANVAS, Pixels, paint_background, to_picture
from evaluation.miniworld.drawing.primitives import Point, Role
from evaluation.miniworld.drawing.shapes import shape_of
from evaluation.miniworld.vocabulary import COLOURS, TEXTURES, Scene, pick, sample_scene

GENERATOR_VERSION: Final = 1
"""Goes up with every change to what is drawn, so that worlds of different versions never mix in one folder."""
IMAGE_SIZE: Final = 64
"""Side of a finished image in pixels."""
_ROWS, _COLUMNS = np.mgrid[0:CANVAS, 0:CANVAS].astype(np.float32) / CANVAS
_FIXED_PAINT: Final[dict[Role, tuple[int, int, int]]] = {
    Role.DARK: (30, 28, 32),
    Role.WHITE: (238, 238, 235),
    Role.WOOD: (120, 80, 50),
}
# Spread of paint colours, in grey levels: the main paint varies more than the others.
_MAIN_SPREAD: Final = 12.0
_PART_SPREAD: Final = 8.0
# Share of hard images in which clutter also covers the object.
_OCCLUDED: Final = 0.35


def render(category: str, context: str, rng: np.random.Generator, hard: bool = True) -> Image.Image:
    """An image of a category in a context, in a random colour and texture; RGB, 64 x 64.

    `hard` images are smaller, more crooked, noisier and more cluttered. All images of a world are hard; the easier ones
    only help training. Raises KeyError for a name that is no category or no context.
    """
    return draw_scene(sample_scene(category, context, rng), rng, hard)


def draw_scene(scene: Scene, rng: np.random.Generator, hard: bool = True) -> Image.Image:
    """An image of a scene, RGB, 64 x 64."""
    picture = paint_background(scene.context, rng)
    _add_clutter(picture, rng, int(rng.integers(0, 7 if hard else 4)))
    pixels = _paint_object(picture, scene, rng, hard)
    if hard and rng.random() < _OCCLUDED:
        picture = to_picture(pixels)
        _add_clutter(picture, rng, int(rng.integers(1, 3)))
        pixels = np.asarray(picture).astype(np.float32)
    return _finish(pixels, rng, hard)


def empty_scene(context: str, rng: np.random.Generator) -> Image.Image:
    """A context with clutter and no object, RGB, 64 x 64."""
    picture = paint_background(context, rng)
    _add_clutter(picture, rng, 6)
    return _finish(np.asarray(picture).astype(np.float32), rng, hard=True)


def texture_only(rng: np.random.Generator) -> Image.Image:
    """A texture that fills the image, RGB, 64 x 64."""
    colour, texture = pick(tuple(COLOURS), rng), pick(TEXTURES[1:], rng)
    return _finish(_textured(colour, texture, rng, rng.uniform(0, 3)), rng, hard=True)


def coloured_noise(rng: np.random.Generator) -> Image.Image:
    """Coarse squares of random colour, RGB, 64 x 64."""
    squares, side = 8, CANVAS // 8
    noise = rng.random((squares, squares, 3)).repeat(side, 0).repeat(side, 1) * 255
    return _finish(noise.astype(np.float32), rng, hard=True)


def _paint_object(background: Image.Image, scene: Scene, rng: np.random.Generator, hard: bool) -> Pixels:
    """The object painted over a background; (CANVAS, CANVAS, 3)."""
    # First the roles, as a picture of small whole numbers, and then each role in its paint: textures need the mask.
    roles_picture = Image.new("L", (CANVAS, CANVAS), 0)
    rotation = _draw_roles(roles_picture, scene.category, rng, hard)
    roles = np.asarray(roles_picture)
    pixels = np.asarray(background).astype(np.float32)
    main = _textured(scene.colour, scene.texture, rng, rotation)
    pixels = np.where((roles == Role.MAIN)[..., None], main, pixels)
    accent = COLOURS[pick(tuple(COLOURS), rng)]
    for role, paint in ({Role.ACCENT: accent} | _FIXED_PAINT).items():
        mask = roles == role
        if mask.any():
            pixels[mask] = np.array(paint) + rng.normal(0, _PART_SPREAD, 3)
    return pixels


def _draw_roles(picture: Image.Image, category: str, rng: np.random.Generator, hard: bool) -> float:
    """Draws a category's shape into a grey picture, each part in the number of its role; returns its rotation.

    Where, how large, how turned, mirrored, stretched and slanted the shape is, is random, and so is, a little, every
    single corner. The rotation is in radians.
    """
    scale = rng.uniform(0.40, 0.78) * CANVAS / 2 * (0.9 if hard else 1.0)
    rotation = math.radians(rng.normal(0, 18 if hard else 12))
    centre_x = CANVAS * (0.5 + rng.uniform(-0.14, 0.14))
    centre_y = CANVAS * (0.5 + rng.uniform(-0.12, 0.14))
    mirror = -1 if rng.random() < 0.5 else 1
    stretch = rng.uniform(0.85, 1.18)
    slant = rng.normal(0, 0.07)
    wobble = 0.045 if hard else 0.025
    cosine, sine = math.cos(rotation), math.sin(rotation)

    def placed(point: Point) -> Point:
        x = mirror * point[0] * stretch + slant * point[1] + rng.normal(0, wobble)
        y = point[1] / stretch + rng.normal(0, wobble)
        return centre_x + scale * (x * cosine - y * sine), centre_y + scale * (x * sine + y * cosine)

    pen = ImageDraw.Draw(picture)
    first_turn, second_turn = rng.random(2)
    for part in shape_of(category, float(first_turn), float(second_turn)):
        points = [placed(point) for point in part.points]
        if part.width is None:
            pen.polygon(points, fill=int(part.role))
        else:
            pen.line(points, fill=int(part.role), width=max(1, round(part.width * scale)), joint="curve")
    return rotation


def _textured(colour: str, texture: str, rng: np.random.Generator, angle: float) -> Pixels:
    """A colour in a texture turned by `angle` radians; (CANVAS, CANVAS, 3)."""
    paint = np.array(COLOURS[colour], np.float32) + rng.normal(0, _MAIN_SPREAD, 3).astype(np.float32)
    if texture == "plain":
        return np.broadcast_to(paint, (CANVAS, CANVAS, 3))
    # Dark on light paint and light on dark paint.
    second_paint = paint * 0.45 if paint.mean() > 110 else paint * 0.5 + 130
    return np.where(_pattern(texture, rng.uniform(9, 14), angle)[..., None], second_paint, paint).astype(np.float32)


def _pattern(texture: str, frequency: float, angle: float) -> NDArray[np.bool_]:
    """Where a texture shows its second paint; (CANVAS, CANVAS). `frequency` is in periods per canvas."""
    along = (_COLUMNS * math.cos(angle) + _ROWS * math.sin(angle)) * frequency
    across = (-_COLUMNS * math.sin(angle) + _ROWS * math.cos(angle)) * frequency
    if texture == "striped":
        return np.asarray(along % 1 < 0.45)
    if texture == "dotted":
        return np.asarray((along % 1 - 0.5) ** 2 + (across % 1 - 0.5) ** 2 < 0.09)
    return np.asarray((np.floor(along) + np.floor(across)) % 2 < 1)


def _add_clutter(picture: Image.Image, rng: np.random.Generator, count: int) -> None:
    """Small discs, bars and strokes of any colour, anywhere."""
    pen = ImageDraw.Draw(picture)
    for _ in range(count):
        (x, y), size = rng.uniform(0, CANVAS, 2), rng.uniform(2, 9)
        red, green, blue = (int(value) for value in rng.integers(0, 255, 3))
        kind = int(rng.integers(3))
        if kind == 0:
            pen.ellipse((x - size, y - size, x + size, y + size), fill=(red, green, blue))
        elif kind == 1:
            pen.rectangle((x - size, y - size * 0.6, x + size, y + size * 0.6), fill=(red, green, blue))
        else:
            end_x, end_y = x + 3 * size * rng.normal(), y + 3 * size * rng.normal()
            pen.line((x, y, end_x, end_y), fill=(red, green, blue), width=int(1 + size / 4))


def _finish(pixels: Pixels, rng: np.random.Generator, hard: bool) -> Image.Image:
    """Halves the canvas and varies contrast, brightness and noise."""
    factor = CANVAS // IMAGE_SIZE
    small = pixels.reshape(IMAGE_SIZE, factor, IMAGE_SIZE, factor, 3).mean((1, 3))
    varied = (small - 128) * rng.uniform(0.7, 1.2) + 128 + rng.normal(0, 14)
    noise = rng.normal(0, rng.uniform(2, 18 if hard else 10), varied.shape)
    return to_picture(varied + noise)

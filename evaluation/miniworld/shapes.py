"""One place to ask for the shape of any category of the mini-world."""

from collections.abc import Callable
from typing import Final

from evaluation.miniworld.primitives import Shape
from evaluation.miniworld.shapes_filler import FILLER_SHAPES
from evaluation.miniworld.shapes_known import KNOWN_SHAPES, clock
from evaluation.miniworld.shapes_look_alike import LOOK_ALIKE_SHAPES, compass, wheel

FIXED_SHAPES: Final[dict[str, Shape]] = KNOWN_SHAPES | LOOK_ALIKE_SHAPES | FILLER_SHAPES

TURNING_SHAPES: Final[dict[str, Callable[[float, float], Shape]]] = {
    "clock": clock,
    "compass": compass,
    "wheel": wheel,
}


def shape_of(category: str, first_turn: float, second_turn: float) -> Shape:
    """The shape of a category. The turns, from 0 to 1, move the parts of a shape that move; most have none.

    Raises:
        KeyError: for a name that is no category.
    """
    turning = TURNING_SHAPES.get(category)
    return turning(first_turn, second_turn) if turning else FIXED_SHAPES[category]

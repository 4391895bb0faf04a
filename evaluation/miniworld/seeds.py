"""Random generators of the mini-world: one per image, each a pure function of where the image stands.

Training images and worlds draw from different domains. The domain is the first word of the seed, so no training image
can ever equal an image of any world, whatever the seeds.
"""

from enum import IntEnum

import numpy as np

_WORD_LIMIT = 2**32


class Domain(IntEnum):
    """What an image is drawn for."""

    TRAINING = 1
    WORLD = 2


def image_generator(domain: Domain, seed: int, split: int, image_set: int, index: int) -> np.random.Generator:
    """The generator of one image.

    The seed always has five words: numpy pads shorter seeds with zeros, so (1, 2) and (1, 2, 0) would be the same.

    Raises:
        ValueError: where a number is not in 0 .. 2**32 - 1 (numpy would spill a larger one into the next word).
    """
    words = [int(domain), seed, split, image_set, index]
    if not all(0 <= word < _WORD_LIMIT for word in words):
        raise ValueError(f"seeds and indices must lie in 0 .. 2**32 - 1, not {words[1:]}")
    return np.random.default_rng(np.random.SeedSequence(words))

"""Images made of others: always the same, of what they are said to be made of, and lying nowhere."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from immuno_core.images import HOW, MadeImage, containing_files, made_image, open_image
from immuno_core.images.composites import compose, foreground

SIDE = 32


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    return Image.new("RGB", size, colour)


def thing(colour: tuple[int, int, int], background: tuple[int, int, int]) -> Image.Image:
    """A square in the middle: a quarter of the image."""
    image = plain(background)
    image.paste(plain(colour, (SIDE // 2, SIDE // 2)), (SIDE // 4, SIDE // 4))
    return image


def share(image: Image.Image, colour: tuple[int, int, int]) -> float:
    return float((np.abs(np.asarray(image, np.int64) - colour).max(axis=2) < 30).mean())


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    paths = tmp_path / "a.png", tmp_path / "b.png"
    for path, image in zip(paths, (thing((250, 0, 0), (0, 0, 0)), thing((0, 0, 250), (0, 250, 0))), strict=True):
        image.save(path)
    return str(paths[0]), str(paths[1])


@pytest.mark.parametrize("how", HOW)
def test_the_seed_decides_and_nothing_else(how: str, pair: tuple[str, str]) -> None:
    made = MadeImage(how, pair, SIDE, 7)  # type: ignore[arg-type]
    image = Image.open(io.BytesIO(made.png()))
    assert (image.size, image.mode) == ((SIDE, SIDE), "RGB")
    assert made.png() == made.png() == open_image(str(made)).read()
    if how != "moved":  # which draws nothing
        assert made._replace(seed=8).png() != made.png()


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_puts_a_third_to_two_thirds_of_the_second_over_the_first(seed: int) -> None:
    made = compose("cutmix", plain((250, 0, 0)), plain((0, 0, 250)), side=SIDE, seed=seed)
    assert 0.28 < share(made, (0, 0, 250)) < 0.62
    assert share(made, (0, 0, 250)) + share(made, (250, 0, 0)) == 1


def test_shuffled_has_the_same_pixels_in_other_places() -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    made = np.asarray(compose("shuffled", noise, noise, side=SIDE, seed=1))
    assert not np.array_equal(made, noise)
    assert np.array_equal(np.sort(made.reshape(-1, 3), axis=0), np.sort(np.asarray(noise).reshape(-1, 3), axis=0))


def test_moved_is_the_thing_of_the_first_before_the_background_of_the_second() -> None:
    made = compose("moved", thing((250, 0, 0), (0, 0, 0)), thing((0, 0, 250), (0, 250, 0)), side=SIDE, seed=0)
    assert share(made, (250, 0, 0)) == pytest.approx(0.25, abs=0.05)
    assert share(made, (0, 250, 0)) == pytest.approx(0.7, abs=0.06)
    assert share(made, (0, 0, 250)) == 0  # its own thing is gone


def test_where_nothing_stands_before_the_background_the_middle_is_the_foreground() -> None:
    mask = foreground(np.asarray(plain((9, 9, 9)), np.float32))
    assert mask[SIDE // 2, SIDE // 2]
    assert not mask[0].any()
    assert 0.3 < mask.mean() < 0.4
    assert foreground(np.asarray(thing((250, 0, 0), (0, 0, 0)), np.float32)).mean() == 0.25


def test_a_path_that_is_no_recipe_is_a_file_like_any_other(pair: tuple[str, str]) -> None:
    made = MadeImage("cutmix", pair, SIDE, 0)
    assert made_image(str(made)) == made
    assert list(containing_files(str(made))) == list(pair)
    nested = "made:" + json.dumps(made._asdict() | {"of": [str(made), pair[0]]})
    wrong = [made._asdict() | change for change in ({"how": "eval"}, {"side": 10**6}, {"of": [pair[0]]}, {"x": 1})]
    for path in (pair[0], "made:", "made:{}", "made:[1]", nested, *("made:" + json.dumps(one) for one in wrong)):
        assert made_image(path) is None
        assert list(containing_files(path)) == [path]

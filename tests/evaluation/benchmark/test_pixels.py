"""The control `pixels`: as many images made of fit images, kind for kind, and what either costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.benchmark.arms import Arms
from evaluation.benchmark.pixels import Costs, costs, drawings
from evaluation.scores.registry import make_score
from evaluation.space import Bank, Space
from immuno_core.errors import SetupError
from immuno_core.features import FeatureSet
from immuno_core.images import made_image
from immuno_core.records import EncoderInfo, ImageSet
from tests.evaluation.synthetic import unit

from .test_arms import CLASSES, DIM, HashEmbedder, bank, space, vectors_of

PLAIN = make_score("calibrated")


class ImageEmbedder(HashEmbedder):
    """Every path has a direction of its own; of the set that it is asked for it cannot read the first."""

    def __init__(self, unreadable: int = 0) -> None:
        super().__init__()
        self.unreadable = unreadable

    @property
    def encoder(self) -> EncoderInfo:
        return replace(super().encoder, image_size=16)

    def embed_images(self, images: ImageSet) -> FeatureSet:
        some = images.samples[self.unreadable :]
        paths, ids, labels = (tuple(getattr(one, key) for one in some) for key in ("path", "id", "label"))
        return FeatureSet(images.name, images.split, vectors_of(paths), ids, labels, paths)


@pytest.fixture
def with_fit(tmp_path: Path) -> Space:
    """A space of 20 antibodies with three fit images of each class."""
    labels = np.repeat(np.arange(len(CLASSES)), 3)
    paths = [str(tmp_path / f"{i}.png") for i in range(len(labels))]
    for i, path in enumerate(paths):
        Image.new("RGB", (20, 20), (20 * i, 0, 0)).save(path)
    names = tuple(CLASSES[k] for k in labels)
    features = unit(np.random.default_rng(0).normal(size=(len(labels), DIM)))
    return replace(space(), fit=FeatureSet("id", "fit", features, names, names, tuple(paths)), fit_labels=labels)


def test_each_antibody_has_an_image_of_its_kind_in_its_place(with_fit: Space) -> None:
    fit = with_fit.fit
    assert fit is not None
    found = Arms(with_fit, ImageEmbedder()).space("pixels", PLAIN).bank
    assert (found.kinds, found.guards) == (bank().kinds, bank().guards)
    assert found.ids == tuple(f"pixels:{j}" for j in range(20))
    made = [made_image(one.path) for one in drawings(with_fit, side=16, seed=0).samples]
    assert np.array_equal(found.vectors, vectors_of([str(one) for one in made]))
    class_of = dict(zip(fit.paths, fit.label_names, strict=True))
    for antibody, one in zip(bank().antibodies, made, strict=True):
        assert one is not None
        assert one.side == 16
        assert (one.how == "moved") == (antibody.kind == "contextual")
        first, second = (class_of[path] for path in one.of)
        assert first != second
        assert antibody.guards in (first, "")
    assert {one.how for one in made if one} == {"cutmix", "shuffled", "moved"}


def test_the_seed_decides(with_fit: Space) -> None:
    assert drawings(with_fit, side=16, seed=3) == drawings(with_fit, side=16, seed=3)
    assert drawings(with_fit, side=16, seed=3).samples != drawings(with_fit, side=16, seed=4).samples


def test_an_image_that_cannot_be_made_leaves_its_place_empty(with_fit: Space) -> None:
    found = Arms(with_fit, ImageEmbedder(unreadable=2)).space("pixels", PLAIN).bank
    assert found.ids == tuple(f"pixels:{j}" for j in range(2, 20))
    assert found.guards == bank().guards[2:]


def test_without_the_fit_images_themselves_it_says_so(with_fit: Space) -> None:
    fit = with_fit.fit
    assert fit is not None
    rows = replace(fit, paths=tuple(f"/x/fit.npz::{i}" for i in range(len(fit))))
    for base, why in ((space(), "give \\[data.fit\\]"), (replace(with_fit, fit=rows), "came as embeddings, without")):
        with pytest.raises(SetupError, match=why):
            Arms(base, ImageEmbedder()).space("pixels", PLAIN)
    with pytest.raises(SetupError, match="as large as the bank"):
        Arms(replace(with_fit, bank=Bank.empty(DIM)), ImageEmbedder()).space("pixels", PLAIN)


def test_what_an_antibody_costs_is_the_mean_over_some_of_them(with_fit: Space) -> None:
    def timed(texts: Sequence[str], paths: Sequence[str]) -> tuple[float, float]:
        assert all(made_image(path) for path in paths)
        return 0.001 * len(texts), 0.5 * len(paths)

    many = replace(with_fit, bank=bank(200))
    found = costs(many, ["four", "twelve bytes"] * 100, timed, side=16, seed=0, tokens=31.5)
    assert (found.texts.antibodies, found.pixels.antibodies) == (200, 200)
    assert (found.texts.seconds, found.pixels.seconds) == (pytest.approx(0.001), pytest.approx(0.5))
    assert (found.texts.passes, found.texts.tower, found.pixels.passes, found.pixels.tower) == (1, "text", 1, "image")
    assert (found.texts.bytes, found.texts.tokens, found.pixels.tokens) == (8, 31.5, None)
    made = [made_image(one.path) for one in drawings(many, side=16, seed=0).samples[:64]]
    assert found.pixels.bytes == np.mean([len(one.png()) for one in made if one])
    assert Costs.model_validate(found.model_dump()) == found
